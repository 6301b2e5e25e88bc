"""COCO's annotation files, checked."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from saliency_losses.data.errors import DataError
from saliency_losses.registry import nearest

__all__ = ["CocoFile", "read_coco"]


@dataclass(frozen=True)
class CocoFile:
    """What an annotation file says.

    Attributes:
        name: Of the file.
        categories: Their names by their ids, in the order of the ids.
        images: The entries of images, by id.
        annotations: The annotations of each image, by its id.
    """

    name: str
    categories: dict[int, str]
    images: dict[int, dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]

    def where(self, image: int) -> str:
        """How messages name an image."""
        return f"{self.name} image id {image}"

    def category(self, given: int | str) -> int:
        """The id of a category.

        Args:
            given: Its id or its name.

        Raises:
            DataError: There is no such category.
        """
        if given in self.categories:
            return int(given)
        ids = [number for number, name in self.categories.items() if name == given]
        if len(ids) != 1:
            names = [f"{name!r} ({number})" for number, name in self.categories.items()]
            hint = nearest(str(given), self.categories.values())
            raise DataError(f"{self.name} has no category {given!r}; it has {', '.join(names)}.{hint}")
        return ids[0]


def read_coco(path: str | os.PathLike[str]) -> CocoFile:
    """Read an annotation file.

    Raises:
        DataError: It is no such file; the message says what is missing.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "instances.json")
        ...     _ = file.write_text('{"images": [], "annotations": [], "categories": [{"id": 3, "name": "cat"}]}')
        ...     read_coco(file).categories
        {3: 'cat'}
    """
    name = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as text:
            content = json.load(text)
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{name!r} is not JSON: {error}.") from error
    base = os.path.basename(name)
    categories = _listed(content, "categories", ("id", "name"), base)
    images = _listed(content, "images", ("id", "file_name", "height", "width"), base)
    annotations = _listed(content, "annotations", ("image_id", "category_id"), base)
    for entry in images:
        if not all(isinstance(entry[side], int) and entry[side] > 0 for side in ("height", "width")):
            raise DataError(
                f"{base}: image id {entry['id']!r} has height {entry['height']!r}, width {entry['width']!r}."
            )
    by_id = {entry["id"]: entry for entry in images}
    if len(by_id) != len(images):
        raise DataError(f"{base}: two images have the same id; ids must differ.")
    names = {entry["id"]: str(entry["name"]) for entry in sorted(categories, key=lambda entry: entry["id"])}
    grouped: dict[int, list[dict[str, Any]]] = {image: [] for image in by_id}
    for number, entry in enumerate(annotations):
        for key, known in (("image_id", by_id), ("category_id", names)):
            if entry[key] not in known:
                raise DataError(f"{base}: annotation {number} has {key} {entry[key]!r}, which the file does not list.")
        grouped[entry["image_id"]].append(entry)
    return CocoFile(base, names, by_id, grouped)


def _listed(content: Any, key: str, needed: Iterable[str], name: str) -> list[dict[str, Any]]:
    """The entries of a list, each with what is needed.

    Raises:
        DataError: The list or something in it is missing.
    """
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        found = ", ".join(map(repr, content)) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{name} has no list {key!r}, as COCO's annotation files have; it has {found}.")
    for number, entry in enumerate(entries):
        for one in needed:
            if not isinstance(entry, dict) or one not in entry:
                raise DataError(f"{name}: entry {number} of {key!r} has no {one!r}.")
            if one.endswith("id") and not isinstance(entry[one], int):
                raise DataError(f"{name}: entry {number} of {key!r} has {one} {entry[one]!r}, not a whole number.")
    return entries
