"""Some of the rows, or all with some of their maps."""

from collections.abc import Sequence
from dataclasses import replace

from saliency_losses.data.errors import DataError
from saliency_losses.data.order import permutation
from saliency_losses.data.rows import Row
from saliency_losses.registry import nearest

__all__ = ["rows_of_split", "with_fewer_maps"]


def rows_of_split(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows of one split.

    Raises:
        DataError: There are none; the message lists the splits.
    """
    chosen = [row for row in rows if row.split == name]
    if not chosen:
        found = sorted({row.split for row in rows if row.split is not None})
        listed = f"the splits are {', '.join(map(repr, found))}" if found else "rows have no split"
        raise DataError(f"No row belongs to the split {name!r}; {listed}.{nearest(name, found)}")
    return chosen


def with_fewer_maps(rows: Sequence[Row], fraction: float, seed: int) -> list[Row]:
    """All rows, of which the same share of each class keeps its maps, at least one if any.

    Args:
        rows: What there is.
        fraction: The share of annotated rows that stay so, in [0, 1].
        seed: Which ones.

    Raises:
        ValueError: The share is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}.")
    with_map: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        if any(row.annotated):
            with_map.setdefault(row.target, []).append(index)
    dropped: set[int] = set()
    for target, found in with_map.items():
        kept = 0 if fraction == 0 else max(1, round(fraction * len(found)))
        dropped.update(found[at] for at in permutation(len(found), "annotations", seed, target)[kept:])
    return [replace(row, maps=(None,) * len(row.maps)) if index in dropped else row for index, row in enumerate(rows)]
