"""A batch of images to paint anti-aliased shapes on.

A shape is a signed distance, negative inside, whose change of sign is spread over one pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Canvas:
    """A batch of images (N, 3, S, S) painted layer upon layer."""

    def __init__(self, colour: Tensor, size: int) -> None:
        self.pixel = 2.0 / size
        self.image = colour[:, :, None, None].repeat(1, 1, size, size)

    def inside(self, distance: Tensor) -> Tensor:
        """Turns a signed distance, negative inside, into coverage in [0, 1]."""
        return (0.5 - distance / self.pixel).clamp(0.0, 1.0)

    def paint(self, colour: Tensor, coverage: Tensor) -> None:
        """Lays ``colour`` (N, 3) or (N, 3, S, S) over the images by ``coverage`` (N, S, S)."""
        colour = colour if colour.ndim == 4 else colour[:, :, None, None]
        self.image = torch.lerp(self.image, colour.expand_as(self.image), coverage[:, None])


def ellipse(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float, power: float = 2.0) -> Tensor:
    """Approximate signed distance to an axis-parallel (super-)ellipse with the given half axes."""
    radius = ((x / width).abs().pow(power) + (y / height).abs().pow(power)).clamp_min(1e-12).pow(1.0 / power)
    return (radius - 1.0) * torch.minimum(torch.as_tensor(width), torch.as_tensor(height))


def bump(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """A soft Gaussian spot of height one."""
    return torch.exp(-0.5 * ((x / width) ** 2 + (y / height) ** 2))
