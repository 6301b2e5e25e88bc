"""Keeps two processes, such as those of two sweeps in one folder, from doing the same training at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "lock"


class Busy(RuntimeError):
    """Another process does this training."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The block is alone in the folder; the claim ends with the process, however that ends.

    Where the system or the file system has no locks, nothing is claimed.

    Raises:
        Busy: Another process is in such a block.
    """
    with (folder / LOCK).open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"another process trains in {folder}; wait for it, or end it") from error
        except (ImportError, OSError):
            pass
        yield
