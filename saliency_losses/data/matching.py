"""Which map in a folder belongs to which image."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from saliency_losses.data.errors import DataError
from saliency_losses.data.files import File, check_folder
from saliency_losses.data.rows import Row
from saliency_losses.data.sources import MapFiles

__all__ = ["MapFolder", "check_shared", "list_files"]


def list_files(folder: str) -> list[str]:
    """All files below a folder as sorted relative paths, but what is hidden.

    Raises:
        DataError: A folder in it is a link, or cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pathlib.Path(folder, "real").mkdir()
        ...     pathlib.Path(folder, "real", "a.png").touch()
        ...     pathlib.Path(folder, ".hidden").touch()
        ...     list_files(folder) == [os.path.join("real", "a.png")]
        True
    """
    found: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                raise DataError(
                    f"{os.path.join(parent, name)!r} is a link to a folder, which is not followed; put the "
                    "folder itself there."
                )
        below = os.path.relpath(parent, folder)
        found.extend(os.path.normpath(os.path.join(below, name)) for name in names if not name.startswith("."))
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename!r} cannot be read: {error.strerror}.") from error


@dataclass(frozen=True)
class MapFolder:
    """The maps in a folder, by name.

    Attributes:
        folder: An absolute path.
        files: The maps' paths, relative to it.
        by_stem: Their paths by their path without suffix.
        by_likeness: One of them by its path without suffix, whatever the case and the encoding of accents.
    """

    folder: str
    files: frozenset[str]
    by_stem: dict[str, list[str]]
    by_likeness: dict[str, str]

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "MapFolder":
        """List a folder once.

        Raises:
            DataError: There is no such folder, or nothing in it.
        """
        path = check_folder(folder, "maps")
        files = list_files(path)
        if not files:
            raise DataError(f"maps {path!r} holds no file; pass maps=None where there are no maps.")
        by_stem: dict[str, list[str]] = {}
        for name in files:
            by_stem.setdefault(os.path.splitext(name)[0], []).append(name)
        return cls(path, frozenset(files), by_stem, {_likeness(name): name for name in files})

    def find(self, name: str, where: str) -> File | None:
        """The map of this relative path, with another suffix if there is none with the same.

        Raises:
            DataError: There are several with other suffixes, or one whose name differs in what no reader sees.
        """
        matches = [name] if name in self.files else self.by_stem.get(os.path.splitext(name)[0], [])
        if len(matches) > 1:
            raise DataError(
                f"{where}: several maps for {name!r}: {', '.join(map(repr, matches))} in {self.folder!r}. Keep one, or "
                "name several in a table: from_csv."
            )
        if not matches and _likeness(name) in self.by_likeness:
            raise DataError(
                f"{where}: no map for {name!r}, but {self.by_likeness[_likeness(name)]!r} in {self.folder!r} differs "
                "from it in upper and lower case, or in how accents are encoded. Rename one of them."
            )
        return File(os.path.join(self.folder, matches[0]), self.folder, where) if matches else None

    def check_any(self, found: Sequence[File | None], images: Sequence[str]) -> None:
        """Refuse maps of which none belongs to an image.

        Raises:
            DataError: None does.
        """
        if not any(found) and images:
            raise DataError(
                f"None of the {len(self.files)} maps in {self.folder!r} has the name of an image: a map is "
                f"{min(self.files)!r}, an image {images[0]!r}. Is it the right folder? Pass maps=None where there are "
                "no maps."
            )


def check_shared(rows: Sequence[Row], remedy: str) -> None:
    """Refuse a map that two images of the same name would share.

    Args:
        rows: Of all images.
        remedy: What to do about it.

    Raises:
        DataError: There is one.
    """
    taken: dict[str, Row] = {}
    for row in rows:
        for source in row.maps:
            if isinstance(source, MapFiles):
                first = taken.setdefault(source.files[0].path, row)
                if first.image.path != row.image.path:
                    raise DataError(
                        f"{row.where} and {first.where}: {row.image.path!r} and {first.image.path!r} have the same "
                        f"name, so that both would take the map {source.files[0].path!r}. {remedy}"
                    )


def _likeness(name: str) -> str:
    return unicodedata.normalize("NFC", os.path.splitext(name)[0]).casefold()
