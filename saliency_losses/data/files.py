"""Files that a table or a folder names, which may not lie outside their root."""

import os
from dataclasses import dataclass

from saliency_losses.data.errors import DataError

__all__ = ["File", "check_folder", "locate"]


@dataclass(frozen=True)
class File:
    """A file below a root, and who named it.

    Attributes:
        path: Where it is; nothing has looked yet.
        root: The folder that it may not leave.
        where: Who named it, such as ``"train.csv line 3"``; messages start with it.
    """

    path: str
    root: str
    where: str

    def checked(self, what: str) -> str:
        """The path, once there is a file to read: below the root also behind symbolic links, and not empty.

        Raises:
            DataError: There is none.
        """
        name = f"{self.where}: {what} {self.path!r}"
        if not _is_below(os.path.realpath(self.path), os.path.realpath(self.root)):
            raise DataError(
                f"{name} is a link to outside the root {self.root!r}. Copy the file, or pass a root that also holds "
                "what the link points to."
            )
        try:
            size = os.stat(self.path).st_size
        except OSError as error:
            hint = (
                " Its name holds a backslash: write / between folders." if "\\" in self.path and os.sep == "/" else ""
            )
            raise DataError(
                f"{name} is missing ({error.strerror}).{hint} Is the root {self.root!r} right? "
                "dataset.verified() leaves out rows that cannot be read."
            ) from error
        if not os.path.isfile(self.path):
            raise DataError(f"{name} is not a file; a row names one file.")
        if size == 0:
            raise DataError(f"{name} is empty (0 bytes): copy it again, or leave out its row: dataset.verified().")
        return self.path


def locate(name: str, root: str, where: str) -> File:
    """The file of this name below the root; looks at the name alone.

    Args:
        name: Relative to the root, or absolute and below it.
        root: An absolute path.
        where: Who named it.

    Raises:
        DataError: There is no name, or it leads out of the root.

    Example:
        >>> locate("a/./b.png", "/data", "train.csv line 1").path
        '/data/a/b.png'
    """
    if not name or "\0" in name:
        raise DataError(f"{where}: {name!r} names no file; put a path relative to the root {root!r}.")
    path = os.path.normpath(os.path.join(root, name))
    if not _is_below(path, root):
        raise DataError(
            f"{where}: {name!r} leads out of the root {root!r}. Files must lie below it: put relative paths, or pass a "
            "root that holds them all."
        )
    return File(path, root, where)


def _is_below(path: str, root: str) -> bool:
    """Whether a normal path is the root or leads from it."""
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def check_folder(folder: str | os.PathLike[str], name: str) -> str:
    """An absolute path of the folder.

    Raises:
        DataError: There is no such folder.
    """
    path = os.path.abspath(folder)
    if not os.path.isdir(path):
        raise DataError(f"{name} {os.fspath(folder)!r} is not a folder.")
    return path
