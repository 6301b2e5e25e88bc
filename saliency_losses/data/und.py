"""The layout of the CYBORG collection of the University of Notre Dame."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from saliency_losses.data.choosing import rows_of_split
from saliency_losses.data.dataset import SaliencyDataset
from saliency_losses.data.errors import DataError
from saliency_losses.data.files import File, check_folder, locate
from saliency_losses.data.labels import Labels, read_classes
from saliency_losses.data.matching import MapFolder, check_shared
from saliency_losses.data.rows import Row
from saliency_losses.data.sources import MapFiles
from saliency_losses.data.tables import read_lines

__all__ = ["from_und"]


def from_und(
    root: str | os.PathLike[str],
    csv: str | os.PathLike[str],
    *,
    maps: str | os.PathLike[str] | None = None,
    maps_split: str | None = None,
    split: str | None = None,
    classes: Sequence[str] = ("Real", "Synthetic"),
    **options: Any,
) -> SaliencyDataset:
    r"""A dataset in the layout of the UND collection "CYBORG" of WACV 2023.

    The table has no header and three cells a line: split, class, and a path whose leading slash means the root, such
    as ``train,Synthetic,/train/original_data/1_fake/p1_100_fake.png``. The map of an image is the file of the same name
    in the folder of maps, below the same folders or at its top, where its suffix may differ; an image without one is
    not annotated.

    Args:
        root: The folder of the collection.
        csv: The table; a relative path is looked up in the root, then in the working directory.
        maps: The folder of maps, likewise; no map at all by default.
        maps_split: The split whose images they belong to; any by default, where no two images of one name are allowed
            to share a map.
        split: Only the lines of this split.
        classes: The names of the classes in the order of their integers.
        **options: Of :class:`~saliency_losses.data.SaliencyDataset`.

    Raises:
        DataError: A table, line or folder that does not fit; the message names the line.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     pathlib.Path(root, "maps").mkdir()
        ...     pathlib.Path(root, "maps", "p1.png").touch()
        ...     lines = "train,Synthetic,/train/1_fake/p1.png\ntrain,Real,/train/0_real/p2.png\n"
        ...     _ = pathlib.Path(root, "train.csv").write_text(lines)
        ...     dataset = from_und(root, "train.csv", maps="maps")
        >>> dataset.targets, dataset.annotated
        (tensor([1, 0]), tensor([ True, False]))

    Reference:
        Boyd, Tinsley, Bowyer and Czajka, CYBORG: Blending Human Saliency Into the Loss Improves Deep Learning, WACV
        2023.
    """
    base = check_folder(root, "root")
    table = _below(base, csv)
    name = os.path.basename(table)
    labels = read_classes([], classes)
    read = [_row(cells, f"{name} line {line}", base, labels) for line, cells in read_lines(table)]
    found: list[File | None] = [None] * len(read)
    if maps is not None:
        folder = MapFolder.open(_below(base, maps))
        mapped = read if maps_split is None else rows_of_split(read, maps_split)
        found = [_map_of(row, folder, base) if maps_split in (None, row.split) else None for row in read]
        folder.check_any(found, [os.path.basename(row.image.path) for row in mapped])
    rows = [
        row if file is None else replace(row, maps=(MapFiles(row.where, "mean", (file,)),))
        for row, file in zip(read, found, strict=True)
    ]
    check_shared(
        rows,
        "Say which split has maps, maps_split=, or put the maps below the same folders as the images.",
    )
    dataset = SaliencyDataset(rows, classes=classes, **options)
    return dataset if split is None else dataset.split(split)


def _below(base: str, path: str | os.PathLike[str]) -> str:
    inside = os.path.join(base, path)
    return inside if os.path.exists(inside) else os.path.abspath(path)


def _row(cells: tuple[str, ...], where: str, base: str, labels: Labels) -> Row:
    if len(cells) != 3:
        raise DataError(
            f"{where}: {len(cells)} cells, expected 3 without a header: split, class and path, such as "
            "train,Synthetic,/train/1_fake/p1.png. Tables with a header are for from_csv."
        )
    split, label, path = cells
    return Row(locate(path.lstrip("/"), base, where), labels.index(label, where), (None,), where, split)


def _map_of(row: Row, folder: MapFolder, base: str) -> File | None:
    relative = os.path.relpath(row.image.path, base)
    return folder.find(relative, row.where) or folder.find(os.path.basename(relative), row.where)
