"""Maps blurred by a Gaussian."""

import math
from typing import Literal

import torch
from torch import Tensor

from saliency_losses.maps.reading import as_batch, full_precision, read_maps

__all__ = ["blur"]


def blur(maps: Tensor, sigma: float, *, border: Literal["constant", "replicate", "reflect"] = "constant") -> Tensor:
    r"""Maps convolved with a Gaussian, cut off at four standard deviations.

    Args:
        maps: (\*, H, W), float, uint8 (0..255) or bool.
        sigma: Standard deviation in pixels; zero leaves the maps as they are.
        border: What lies outside a map: ``"constant"``, zeros, as if the annotator saw nothing there and as in
            :func:`fixations_to_map`; ``"replicate"``, the pixel at its edge; ``"reflect"``, its mirror image, for maps
            larger than four standard deviations.

    Returns:
        (\*, H, W).

    Raises:
        ValueError: A shape or option that does not fit.
        TypeError: A dtype that does not fit.

    Example:
        >>> point = torch.zeros(9, 9)
        >>> point[4, 4] = 1.0
        >>> blurred = blur(point, 1.0)
        >>> blurred.sum().round(decimals=3), blurred[4, 4].round(decimals=3)
        (tensor(1.), tensor(0.1590))
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be zero or more pixels, got {sigma}.")
    if border not in ("constant", "replicate", "reflect"):
        raise ValueError(f"border must be 'constant', 'replicate' or 'reflect', got {border!r}.")
    maps = read_maps(maps, "maps")
    radius = int(4.0 * sigma + 0.5)
    if border == "reflect" and radius >= min(maps.shape[-2:]):
        raise ValueError(
            f"border='reflect' needs maps of more than {radius} pixels a side at sigma={sigma}, got "
            f"{tuple(maps.shape[-2:])}; use border='replicate'."
        )
    if radius == 0:
        return maps
    from kornia.filters import gaussian_blur2d

    exact = as_batch(maps).to(maps.dtype if maps.device.type == "mps" else torch.float64)  # convolutions may be TF32
    with full_precision(maps.device):
        blurred = gaussian_blur2d(exact.unsqueeze(1), 2 * radius + 1, (sigma, sigma), border_type=border)
    return blurred.to(maps.dtype).view_as(maps)
