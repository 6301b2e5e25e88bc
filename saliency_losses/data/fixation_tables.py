"""Tables with one fixation a line."""

import math
from dataclasses import dataclass, field

from saliency_losses.data.errors import DataError
from saliency_losses.data.tables import Table

__all__ = ["Looks", "looks_of"]


@dataclass
class Looks:
    """Where readers looked on one image.

    Attributes:
        where: The first line that says so.
        readers: The fixations (x, y, duration) of each reader.
    """

    where: str
    readers: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)


def looks_of(
    table: Table, *, image: str, x: str, y: str, duration: str | None, reader: str | None, drop: bool
) -> dict[str, Looks]:
    """The fixations of each image.

    Args:
        table: The table.
        image: The column of what names an image.
        x: The column of x.
        y: The column of y.
        duration: The column of durations, or ``None`` for the same for all.
        reader: The column of what names a reader, or ``None`` for one reader.
        drop: Whether a fixation whose coordinates or duration are missing or NaN is left out, and not refused.

    Raises:
        DataError: A column is missing, or a cell holds no number; the message names the line.

    Example:
        >>> table = Table("fixations.csv", ("image", "x", "y"), ((2, ("a", "4", "2")), (3, ("a", "5", "2"))))
        >>> looks_of(table, image="image", x="x", y="y", duration=None, reader=None, drop=False)["a"].readers
        {'': [(4.0, 2.0, 1.0), (5.0, 2.0, 1.0)]}
    """
    image_at = table.column(image, "image_column")
    reader_at = None if reader is None else table.column(reader, "reader_column")
    numbers = [(x, table.column(x, "x_column")), (y, table.column(y, "y_column"))]
    if duration is not None:
        numbers.append((duration, table.column(duration, "duration_column")))
    looks: dict[str, Looks] = {}
    for line, cells in table.lines:
        where = table.where(line)
        found = looks.setdefault(cells[image_at], Looks(where))
        values = [_number(cells[at], column, where, drop) for column, at in numbers]
        fixations = found.readers.setdefault("" if reader_at is None else cells[reader_at], [])
        if all(map(math.isfinite, values)):
            fixations.append((values[0], values[1], values[2] if duration is not None else 1.0))
    return looks


def _number(cell: str, column: str, where: str, drop: bool) -> float:
    """The number in a cell; NaN for what may be left out.

    Raises:
        DataError: There is none.
    """
    try:
        number = float(cell) if cell or not drop else math.nan
    except ValueError:
        raise DataError(f"{where}: {column} is {cell!r}, not a number.") from None
    if not drop and not math.isfinite(number):
        raise DataError(f"{where}: {column} is {cell!r}, not a finite number; outside='drop' leaves such lines out.")
    return number
