"""Names of classes as the integers that a loss takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from saliency_losses.data.errors import DataError
from saliency_losses.registry import nearest

__all__ = ["Labels", "read_classes"]

_IGNORED = -100


@dataclass(frozen=True)
class Labels:
    """What turns a cell into a class.

    Attributes:
        classes: The names of the classes, in their order; ``None`` where cells hold the integers themselves.
    """

    classes: tuple[str, ...] | None

    def index(self, cell: str, where: str) -> int:
        """The class that a cell names.

        Raises:
            DataError: It names none.
        """
        if not cell:
            raise DataError(f"{where}: the label is missing; every image needs one.")
        if self.classes is None:
            number = _whole(cell)
            if number is None:
                raise DataError(
                    f"{where}: label {cell!r} is not a class: expected 0, 1, ..., or {_IGNORED} to ignore the sample."
                )
            return number
        if cell not in self.classes:
            raise DataError(
                f"{where}: unknown class {cell!r}; the classes are {', '.join(map(repr, self.classes))}."
                f"{nearest(cell, self.classes)} Name all of them by classes=, in the order of their integers."
            )
        return self.classes.index(cell)


def read_classes(cells: Sequence[str], classes: Sequence[str] | None) -> Labels:
    """How to read labels: by the names given, as integers if all are, or by the sorted names.

    Args:
        cells: All labels of a table.
        classes: Names in the order of their integers.

    Raises:
        DataError: The same name twice, or numbers that are no classes: their order as text would not be theirs.

    Example:
        >>> read_classes(["dog", "cat", "dog"], None).classes, read_classes(["1", "0"], None).classes
        (('cat', 'dog'), None)
    """
    if classes is not None:
        if isinstance(classes, str) or len(set(classes)) != len(classes):
            raise DataError(f"classes must be a list of different names, got {classes!r}.")
        return Labels(tuple(classes))
    names = sorted({cell for cell in cells if cell})
    others = [cell for cell in names if _whole(cell) is None]
    if not others:
        return Labels(None)
    numbers = [cell for cell in names if _is_number(cell)]
    if numbers:
        raise DataError(
            f"labels are numbers, such as {numbers[-1]!r}, but {others[0]!r} is not a class: expected 0, 1, ..., or "
            f"{_IGNORED} to ignore the sample. If they are names, pass classes=, in the order of their integers."
        )
    return Labels(tuple(names))


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _whole(cell: str) -> int | None:
    """The integer in a cell, also one written as ``1.0``, or ``None``."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return int(number) if number.is_integer() and (number >= 0 or number == _IGNORED) else None
