"""Looks for files of the UND collection, and says where it looked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

CSVS = Path("csvs")


def given(root: Path, path: str | None, option: str) -> str | None:
    """A path that the command line gives, which starts at the root or at the current folder.

    Raises:
        ValueError: There is nothing; the message names the option.
    """
    if not path:
        return None
    tried = [root / path, Path(path).absolute()]
    found = _existing(tried)
    if found is None:
        raise ValueError(f"{option} {path} does not exist; looked for {' and '.join(dict.fromkeys(map(str, tried)))}")
    return found


def default(root: Path, path: Path) -> str | None:
    """The usual path, if there is something."""
    return _existing(places(root, path))


def places(root: Path, path: Path) -> list[Path]:
    """Where the usual path may be: below the root; tables also beside it."""
    return [root / path, root.parent / path] if path.parts[0] == str(CSVS) else [root / path]


def missing(what: str, tried: Iterable[Path], option: str) -> str:
    """What to say of a file or folder that is at none of its places."""
    return f"there is no {what}: looked for {' and '.join(map(str, tried))}. Name it by {option}"


def _existing(tried: Iterable[Path]) -> str | None:
    return next((os.path.normpath(place) for place in tried if place.exists()), None)
