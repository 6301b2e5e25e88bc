"""The salient region at several granularities: as it is, filled, outlined."""

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_losses.maps.components import fill_holes
from saliency_losses.maps.reading import as_batch, read_maps

__all__ = ["area", "boundary", "features"]


def area(maps: Tensor, *, threshold: float = 0.0) -> Tensor:
    r"""1 in the salient region, with its holes filled: the pixels above a threshold, and what they enclose.

    Args:
        maps: (\*, H, W), float, uint8 (0..255) or bool.
        threshold: Pixels above it are salient. Heat maps are positive everywhere: choose one, or take
            :func:`threshold` first.

    Returns:
        (\*, H, W).

    Raises:
        ValueError: A shape that does not fit.
        TypeError: A dtype that does not fit.

    Example:
        >>> drawn = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
        >>> area(drawn)[1]
        tensor([1., 1., 1.])

    Reference:
        Crum, Webster and Czajka, Grains of Saliency: Optimizing Saliency-based Training of Biometric Attack Detection
        Models, IJCB 2024.
    """
    maps = read_maps(maps, "maps")
    return fill_holes(as_batch(maps) > threshold).to(maps.dtype).view_as(maps)


def boundary(maps: Tensor, *, thickness: float = 1.0, threshold: float = 0.0) -> Tensor:
    r"""1 on the outline of the salient region: its pixels whose centre is within a distance of one outside it.

    The outline is that of :func:`area`, so holes have none. Beyond the image is outside: where a region touches the
    edge of the image, the outline runs along it.

    Args:
        maps: (\*, H, W), float, uint8 (0..255) or bool.
        thickness: In pixels, at least 1.
        threshold: As for :func:`area`.

    Returns:
        (\*, H, W).

    Raises:
        ValueError: A shape that does not fit, or a thickness below 1.
        TypeError: A dtype that does not fit.

    Example:
        >>> boundary(torch.ones(3, 4))
        tensor([[1., 1., 1., 1.],
                [1., 0., 0., 1.],
                [1., 1., 1., 1.]])

    Reference:
        As for :func:`area`.
    """
    if not 1 <= thickness < float("inf"):
        raise ValueError(f"thickness must be at least 1 pixel, got {thickness}.")
    maps = read_maps(maps, "maps")
    region = fill_holes(as_batch(maps) > threshold)
    radius = int(thickness)
    steps = torch.arange(-radius, radius + 1, device=maps.device)
    disc = (steps.square() + steps.square().unsqueeze(1) <= thickness**2).to(torch.float32)
    outside = F.pad((~region).to(torch.float32), [radius] * 4, value=1.0)
    near = F.conv2d(outside.unsqueeze(1), disc[None, None]).squeeze(1) > 0.5
    return (region & near).to(maps.dtype).view_as(maps)


def features(maps: Tensor, *, threshold: float = 0.0) -> Tensor:
    r"""The map as it is inside the salient region, holes included, and 0 outside.

    Args:
        maps: (\*, H, W), float, uint8 (0..255) or bool.
        threshold: As for :func:`area`.

    Returns:
        (\*, H, W).

    Raises:
        ValueError: A shape that does not fit.
        TypeError: A dtype that does not fit.

    Example:
        >>> features(torch.tensor([[0.1, 0.6], [0.4, 0.9]]), threshold=0.3)
        tensor([[0.0000, 0.6000],
                [0.4000, 0.9000]])

    Reference:
        As for :func:`area`.
    """
    maps = read_maps(maps, "maps")
    return torch.where(area(maps, threshold=threshold) > 0, maps, 0.0)
