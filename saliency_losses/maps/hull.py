"""Convex hulls."""

from itertools import pairwise

import torch
from torch import Tensor

from saliency_losses.maps.reading import as_batch, read_maps

__all__ = ["convex_hull"]


def convex_hull(maps: Tensor, *, threshold: float = 0.0) -> Tensor:
    r"""1 in the smallest convex region around the salient one: the pixels whose centre is in the hull of the centres.

    The hull is exact, in whole numbers. It is found on the CPU from the first and last salient pixel of each row.

    Args:
        maps: (\*, H, W), float, uint8 (0..255) or bool.
        threshold: As for :func:`area`.

    Returns:
        (\*, H, W).

    Raises:
        ValueError: A shape that does not fit.
        TypeError: A dtype that does not fit.

    Example:
        >>> convex_hull(torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
        tensor([[1., 1., 1.],
                [1., 1., 0.],
                [1., 0., 0.]])

    Reference:
        Andrew, Another efficient algorithm for convex hulls in two dimensions, Information Processing Letters 1979.
    """
    maps = read_maps(maps, "maps")
    region = as_batch(maps) > threshold
    column = torch.arange(maps.shape[-1], device=maps.device)
    first = torch.where(region, column, len(column)).amin(2)
    last = torch.where(region, column, -1).amax(2)
    starts = [_chain(row) for row in first.masked_fill(last < 0, -1).tolist()]
    mirrored = [_chain(row) for row in torch.where(last < 0, -1, len(column) - 1 - last).tolist()]
    left = torch.tensor(starts, dtype=torch.long).view_as(first).to(maps.device).unsqueeze(2)
    right = torch.tensor(mirrored, dtype=torch.long).view_as(first).to(maps.device).unsqueeze(2)
    hull = (column >= left) & (column <= len(column) - 1 - right) & (left >= 0)
    return hull.to(maps.dtype).view_as(maps)


def _chain(columns: list[int]) -> list[int]:
    """The first pixel of each row at or right of the convex chain left of all ``columns``; -1 where there is none."""
    chain: list[tuple[int, int]] = []
    for row, column in enumerate(columns):
        if column < 0:
            continue
        while len(chain) > 1 and _bends_out(chain[-2], chain[-1], (row, column)):
            chain.pop()
        chain.append((row, column))
    starts = [-1] * len(columns)
    for row, column in chain:
        starts[row] = column
    for (top, start), (bottom, end) in pairwise(chain):
        for row in range(top + 1, bottom):
            starts[row] = start + -((start - end) * (row - top) // (bottom - top))
    return starts


def _bends_out(first: tuple[int, int], middle: tuple[int, int], last: tuple[int, int]) -> bool:
    """Whether the middle of three points is not left of the line through the others."""
    (y0, x0), (y1, x1), (y2, x2) = first, middle, last
    return (x1 - x0) * (y2 - y0) >= (x2 - x0) * (y1 - y0)
