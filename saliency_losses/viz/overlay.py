"""A map over its image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saliency_losses.viz.images import read_images, to_bytes
from saliency_losses.viz.scaling import Scaling, read_saliency, to_image_size

__all__ = ["coloured", "overlay"]


def overlay(
    image: Any,
    saliency: Any,
    *,
    opacity: float = 0.7,
    colormap: str = "turbo",
    normalize: Scaling = "minmax",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> NDArray[np.uint8]:
    r"""The greyed image under its map in colour.

    With the grey image :math:`g`, the map :math:`s` in [0, 1] and the colour :math:`c(s)`, a pixel is
    :math:`(1 - o s)\, g + o s\, c(s)`: where the map is zero the image is grey, and so it is under a flat map.

    Args:
        image: (C, H, W) or (B, C, H, W) as a tensor, (H, W, C) or (B, H, W, C) as an array, float in [0, 1] or uint8;
            a Pillow image, or a list of them.
        saliency: (h, w) or (B, h, w) of any size, as a tensor or an array; raw and signed under ``"minmax"``.
        opacity: How much of the colour covers the image where the map is largest, from 0 to 1.
        colormap: Name of one of matplotlib's.
        normalize: ``"minmax"`` scales each map to [0, 1]; ``"none"`` expects it there.
        mean: What was taken from each channel of a normalised image; undone.
        std: By what each channel was divided then.

    Returns:
        (H, W, 3), or (B, H, W, 3).

    Raises:
        TypeError: An image or a map of a kind or dtype that is not accepted.
        ValueError: Shapes, values or options that do not fit.

    Example:
        >>> import torch
        >>> picture = overlay(torch.rand(3, 32, 32), torch.randn(4, 4))
        >>> picture.shape, picture.dtype
        ((32, 32, 3), dtype('uint8'))
    """
    pixels, batched = read_images(image, mean, std)
    maps = read_saliency(saliency, "saliency", len(pixels) if batched else None)
    heat = to_image_size(maps, pixels.shape[1:3], normalize, "saliency")
    pictures = coloured(pixels, heat, opacity, colormap)
    return pictures if batched else pictures[0]


def coloured(
    pixels: NDArray[np.float32], heat: NDArray[np.float32], opacity: float, colormap: str
) -> NDArray[np.uint8]:
    """Images (B, H, W, 3), greyed, under maps (B, H, W) in [0, 1].

    Raises:
        ValueError: An opacity outside [0, 1], or a colormap that matplotlib does not have.
    """
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"opacity must be from 0 to 1, got {opacity}.")
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    cover = opacity * heat[..., None]
    return to_bytes((1.0 - cover) * grey[..., None] + cover * colours(colormap, heat))


def colours(colormap: str, values: NDArray[Any]) -> NDArray[Any]:
    """Values in [0, 1] as red, green and blue.

    Raises:
        ValueError: Matplotlib has no such colormap.
    """
    import matplotlib

    if colormap not in matplotlib.colormaps:
        raise ValueError(f"colormap {colormap!r} is none of matplotlib's; choose for instance 'turbo' or 'magma'.")
    result: NDArray[Any] = matplotlib.colormaps[colormap](values)[..., :3]
    return result
