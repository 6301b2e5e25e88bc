"""Polygons as maps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from saliency_losses.maps.points import Outside, check_outside
from saliency_losses.maps.reading import as_float, check_size

__all__ = ["polygons_to_map"]


def polygons_to_map(polygons: Sequence[Sequence[Any]], size: tuple[int, int], *, outside: Outside = "error") -> Tensor:
    r"""1 inside the polygons of a sample, 0 outside.

    A pixel is inside if its centre is: vertices keep their fractions. Where a polygon crosses itself, what it
    encloses twice is outside (even-odd rule). A centre on an edge belongs to the polygon on its right or below, so
    that neighbouring polygons share no pixel, and the corners of a box mark what :func:`boxes_to_map` marks for it.
    What sticks out of the map is cut off. Filled on the CPU, then moved to where the vertices are.

    Args:
        polygons: For each sample, its polygons, each of vertices (x, y) in pixels, (V, 2); none is allowed.
        size: (height, width) of the map.
        outside: ``"error"`` for polygons without a pixel on the map, or ``"drop"`` to leave them out.

    Returns:
        (B, H, W).

    Raises:
        ValueError: Something that is not a polygon, or an option or polygon that does not fit; the message names the
            sample.

    Example:
        >>> polygons_to_map([[[(0, 0), (4, 0), (0, 4)]]], (4, 4))
        tensor([[[1., 1., 1., 1.],
                 [1., 1., 1., 0.],
                 [1., 1., 0., 0.],
                 [1., 0., 0., 0.]]])
    """
    height, width = check_size(size)
    check_outside(outside)
    if isinstance(polygons, Tensor) or not polygons:
        raise ValueError("polygons must be a list with, for each sample, a list of its polygons (V, 2).")
    filled = torch.zeros(len(polygons), height, width, dtype=torch.bool)
    dtype, device = torch.float32, torch.device("cpu")
    for index, sample in enumerate(polygons):
        for number, one in enumerate(sample):
            vertices = as_float(torch.as_tensor(one))
            if vertices.ndim != 2 or vertices.shape[1] != 2 or len(vertices) < 3:
                raise ValueError(
                    f"Sample {index}: polygon {number} must be three or more vertices (x, y), (V, 2), got shape "
                    f"{tuple(vertices.shape)}. Each sample has a list of polygons."
                )
            dtype, device = torch.promote_types(dtype, vertices.dtype), vertices.device
            vertices = vertices.cpu().double()
            if not bool(vertices.isfinite().all()):
                raise ValueError(f"Sample {index}: polygon {number} has NaN or infinite coordinates.")
            inside = _fill(vertices, height, width)
            if outside == "error" and not bool(inside.any()):
                raise ValueError(
                    f"Sample {index}: polygon {number} has no pixel on a map of height {height} and width {width}. "
                    "Vertices are (x, y) in the map's pixels, not (row, column) or shares of the image; "
                    "outside='drop' leaves such polygons out."
                )
            filled[index] |= inside
    return filled.to(device=device, dtype=dtype)


def _fill(vertices: Tensor, height: int, width: int) -> Tensor:
    """Pixels with an odd number of edges at or to the left of their centre, (H, W)."""
    x, y = vertices[:, :1], vertices[:, 1:]
    following = vertices.roll(-1, 0)
    to_x, to_y = following[:, :1], following[:, 1:]
    row = torch.arange(height, dtype=vertices.dtype)
    crosses = (y <= row) != (to_y <= row)
    at = x + (row - y) * (to_x - x) / torch.where(y == to_y, 1.0, to_y - y)
    start = torch.where(crosses, at, float(width)).ceil().clamp(0, width).long()
    edges = torch.zeros(height, width + 1, dtype=torch.long).scatter_add_(1, start.T, torch.ones_like(start.T))
    return (edges.cumsum(1)[:, :width] % 2).bool()
