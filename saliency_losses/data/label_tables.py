"""Tables that say the label of each image, for data whose maps are described elsewhere."""

from typing import NamedTuple

from saliency_losses.data.errors import DataError
from saliency_losses.data.tables import Table

__all__ = ["Labelled", "labelled_images"]


class Labelled(NamedTuple):
    """An image with a label.

    Attributes:
        name: What names it.
        label: Its label, as written.
        split: Its split, where there are splits.
        where: Who says so.
    """

    name: str
    label: str
    split: str | None
    where: str


def labelled_images(table: Table, image: str, label: str, split: str | None) -> list[Labelled]:
    """The images of a table, each once.

    Args:
        table: The table.
        image: The column of what names an image.
        label: The column of labels.
        split: The column of splits, or ``None``.

    Raises:
        DataError: A column is missing, or two lines disagree about an image.

    Example:
        >>> table = Table("labels.csv", ("image", "label"), ((2, ("a", "cat")), (3, ("b", "dog"))))
        >>> [entry.label for entry in labelled_images(table, "image", "label", None)]
        ['cat', 'dog']
    """
    name_at, label_at = table.column(image, "label_image_column"), table.column(label, "label_column")
    split_at = None if split is None else table.column(split, "split_column")
    entries: dict[str, Labelled] = {}
    for line, cells in table.lines:
        part = None if split_at is None else cells[split_at]
        entry = Labelled(cells[name_at], cells[label_at], part, table.where(line))
        first = entries.setdefault(entry.name, entry)
        for what, before, now in (("label", first.label, entry.label), ("split", first.split, part)):
            if before != now:
                raise DataError(
                    f"{entry.where}: {what} {now!r}, but {first.where} says {before!r} of the same image "
                    f"{entry.name!r}. An image has one {what}; correct the table."
                )
    return list(entries.values())
