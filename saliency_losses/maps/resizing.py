"""Maps at another size."""

import math
from typing import Literal

import torch
from torch import Tensor

from saliency_losses.extractors.values import looks_at_values
from saliency_losses.maps.reading import read_maps
from saliency_losses.sizing import to_size

__all__ = ["resize"]


def resize(
    maps: Tensor,
    size: tuple[int, ...],
    how: Literal["area", "max", "antialias", "nearest"] = "area",
    *,
    keep: Literal["mean", "sum"] | None = None,
) -> Tensor:
    r"""Maps resampled to another size, of one, two or three axes.

    Args:
        maps: (\*, H, W), float, uint8 (0..255) or bool; (\*, N) or (\*, D, H, W) for a size of one or three axes.
        size: (height, width) in pixels, (length,) or (depth, height, width).
        how: ``"area"``, the mean of each cell, which loses no stroke; ``"max"``, its largest value, which keeps peaks;
            ``"antialias"``, the triangle filter of Pillow's bilinear resize; ``"nearest"``, one of its pixels, for maps
            whose values are statements, such as -1, 0 and 1. Maps are enlarged linearly, or by repetition under
            ``"nearest"``.
        keep: Scale each map afterwards so that its ``"mean"`` or its ``"sum"``, of magnitudes, is what it was. By
            default as resampled, where ``"area"`` keeps the mean if the sides divide.

    Returns:
        The maps with ``size`` as their last axes.

    Raises:
        ValueError: A shape or option that does not fit, or on the CPU nothing left of a map that ``keep`` speaks of.
        TypeError: A dtype that does not fit.

    Example:
        >>> stroke = torch.tensor([[4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
        >>> resize(stroke, (1, 2)), resize(stroke, (1, 2), keep="sum"), resize(stroke, (1, 2), "max")
        (tensor([[1., 0.]]), tensor([[4., 0.]]), tensor([[4., 0.]]))
    """
    whole = isinstance(size, tuple | list) and all(isinstance(side, int) and side > 0 for side in size)
    if not whole or not 1 <= len(size) <= 3:
        raise ValueError(f"size must be one to three sides in whole pixels, such as (height, width), got {size!r}.")
    if how not in ("area", "max", "antialias", "nearest"):
        raise ValueError(f"how must be 'area', 'max', 'antialias' or 'nearest', got {how!r}.")
    if keep not in (None, "mean", "sum"):
        raise ValueError(f"keep must be 'mean', 'sum' or None, got {keep!r}.")
    rank = len(size)
    maps = read_maps(maps, "maps", rank)
    lead, own = maps.shape[:-rank], maps.shape[-rank:]
    flat = maps.reshape(lead.numel(), *own)
    resized = to_size(flat, tuple(size), how)
    if keep is not None:
        before, after = flat.abs().flatten(1).sum(1), resized.abs().flatten(1).sum(1)
        if looks_at_values(flat) and bool(((before > 0) & (after == 0)).any()):
            raise ValueError(
                f"keep={keep!r} cannot be kept: how={how!r} leaves nothing of a map at the size {tuple(size)}. Use "
                "'area', which loses no stroke."
            )
        factor = torch.where(after > 0, before / torch.where(after > 0, after, 1.0), 0.0)
        if keep == "mean":
            factor = factor * (math.prod(size) / own.numel())
        resized = resized * factor.view(-1, *[1] * rank)
    return resized.reshape(*lead, *size)
