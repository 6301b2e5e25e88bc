"""Datasets in COCO's annotation files."""

import os
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Literal

from saliency_losses.data.coco_files import CocoFile, read_coco
from saliency_losses.data.coco_maps import CocoMaps
from saliency_losses.data.dataset import SaliencyDataset
from saliency_losses.data.errors import DataError
from saliency_losses.data.files import check_folder, locate
from saliency_losses.data.rows import Row

__all__ = ["from_coco"]


def from_coco(
    annotations: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    labels: Literal["single"] | Mapping[int | str, int] = "single",
    background: int | None = None,
    salient: Iterable[int | str] | None = None,
    per_category: bool = False,
    regions: Literal["segmentation", "box"] = "segmentation",
    **options: Any,
) -> SaliencyDataset:
    """A dataset of COCO's boxes, polygons and run lengths: what they enclose is where to look.

    Args:
        annotations: The annotation file, JSON.
        root: The folder that ``file_name`` is relative to, and does not leave.
        labels: How an image gets its class: from its ``"single"`` category, numbered in the order of their ids; or a
            mapping from categories, by id or name, to classes, in which an image must have one class.
        background: The class of images without such a category; an error by default.
        salient: The categories whose regions are the map, by id or name; all by default.
        per_category: Whether samples get a map for each of them, (K, H, W), in the order of ``dataset.map_names``.
        regions: Whether an annotation is its ``"segmentation"``, its box where it has none, or always its ``"box"``.
        **options: Of :class:`~saliency_losses.data.SaliencyDataset`.

    Raises:
        DataError: A file or annotation that does not fit; the message names the image.
        ValueError: An option that does not exist.

    Example:
        >>> import json, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     file = pathlib.Path(root, "instances.json")
        ...     image = {"id": 7, "file_name": "a.jpg", "height": 4, "width": 6}
        ...     box = {"image_id": 7, "category_id": 3, "bbox": [1, 0, 2, 2]}
        ...     cat = {"id": 3, "name": "cat"}
        ...     _ = file.write_text(json.dumps({"images": [image], "annotations": [box], "categories": [cat]}))
        ...     dataset = from_coco(file, root)
        >>> dataset.classes, dataset.targets, dataset.annotated
        (('cat',), tensor([0]), tensor([True]))

    Reference:
        Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
    """
    if regions not in ("segmentation", "box"):
        raise ValueError(f"regions must be 'segmentation' or 'box', got {regions!r}.")
    if labels != "single" and not isinstance(labels, Mapping):
        raise ValueError(f"labels must be 'single' or a mapping from categories to classes, got {labels!r}.")
    coco = read_coco(annotations)
    base = check_folder(root, "root")
    shown = list(coco.categories) if salient is None else [coco.category(one) for one in salient]
    if isinstance(labels, Mapping):
        classes = {coco.category(one): number for one, number in labels.items()}
    else:
        classes = {one: number for number, one in enumerate(coco.categories)}
    groups = [[one] for one in shown] if per_category else [shown]
    rows = [
        Row(
            locate(entry["file_name"], base, coco.where(image)),
            _class_of(coco, image, classes, background),
            tuple(_maps(coco, image, group, regions) for group in groups),
            coco.where(image),
        )
        for image, entry in coco.images.items()
    ]
    return SaliencyDataset(
        rows,
        classes=tuple(coco.categories.values()) if labels == "single" else None,
        map_names=[coco.categories[one] for one in shown] if per_category else None,
        **options,
    )


def _class_of(coco: CocoFile, image: int, classes: Mapping[int, int], background: int | None) -> int:
    """The one class that an image's categories name.

    Raises:
        DataError: They name none, or several.
    """
    present = {entry["category_id"] for entry in coco.annotations[image]}
    found = sorted({classes[one] for one in present if one in classes})
    if not found and background is not None:
        return background
    if len(found) != 1:
        names = ", ".join(repr(coco.categories[one]) for one in sorted(present)) or "no category"
        remedy = (
            "Pass background=, the class of images without one."
            if not found
            else "Pass labels=, a mapping that leaves one of them."
        )
        raise DataError(f"{coco.where(image)} has {names}, so {len(found)} classes; expected one. {remedy}")
    return found[0]


def _maps(coco: CocoFile, image: int, group: list[int], regions: str) -> CocoMaps | None:
    """What the annotations of these categories enclose, or ``None`` where there are none."""
    found = tuple(
        _region(entry, regions, coco.where(image)) for entry in coco.annotations[image] if entry["category_id"] in group
    )
    size = (coco.images[image]["height"], coco.images[image]["width"])
    return CocoMaps(coco.where(image), "union", found, size) if found else None


def _region(entry: dict[str, Any], regions: str, where: str) -> Any:
    """Run lengths, polygons, or a box.

    Raises:
        DataError: There are none, or no numbers that make one.
    """
    shape = entry.get("segmentation") if regions == "segmentation" else None
    if isinstance(shape, dict):
        return shape
    if isinstance(shape, list) and shape:
        if all(isinstance(one, list) and len(one) >= 6 and len(one) % 2 == 0 and _are_numbers(one) for one in shape):
            return shape
        raise DataError(f"{where}: a polygon is [x1, y1, x2, y2, x3, y3, ...], got {shape!r:.80}.")
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not _are_numbers(box):
        raise DataError(f"{where}: an annotation has no segmentation, and no bbox [x, y, width, height], but {box!r}.")
    return box


def _are_numbers(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) and isfinite(value) for value in values)
