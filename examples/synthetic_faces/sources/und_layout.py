"""Where the files of the UND collection lie, by convention or by what the command line says."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .und_search import CSVS, default, given, missing, places

TRAIN, LARGE, TESTS = CSVS / "original.csv", CSVS / "large_dataset_7x.csv", CSVS / "gan_test_sets"
MAPS, MASKS = Path("train/heatmaps"), Path("train/masks")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds where the files are, for data in files."""
    group = parser.add_argument_group(
        "data in files (--data und)",
        "The layout of the UND collection of CYBORG, WACV 2023: tables without a header, of lines such as "
        "train,Synthetic,/train/original_data/1_fake/p1_100_fake.png, whose paths start at the root. What is not given "
        "is looked for below the root, tables also beside it; a given path may start at the root or at the current "
        "folder.",
    )
    group.add_argument("--root", metavar="DIR", help="folder of the images")
    group.add_argument("--train-csv", metavar="FILE", help=f"its split 'train' is trained on (default: {TRAIN})")
    group.add_argument("--validation-csv", metavar="FILE", help="its other splits validate (default: the former)")
    group.add_argument("--large-csv", metavar="FILE", help=f"for arms with data: 7 (default: {LARGE})")
    group.add_argument(
        "--test-csv", nargs="+", metavar="NAME=FILE", help=f"one table per source and generator (default: {TESTS}/*)"
    )
    group.add_argument("--maps", metavar="DIR", help=f"human maps, under the images' file names (default: {MAPS})")
    group.add_argument(
        "--masks", metavar="DIR", help=f"with folders 'parts' and 'face', for arms that use them (default: {MASKS})"
    )
    group.add_argument(
        "--training-sets", nargs="+", default=[], metavar="NAME", help="test tables whose generator is trained on"
    )
    group.add_argument("--stretch-maps", action="store_true", help="over images of another aspect ratio")
    group.add_argument("--skip-unreadable", action="store_true", help="leave out images and maps that cannot be read")


@dataclass(frozen=True)
class Layout:
    """The files of a collection, as absolute paths.

    Attributes:
        root: Where the paths in tables start.
        train: The table whose split "train" is trained on.
        validation: The table whose other splits validate.
        tests: Test tables by name.
        large: The table of the larger training set, or None.
        maps: The folder of human maps, or None.
        masks: The folder of the folders "parts" and "face", or None.
        training_sets: Names of the test tables of generators that are trained on.
        stretch_maps: Whether maps are stretched over images of another aspect ratio.
        skip_unreadable: Whether rows that cannot be read are left out.
    """

    root: str
    train: str
    validation: str
    tests: dict[str, str]
    large: str | None = None
    maps: str | None = None
    masks: str | None = None
    training_sets: tuple[str, ...] = ()
    stretch_maps: bool = False
    skip_unreadable: bool = False

    @classmethod
    def find(cls, options: argparse.Namespace) -> Layout:
        """Looks for the files.

        Raises:
            ValueError: One is missing; the message says which, where it was looked for and which option names it.
        """
        if options.root is None:
            raise ValueError("--data und needs --root, the folder of the images")
        root = Path(options.root).absolute()
        if not root.is_dir():
            raise ValueError(f"--root {options.root} is not a folder")
        train = given(root, options.train_csv, "--train-csv") or default(root, TRAIN)
        if train is None:
            raise ValueError(missing("table of training images", places(root, TRAIN), "--train-csv"))
        tests = _tests(root, options.test_csv)
        unknown = [name for name in options.training_sets if name not in tests]
        if unknown:
            raise ValueError(f"--training-sets {' '.join(unknown)}: no such test table; there are {', '.join(tests)}")
        return cls(
            root=str(root),
            train=train,
            validation=given(root, options.validation_csv, "--validation-csv") or train,
            tests=tests,
            large=given(root, options.large_csv, "--large-csv") or default(root, LARGE),
            maps=given(root, options.maps, "--maps") or default(root, MAPS),
            masks=given(root, options.masks, "--masks") or default(root, MASKS),
            training_sets=tuple(options.training_sets),
            stretch_maps=options.stretch_maps,
            skip_unreadable=options.skip_unreadable,
        )

    def large_table(self) -> str:
        """The table of the larger training set.

        Raises:
            ValueError: There is none.
        """
        if self.large is None:
            raise ValueError(missing("table of the larger training set", places(Path(self.root), LARGE), "--large-csv"))
        return self.large

    def map_folder(self, kind: str) -> str:
        """The folder of the maps of this kind: masks for "parts" and "face", else human maps.

        Raises:
            ValueError: There is none.
        """
        if kind in ("parts", "face"):
            place = Path(self.root, MASKS) if self.masks is None else Path(self.masks)
            if not (place / kind).is_dir():
                raise ValueError(missing(f"folder of masks for maps: {kind}", [place / kind], "--masks"))
            return str(place / kind)
        if self.maps is None:
            raise ValueError(missing("folder of human maps", [Path(self.root, MAPS)], "--maps"))
        return self.maps

    def describe(self) -> dict[str, Any]:
        """All of it, and what the tables hold, as plain values."""
        tables = sorted({self.train, self.validation, *self.tests.values()} | ({self.large} if self.large else set()))
        digests = {table: hashlib.sha256(Path(table).read_bytes()).hexdigest() for table in tables}
        return {**asdict(self), "training_sets": list(self.training_sets), "sha256": digests}

    @classmethod
    def from_description(cls, data: dict[str, Any]) -> Layout:
        """What :meth:`describe` described."""
        names = cls.__dataclass_fields__
        return cls(**{**{name: data[name] for name in names}, "training_sets": tuple(data["training_sets"])})

    def arguments(self) -> list[str]:
        """What to say on the command line for this layout."""
        words = ["--root", self.root, "--train-csv", self.train, "--validation-csv", self.validation]
        for option, path in (("--large-csv", self.large), ("--maps", self.maps), ("--masks", self.masks)):
            words += [] if path is None else [option, path]
        words += ["--test-csv", *(f"{name}={path}" for name, path in self.tests.items())]
        words += ["--training-sets", *self.training_sets] if self.training_sets else []
        flags = {"--stretch-maps": self.stretch_maps, "--skip-unreadable": self.skip_unreadable}
        return [*words, *(flag for flag, on in flags.items() if on)]


def _tests(root: Path, named: list[str] | None) -> dict[str, str]:
    """The test tables by name: those given as NAME=FILE, or all in the usual folder."""
    if named is None:
        folder = default(root, TESTS)
        tables = sorted(Path(folder).glob("*.csv")) if folder else []
        if not tables:
            raise ValueError(missing("table of test images", [p / "*.csv" for p in places(root, TESTS)], "--test-csv"))
        return {table.stem: str(table) for table in tables}
    tests: dict[str, str] = {}
    for text in named:
        name, equals, path = text.partition("=")
        found = given(root, path, "--test-csv") if equals and name and "/" not in name else None
        if found is None or name in tests:
            raise ValueError(f"--test-csv {text}: expected NAME=FILE, with a different name for each")
        tests[name] = found
    return tests
