"""Datasets in tables of any kind."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from saliency_losses.data.dataset import SaliencyDataset
from saliency_losses.data.errors import DataError
from saliency_losses.data.files import File, check_folder, locate
from saliency_losses.data.labels import read_classes
from saliency_losses.data.rows import Row
from saliency_losses.data.sources import Combine, MapFiles, check_combine
from saliency_losses.data.tables import Table, read_table

__all__ = ["from_csv"]


def from_csv(
    path: str | os.PathLike[str],
    *,
    image_column: str = "image",
    label_column: str = "label",
    map_column: str | None = None,
    split_column: str | None = None,
    maps_by: str | None = None,
    combine: Combine = "mean",
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
    maps_root: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8",
    **options: Any,
) -> SaliencyDataset:
    r"""A dataset of the images, labels and maps that a table names.

    An image may have several lines, one for each reader or finding: it becomes one sample, and its label and split
    must be the same in all of them. Its maps are combined into one, or kept apart by a column. An empty cell is no map.

    Args:
        path: The table, with a header.
        image_column: Holds the images' paths.
        label_column: Holds integers, or names of classes.
        map_column: Holds the maps' paths; no map at all by default.
        split_column: Holds the names of splits.
        maps_by: A column, such as that of the reader or finding: samples get one map for each value that it has, (K,
            H, W), in the order of ``dataset.map_names``; the guided step needs ``classes`` (B, K) for them.
        combine: How the maps of one image, or of one value of ``maps_by``, become one.
        split: Only the images of this split.
        root: The folder that paths are relative to, and do not leave; that of the table by default.
        maps_root: Likewise for maps; the root by default.
        classes: The names of the classes in the order of their integers; sorted by default, unless labels are integers.
        delimiter: What separates cells.
        encoding: How the table was written.
        **options: Of :class:`~saliency_losses.data.SaliencyDataset`.

    Raises:
        DataError: A table or line that does not fit, or lines that disagree; the message names them.
        ValueError: An option that does not exist.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "rows.csv")
        ...     _ = table.write_text("image,label,map\na.png,cat,a_1.png\na.png,cat,a_2.png\nb.png,dog,\n")
        ...     dataset = from_csv(table, map_column="map")
        >>> dataset.classes, dataset.targets, dataset.annotated
        (('cat', 'dog'), tensor([0, 1]), tensor([ True, False]))
    """
    check_combine(combine)
    if split is not None and split_column is None:
        raise ValueError(f"split={split!r} needs split_column=, the column that holds the splits.")
    if maps_by is not None and map_column is None:
        raise ValueError(f"maps_by={maps_by!r} needs map_column=, the column that holds the maps.")
    table = read_table(path, delimiter=delimiter, encoding=encoding)
    base = check_folder(os.path.dirname(os.path.abspath(path)) if root is None else root, "root")
    maps_base = base if maps_root is None else check_folder(maps_root, "maps_root")
    images = _cells(table, image_column, "image_column")
    names = _cells(table, label_column, "label_column")
    labels = read_classes(names, classes)
    maps = _cells(table, map_column, "map_column")
    splits = _cells(table, split_column, "split_column")
    slots = _cells(table, maps_by, "maps_by")
    map_names = None if maps_by is None else tuple(sorted({slot for slot in slots if slot}))
    if map_names == ():
        raise DataError(f"{table.path!r}: the column {maps_by!r} (maps_by=) is empty in every line.")
    samples: dict[str, _Sample] = {}
    for (line, _), image, name, map_name, part, slot in zip(
        table.lines, images, names, maps, splits, slots, strict=True
    ):
        where = table.where(line)
        file = locate(image, base, where)
        target = labels.index(name, where)
        found = samples.setdefault(file.path, _Sample(file, name, part, target))
        if target != found.target:
            raise found.disagreement("label", found.label, name, where)
        if part != found.split:
            raise found.disagreement("split", found.split, part, where)
        if map_name:
            if map_names is not None and not slot:
                raise DataError(
                    f"{where}: a map, but nothing in the column {maps_by!r} that says which of the K it is."
                )
            found.add(slot, locate(map_name, maps_base, where))
    rows = [sample.row(map_names, combine, split_column is not None) for sample in samples.values()]
    dataset = SaliencyDataset(rows, classes=labels.classes, map_names=map_names, **options)
    return dataset if split is None else dataset.split(split)


@dataclass
class _Sample:
    """What the lines of one image say."""

    image: File
    label: str
    split: str
    target: int
    maps: dict[str, list[File]] = field(default_factory=dict)

    def disagreement(self, what: str, first: str, now: str, where: str) -> DataError:
        """What to raise where two lines say different things."""
        return DataError(
            f"{where}: {what} {now!r}, but {self.image.where} says {first!r} of the same image {self.image.path!r}. "
            f"An image has one {what}; correct the table, or name images apart."
        )

    def add(self, slot: str, file: File) -> None:
        """A map, unless another line has named it already."""
        files = self.maps.setdefault(slot, [])
        if all(file.path != other.path for other in files):
            files.append(file)

    def row(self, map_names: tuple[str, ...] | None, combine: Combine, parts: bool) -> Row:
        files = [self.maps.get(slot) for slot in map_names or ("",)]
        sources = tuple(MapFiles(found[0].where, combine, tuple(found)) if found else None for found in files)
        return Row(self.image, self.target, sources, self.image.where, self.split if parts else None)


def _cells(table: Table, column: str | None, option: str) -> list[str]:
    """What a column holds, or empty cells."""
    if column is None:
        return [""] * len(table.lines)
    place = table.column(column, option)
    return [cells[place] for _, cells in table.lines]
