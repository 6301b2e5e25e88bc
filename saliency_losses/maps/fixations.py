"""Fixations and clicks as maps."""

import math

import torch
from torch import Tensor

from saliency_losses.maps.points import Outside, PerSample, read_points, weights_inside
from saliency_losses.maps.reading import check_size, full_precision

__all__ = ["fixations_to_counts", "fixations_to_map", "pixels_per_degree"]


def fixations_to_map(
    fixations: PerSample,
    size: tuple[int, int],
    *,
    sigma: float,
    weights: PerSample | None = None,
    subpixel: bool = True,
    outside: Outside = "error",
) -> Tensor:
    r"""A heat map: a Gaussian at each fixation or click, weighted by its duration.

    .. math:: h(x, y) = \sum_n \frac{w_n}{2 \pi \sigma^2}
        \exp\!\left(-\frac{(x - x_n)^2 + (y - y_n)^2}{2 \sigma^2}\right)

    Each fixation adds its weight in total, less what falls outside the map. Memory grows with (N, H + W), not with
    (N, H, W).

    Args:
        fixations: (x, y) in pixels: (N, 2) for one sample, (B, N, 2), or B of (N_i, 2).
        size: (height, width) of the map.
        sigma: In pixels, at least 0.5; one degree of visual angle is ``pixels_per_degree(...)``.
        weights: Durations, in the form of the fixations: (N,), (B, N), or B of (N_i,); zero where a tensor is padded.
        subpixel: Whether Gaussians are centred where the fixations are, or on their pixels.
        outside: ``"error"`` for fixations that are not on the map, or all between 0 and 1 like shares of the image; or
            ``"drop"`` to leave out what is not on it, NaN coordinates or weights included, without waiting for the
            device.

    Returns:
        (B, H, W), or (H, W) for one sample.

    Raises:
        ValueError: A shape, option or fixation that does not fit; the message names the sample.

    Example:
        >>> heat = fixations_to_map([[(4, 2)], []], (5, 9), sigma=1.0)
        >>> heat[0].argmax().item() == 2 * 9 + 4, heat.sum((1, 2)).round(decimals=2)
        (True, tensor([0.9900, 0.0000]))

    Reference:
        Le Meur and Baccino, Methods for comparing scanpaths and saliency maps: strengths and weaknesses, Behavior
        Research Methods 2013.
    """
    height, width = check_size(size)
    if not (math.isfinite(sigma) and sigma >= 0.5):
        raise ValueError(
            f"sigma must be at least 0.5 pixels, got {sigma}: a narrower Gaussian falls between the pixels. "
            "fixations_to_counts marks single pixels."
        )
    points = read_points(fixations, weights)
    weight = weights_inside(points, size, outside)
    across, down = (
        _gaussian(_kept(at, weight, subpixel), side, sigma) for at, side in ((points.x, width), (points.y, height))
    )
    with full_precision(weight.device):
        return points.shaped((down * weight.unsqueeze(2)).mT @ across)


def fixations_to_counts(
    fixations: PerSample,
    size: tuple[int, int],
    *,
    weights: PerSample | None = None,
    binary: bool = False,
    outside: Outside = "error",
) -> Tensor:
    """How many fixations each pixel has, which is what normalised scanpath saliency (NSS) asks for.

    Args:
        fixations: As for :func:`fixations_to_map`.
        size: (height, width) of the map.
        weights: As for :func:`fixations_to_map`; a fixation counts once if its weight is positive.
        binary: Whether a pixel with several fixations counts as one.
        outside: As for :func:`fixations_to_map`.

    Returns:
        (B, H, W), or (H, W) for one sample.

    Raises:
        ValueError: A shape, option or fixation that does not fit; the message names the sample.

    Example:
        >>> fixations_to_counts(torch.tensor([[1, 0], [1.4, 0.3], [0, 1]]), (2, 2))
        tensor([[0., 2.],
                [1., 0.]])

    Reference:
        Peters, Iyer, Itti and Koch, Components of bottom-up gaze allocation in natural images, Vision Research 2005.
    """
    height, width = check_size(size)
    points = read_points(fixations, weights)
    weight = weights_inside(points, size, outside)
    across, down = (
        (_pixel(at).unsqueeze(2) == torch.arange(side, device=at.device)).to(at.dtype)
        for at, side in ((points.x, width), (points.y, height))
    )
    with full_precision(weight.device):
        counts = (down * (weight > 0).unsqueeze(2)).mT @ across
    return points.shaped(counts.clamp_max(1.0) if binary else counts)


def pixels_per_degree(screen_width: float, screen_pixels: float, distance: float) -> float:
    r"""How many pixels of a screen one degree of visual angle spans, at its centre.

    .. math:: 2\, d \tan(0.5^\circ) \cdot \frac{\text{pixels}}{\text{width}}

    Args:
        screen_width: Of the screen, in cm.
        screen_pixels: Its width in pixels; where images were shown enlarged, in pixels of the image.
        distance: From eye to screen, in cm.

    Raises:
        ValueError: A number is not positive.

    Example:
        >>> round(pixels_per_degree(53.0, 1920, 60.0), 1)
        37.9
    """
    for name, value in (("screen_width", screen_width), ("screen_pixels", screen_pixels), ("distance", distance)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, got {value}.")
    return 2.0 * distance * math.tan(math.radians(0.5)) * screen_pixels / screen_width


def _kept(at: Tensor, weight: Tensor, subpixel: bool) -> Tensor:
    """Coordinates of what counts, and zeros for the rest, which may be NaN."""
    at = torch.where(weight > 0, at, 0.0)
    return at if subpixel else _pixel(at)


def _pixel(at: Tensor) -> Tensor:
    return (at + 0.5).floor()


def _gaussian(centre: Tensor, side: int, sigma: float) -> Tensor:
    """(B, N, side), of mass one where nothing is cut off."""
    offset = torch.arange(side, device=centre.device, dtype=centre.dtype) - centre.unsqueeze(2)
    return torch.exp(-0.5 * (offset / sigma).square()) / (sigma * math.sqrt(2.0 * math.pi))
