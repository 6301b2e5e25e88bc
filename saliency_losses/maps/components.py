"""Connected regions and the holes in them."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["connected_components", "fill_holes"]


def connected_components(mask: Tensor, *, diagonal: bool = True) -> Tensor:
    """Which connected region each pixel belongs to.

    Each region's root is its first pixel; roots of neighbours are merged, and paths to the root shortened, until
    nothing changes, which takes few steps even for regions that wind.

    Args:
        mask: (B, H, W) bool.
        diagonal: Whether pixels that touch at a corner are connected.

    Returns:
        (B, H, W) int64: 1 + the index of the region's first pixel in the flattened batch, 0 outside.

    Example:
        >>> connected_components(torch.tensor([[[True, False, True], [True, False, False]]]))
        tensor([[[1, 0, 3],
                 [1, 0, 0]]])
    """
    _, height, width = mask.shape
    nobody = mask.numel()
    outside = ~F.pad(mask, (1, 1, 1, 1))
    steps = [(0, 1), (1, 0), (1, 2), (2, 1)] + ([(0, 0), (0, 2), (2, 0), (2, 2)] if diagonal else [])
    parents = torch.arange(nobody, device=mask.device)
    while True:
        padded = F.pad(parents.view_as(mask), (1, 1, 1, 1)).masked_fill(outside, nobody)
        lowest = parents.view_as(mask)
        for down, across in steps:
            lowest = torch.minimum(lowest, padded[:, down : down + height, across : across + width])
        lowest = torch.where(mask, lowest, parents.view_as(mask)).flatten()
        merged = _shortened(parents.scatter_reduce(0, parents, lowest, "amin"))
        if torch.equal(merged, parents):
            return torch.where(mask, parents.view_as(mask) + 1, 0)
        parents = merged


def fill_holes(mask: Tensor) -> Tensor:
    """Regions together with what they enclose: background from which no path leads out of the image.

    Paths run up, down and sideways, so that a closed line one pixel thin encloses, also where it is diagonal.

    Args:
        mask: (B, H, W) bool.

    Example:
        >>> ring = torch.ones(1, 3, 3, dtype=torch.bool)
        >>> ring[0, 1, 1] = False
        >>> fill_holes(ring).all()
        tensor(True)
    """
    background = connected_components(~F.pad(mask, (1, 1, 1, 1)), diagonal=False)
    return (background != background[:, :1, :1])[:, 1:-1, 1:-1]


def _shortened(parents: Tensor) -> Tensor:
    while True:
        shorter = parents[parents]
        if torch.equal(shorter, parents):
            return parents
        parents = shorter
