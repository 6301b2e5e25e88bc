"""Boxes as maps."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from saliency_losses.maps.points import Outside, check_outside
from saliency_losses.maps.reading import as_float, check_size, first_of, has_values, read_samples

__all__ = ["boxes_to_map"]


def boxes_to_map(
    boxes: Tensor | Sequence[Any], size: tuple[int, int], *, sigma: float = 0.0, outside: Outside = "error"
) -> Tensor:
    r"""1 inside the boxes of a sample, 0 outside; where boxes overlap, the larger value.

    A box (xmin, ymin, xmax, ymax) marks ``map[ymin:ymax, xmin:xmax]``; with fractions, the pixels whose larger part is
    inside. What sticks out of the map is cut off. A box of four zeros is padding.

    Args:
        boxes: In pixels: (4,) for one sample, (B, 4) for one box each, (B, N, 4), or B of (N_i, 4).
        size: (height, width) of the map.
        sigma: Standard deviation in pixels of a Gaussian that softens the edges.
        outside: ``"error"`` for boxes without a pixel on the map, such as shares of the image, or ``"drop"`` to leave
            them out without waiting for the device.

    Returns:
        (B, H, W), or (H, W) for one sample.

    Raises:
        ValueError: A shape, option or box that does not fit; the message names the sample.

    Example:
        >>> boxes_to_map(torch.tensor([1, 0, 3, 2]), (3, 4))
        tensor([[0., 1., 1., 0.],
                [0., 1., 1., 0.],
                [0., 0., 0., 0.]])
    """
    height, width = check_size(size)
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be zero or more pixels, got {sigma}.")
    check_outside(outside)
    single = isinstance(boxes, Tensor) and boxes.ndim == 1
    read = _read(boxes.unsqueeze(0) if isinstance(boxes, Tensor) and single else boxes)
    left, top, right, bottom = read.unbind(2)
    real = _holds_pixel(left, right, width) & _holds_pixel(top, bottom, height)
    at = first_of(~real & (read != 0).any(2)) if outside == "error" and has_values(read) else None
    if at is not None:
        raise ValueError(
            f"Sample {at[0]}: box {at[1]} {tuple(round(edge, 2) for edge in read[at].tolist())} has no pixel on a map "
            f"of height {height} and width {width}. Boxes are (xmin, ymin, xmax, ymax) in the map's pixels, not (x, y, "
            "width, height) or shares of the image; outside='drop' leaves such boxes out."
        )
    if outside == "error" and min(height, width) > 2 and has_values(read) and read.numel() and _are_shares(read):
        raise ValueError(
            "All boxes lie between 0 and 1, as shares of the image do: multiply x by its width and y by its height. "
            "outside='drop' takes them for pixels."
        )
    across, down = (
        torch.where(real.unsqueeze(2), _inside(low, high, side, sigma), 0.0)
        for low, high, side in ((left, right, width), (top, bottom, height))
    )
    maps = read.new_zeros(len(read), height, width)
    for number in range(read.shape[1]):
        maps = torch.maximum(maps, down[:, number].unsqueeze(2) * across[:, number].unsqueeze(1))
    return maps.squeeze(0) if single else maps


def _read(boxes: Tensor | Sequence[Any]) -> Tensor:
    """(B, N, 4)."""
    if isinstance(boxes, Tensor):
        if boxes.ndim not in (2, 3) or boxes.shape[-1] != 4:
            raise ValueError(
                f"boxes must have shape (4,), (B, 4), (B, N, 4), or be B of (N_i, 4), got {tuple(boxes.shape)}."
            )
        return as_float(boxes if boxes.ndim == 3 else boxes.unsqueeze(1))
    return pad_sequence(read_samples(boxes, "boxes", (4,)), batch_first=True)


def _are_shares(boxes: Tensor) -> bool:
    """Whether all boxes lie between 0 and 1, and one says something."""
    return bool((boxes >= 0).all() and (boxes <= 1).all() and boxes.any())


def _holds_pixel(low: Tensor, high: Tensor, side: int) -> Tensor:
    """(B, N): whether a pixel's centre is between the edges, and on the map."""
    first = (low - 0.5).ceil().clamp_min(0.0)
    return (first + 0.5 < high) & (first < side)


def _inside(low: Tensor, high: Tensor, side: int, sigma: float) -> Tensor:
    """(B, N, side): how far each pixel's centre is between the edges."""
    middle = torch.arange(side, device=low.device, dtype=low.dtype) + 0.5
    low, high = low.unsqueeze(2), high.unsqueeze(2)
    if sigma == 0:
        return ((middle >= low) & (middle < high)).to(low.dtype)
    scale = sigma * math.sqrt(2.0)
    return 0.5 * (torch.erf((middle - low) / scale) - torch.erf((middle - high) / scale))
