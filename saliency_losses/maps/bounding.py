"""Bounding boxes of salient regions."""

import torch
from torch import Tensor

from saliency_losses.maps.components import connected_components
from saliency_losses.maps.reading import as_batch, read_maps

__all__ = ["bounding_box"]


def bounding_box(maps: Tensor, *, per_component: bool = False, threshold: float = 0.0) -> Tensor:
    r"""1 in the smallest box around the salient region.

    Args:
        maps: (\*, H, W), float, uint8 (0..255) or bool.
        per_component: Whether each connected region (pixels that touch at a corner are connected) has its own box.
        threshold: As for :func:`area`.

    Returns:
        (\*, H, W).

    Raises:
        ValueError: A shape that does not fit.
        TypeError: A dtype that does not fit.

    Example:
        >>> bounding_box(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
        tensor([[1., 1., 0.],
                [1., 1., 0.],
                [0., 0., 0.]])

    Reference:
        As for :func:`area`.
    """
    maps = read_maps(maps, "maps")
    region = as_batch(maps) > threshold
    if per_component:
        boxes = _component_boxes(region)
    else:
        boxes = _spanned(region.any(2)).unsqueeze(2) & _spanned(region.any(1)).unsqueeze(1)
    return boxes.to(maps.dtype).view_as(maps)


def _spanned(marked: Tensor) -> Tensor:
    """From the first to the last true element of each row."""
    marks = marked.int()
    return (marks.cumsum(1) > 0) & (marks.flip(1).cumsum(1).flip(1) > 0)


def _component_boxes(region: Tensor) -> Tensor:
    """The boxes' corners enter a table of differences, whose running sums are the number of boxes at each pixel."""
    batch, height, width = region.shape
    root = (connected_components(region) - 1).clamp_min(0).flatten()
    rows, columns = (
        axis.expand_as(region).flatten()
        for axis in (
            torch.arange(height, device=region.device).view(1, -1, 1),
            torch.arange(width, device=region.device).view(1, 1, -1),
        )
    )
    inside = region.flatten()
    ends = []
    for at, side in ((rows, height), (columns, width)):
        low = torch.full_like(root, side).scatter_reduce(0, root, torch.where(inside, at, side), "amin")
        high = torch.full_like(root, -1).scatter_reduce(0, root, torch.where(inside, at, -1), "amax")
        ends.append((low, high + 1))
    (top, bottom), (left, right) = ends
    first = torch.arange(batch, device=region.device).view(-1, 1, 1).expand_as(region).flatten() * (height + 1)
    table = root.new_zeros(batch * (height + 1) * (width + 1))
    sign = (top < bottom).long()
    for row, column, step in ((top, left, sign), (top, right, -sign), (bottom, left, -sign), (bottom, right, sign)):
        table = table.scatter_add(0, (first + row) * (width + 1) + column, step)
    boxes = table.view(batch, height + 1, width + 1).cumsum(1).cumsum(2)
    return boxes[:, :height, :width] > 0
