"""Three sources of authentic photographs, which synthetic faces imitate: each has its tint, its blur and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """How a source photographs.

    Attributes:
        name: What tables call it.
        tint: A factor on each channel.
        softness: Share of a 3 x 3 binomial blur.
        noise: Standard deviation of its noise.
    """

    name: str
    tint: tuple[float, float, float]
    softness: float
    noise: float

    def photograph(self, images: Tensor) -> Tensor:
        """The images (N, 3, S, S) as it takes them, without its noise."""
        tinted = images * torch.tensor(self.tint)[:, None, None]
        kernel = torch.tensor([0.25, 0.5, 0.25])
        weight = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
        padded = torch.nn.functional.pad(tinted, (1, 1, 1, 1), mode="replicate")
        return torch.lerp(tinted, torch.nn.functional.conv2d(padded, weight, groups=3), self.softness)


STUDIO = Camera("studio", (1.0, 1.0, 1.0), 0.0, 0.02)
PHONE = Camera("phone", (1.03, 1.0, 0.94), 0.3, 0.02)
SCANNER = Camera("scanner", (0.96, 0.99, 1.03), 0.15, 0.024)
TRAINING, UNSEEN = (STUDIO, PHONE), (SCANNER,)
