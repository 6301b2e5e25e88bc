"""Which map in a folder belongs to which image."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from saliency_losses.data.errors import DataError
from saliency_losses.data.files import File, check_folder

__all__ = ["MapFolder", "list_files"]


def list_files(folder: str) -> list[str]:
    """All files below a folder but hidden ones, as sorted relative paths.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pathlib.Path(folder, "real").mkdir()
        ...     pathlib.Path(folder, "real", "a.png").touch()
        ...     pathlib.Path(folder, ".hidden").touch()
        ...     list_files(folder) == [os.path.join("real", "a.png")]
        True
    """
    found = [
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    ]
    return sorted(found)


@dataclass(frozen=True)
class MapFolder:
    """The maps in a folder, by name.

    Attributes:
        folder: An absolute path.
        files: The maps' paths, relative to it.
        by_stem: Their paths by their path without suffix.
    """

    folder: str
    files: frozenset[str]
    by_stem: dict[str, list[str]]

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
        return cls(path, frozenset(files), by_stem)

    def find(self, name: str, where: str) -> File | None:
        """The map of this relative path, with another suffix if there is none with the same.

        Raises:
            DataError: There are several with other suffixes.
        """
        matches = [name] if name in self.files else self.by_stem.get(os.path.splitext(name)[0], [])
        if len(matches) > 1:
            raise DataError(
                f"{where}: several maps for {name!r}: {', '.join(map(repr, matches))} in {self.folder!r}. Keep one, or "
                "name several in a table: from_csv."
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
