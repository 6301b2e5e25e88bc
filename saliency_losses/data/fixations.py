"""Datasets with tables of fixations: where readers looked, and for how long."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from saliency_losses.data.dataset import SaliencyDataset
from saliency_losses.data.errors import DataError
from saliency_losses.data.files import check_folder, locate
from saliency_losses.data.fixation_maps import FixationMaps
from saliency_losses.data.fixation_tables import Looks, looks_of
from saliency_losses.data.label_tables import Labelled, labelled_images
from saliency_losses.data.labels import read_classes
from saliency_losses.data.rows import Row
from saliency_losses.data.sources import Combine, check_combine
from saliency_losses.data.tables import read_table
from saliency_losses.maps.points import Outside, check_outside

__all__ = ["from_fixations"]


def from_fixations(
    table: str | os.PathLike[str],
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str] | Mapping[str, int | str],
    *,
    sigma: float,
    image_column: str = "image",
    x_column: str = "x",
    y_column: str = "y",
    duration_column: str | None = None,
    reader_column: str | None = None,
    label_image_column: str | None = None,
    label_column: str = "label",
    split_column: str | None = None,
    split: str | None = None,
    pattern: str = "{}",
    coordinates: Literal["pixels", "shares"] = "pixels",
    outside: Outside = "error",
    combine: Combine = "mean",
    keep_readers: bool = False,
    classes: Sequence[str] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8",
    **options: Any,
) -> SaliencyDataset:
    r"""A dataset of a table with one fixation a line, of images that lie apart, and of their labels.

    There is a sample for each image that has a label; without fixations it is not annotated. The heat map of each
    reader is divided by its largest value, so that readers count alike, and the readers' maps are combined.

    Args:
        table: The fixations, with a header.
        images: The folder of images.
        labels: A table with the label of each image, or a mapping from what names an image to its label.
        sigma: Of the Gaussian at each fixation, in pixels of the image as decoded; one degree of visual angle is
            :func:`~saliency_losses.maps.pixels_per_degree`.
        image_column: Holds what names an image.
        x_column: Holds x, to the right.
        y_column: Holds y, down.
        duration_column: Holds durations, in any unit; all fixations weigh the same by default.
        reader_column: Holds what names a reader; one reader by default.
        label_image_column: Holds what names an image in the labels' table; the same column by default.
        label_column: Holds labels there: integers, or names of classes.
        split_column: Holds the names of splits there.
        split: Only the images of this split.
        pattern: The path of an image below the folder, with ``{}`` for what names it, such as ``"{}.jpg"``.
        coordinates: Whether x and y are ``"pixels"`` of the image or ``"shares"`` of its width and height.
        outside: ``"error"`` for fixations that are not on the image, ``"drop"`` to leave them out.
        combine: How the maps of several readers become one.
        keep_readers: Whether samples get a map for each reader instead, (K, H, W).
        classes: As for :func:`from_csv`.
        delimiter: What separates cells, in both tables.
        encoding: How both were written.
        **options: Of :class:`~saliency_losses.data.SaliencyDataset`.

    Raises:
        DataError: A table or line that does not fit; the message names it.
        ValueError: An option that does not exist.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "fixations.csv")
        ...     _ = table.write_text("image,x,y\nscan_1,4,2\nscan_1,5,2\n")
        ...     dataset = from_fixations(table, folder, {"scan_1": 1, "scan_2": 0}, sigma=2.0, pattern="{}.png")
        >>> dataset.targets, dataset.annotated
        (tensor([1, 0]), tensor([ True, False]))

    Reference:
        Karargyris et al., Creation and validation of a chest X-ray dataset with eye-tracking and report dictation for
        AI development, Scientific Data 2021. Rong et al., Human Attention in Fine-grained Classification, BMVC 2021.
    """
    check_combine(combine)
    check_outside(outside)
    if not sigma >= 0.5:
        raise ValueError(f"sigma must be at least 0.5 pixels of the image, got {sigma}.")
    if coordinates not in ("pixels", "shares"):
        raise ValueError(f"coordinates must be 'pixels' or 'shares', got {coordinates!r}.")
    if "{}" not in pattern:
        raise ValueError(f"pattern must hold {{}} for what names an image, such as '{{}}.jpg', got {pattern!r}.")
    if keep_readers and reader_column is None:
        raise ValueError("keep_readers=True needs reader_column=, the column that names the reader.")
    if split is not None and split_column is None:
        raise ValueError(f"split={split!r} needs split_column=, the column of the labels' table that holds the splits.")
    base = check_folder(images, "images")
    looks = looks_of(
        read_table(table, delimiter=delimiter, encoding=encoding),
        image=image_column,
        x=x_column,
        y=y_column,
        duration=duration_column,
        reader=reader_column,
        drop=outside == "drop",
    )
    if isinstance(labels, Mapping):
        entries = [Labelled(name, str(label), None, f"labels[{name!r}]") for name, label in labels.items()]
    else:
        listed = read_table(labels, delimiter=delimiter, encoding=encoding)
        entries = labelled_images(listed, label_image_column or image_column, label_column, split_column)
    _check_labelled(looks, entries)
    named = read_classes([entry.label for entry in entries], classes)
    readers = sorted({name for found in looks.values() for name in found.readers}) if keep_readers else None

    def maps_of(name: str) -> Iterable[FixationMaps | None]:
        found = looks.get(name, Looks(""))
        for wanted in [list(found.readers)] if readers is None else [[reader] for reader in readers]:
            each = tuple(tuple(found.readers[reader]) for reader in wanted if found.readers.get(reader))
            yield FixationMaps(found.where, combine, each, sigma, coordinates == "shares", outside) if each else None

    rows = [
        Row(
            locate(pattern.replace("{}", name), base, where),
            named.index(label, where),
            tuple(maps_of(name)),
            where,
            part,
        )
        for name, label, part, where in entries
    ]
    dataset = SaliencyDataset(rows, classes=named.classes, map_names=readers, **options)
    return dataset if split is None else dataset.split(split)


def _check_labelled(looks: Mapping[str, Looks], entries: Sequence[Labelled]) -> None:
    """Refuse fixations on images without a label.

    Raises:
        DataError: There are some.
    """
    known = {entry.name for entry in entries}
    for name, found in looks.items():
        if name not in known:
            example = f", as it has one for {entries[0].name!r}" if entries else ""
            raise DataError(f"{found.where}: image {name!r} has no label; labels= needs one for it{example}.")
