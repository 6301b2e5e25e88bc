"""Maps in any common form, in [0, 1] and at the size of an image."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from saliency_losses.divergences.normalize import minmax
from saliency_losses.maps.reading import read_maps
from saliency_losses.maps.resizing import resize

__all__ = ["Scaling", "read_saliency", "scaled", "to_image_size"]

Scaling = Literal["minmax", "none"]
"""``"minmax"`` scales each map from its smallest to its largest value to [0, 1]; ``"none"`` wants it there already."""


def read_saliency(saliency: Any, name: str, batch: int | None) -> Tensor:
    """Maps (B, h, w) out of (h, w), (1, h, w), (B, h, w) or (B, 1, h, w).

    Args:
        saliency: A tensor or an array: float, uint8 (0..255) or bool; or a grey Pillow image.
        name: What the caller calls them.
        batch: How many images there are; ``None`` for one that is no batch.

    Raises:
        TypeError: A dtype that does not fit.
        ValueError: A shape that does not fit, NaN or infinities.
    """
    plain = np.array(saliency.convert("L")) if hasattr(saliency, "convert") else saliency
    maps = read_maps(torch.as_tensor(plain).detach().cpu(), name)
    if not bool(maps.isfinite().all()):
        raise ValueError(f"{name} holds infinities.")
    shape = tuple(maps.shape)
    maps = maps.squeeze(-3) if maps.ndim == (3 if batch is None else 4) and maps.shape[-3] == 1 else maps
    if batch is None and maps.ndim == 2:
        return maps[None]
    if batch is not None and maps.ndim == 3 and len(maps) == batch:
        return maps
    expected = "(h, w) for one image" if batch is None else f"({batch}, h, w) for {batch} images"
    raise ValueError(f"{name} must have shape {expected}, got {shape}.")


def scaled(maps: Tensor, scaling: Scaling, name: str) -> Tensor:
    """Maps (B, h, w) in [0, 1]; flat ones are zeros under ``"minmax"``.

    Raises:
        ValueError: An unknown scaling, or under ``"none"`` values outside [0, 1].
    """
    if scaling == "minmax":
        return minmax(maps.flatten(1)).view_as(maps)
    if scaling != "none":
        raise ValueError(f"normalize must be 'minmax' or 'none', got {scaling!r}.")
    low, high = float(maps.min()), float(maps.max())
    if low < -1e-6 or high > 1.0 + 1e-6:
        raise ValueError(
            f"{name} holds values from {low:.3g} to {high:.3g}; normalize='none' expects [0, 1]. Use 'minmax'."
        )
    return maps.clamp(0.0, 1.0)


def to_image_size(maps: Tensor, size: tuple[int, int], scaling: Scaling, name: str) -> NDArray[np.float32]:
    """Maps (B, h, w) in [0, 1] at the size (height, width): averaged where larger, smoothly enlarged where smaller."""
    smaller = resize(maps, (min(size[0], maps.shape[1]), min(size[1], maps.shape[2])))
    larger = F.interpolate(smaller[:, None], size, mode="bicubic", align_corners=False)[:, 0]
    larger = torch.minimum(
        torch.maximum(larger, smaller.amin((1, 2), keepdim=True)), smaller.amax((1, 2), keepdim=True)
    )
    result: NDArray[np.float32] = scaled(larger, scaling, name).float().numpy()
    return result
