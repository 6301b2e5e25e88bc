"""What a careful person can see in a synthetic face."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Defects:
    """Defects of N faces: three switches, 0 or 1, and how each looks; all (N, 1, 1) unless noted."""

    eyes: Tensor
    mouth: Tensor
    blotch: Tensor
    odd_side: Tensor
    eye_scale: Tensor
    eye_drop: Tensor
    odd_iris: Tensor
    """(N, 3)"""
    mouth_tilt: Tensor
    mouth_wave: Tensor
    blotch_x: Tensor
    blotch_y: Tensor
    blotch_size: Tensor
    blotch_colour: Tensor
    """(N, 3), a factor on the skin's colour"""

    @classmethod
    def sample(cls, count: int, rng: torch.Generator) -> Defects:
        """Draws at least one and mostly two of the three defects for each face."""

        def between(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, 1, 1, generator=rng)

        def sign() -> Tensor:
            return torch.randint(2, (count, 1, 1), generator=rng) * 2.0 - 1.0

        present = torch.rand(count, 3, generator=rng) < 0.6
        sure = torch.nn.functional.one_hot(torch.randint(3, (count,), generator=rng), 3).bool()
        eyes, mouth, blotch = (present | sure).float()[:, :, None, None].unbind(1)
        vivid = torch.tensor([[0.20, 0.62, 0.86], [0.86, 0.56, 0.16], [0.36, 0.72, 0.30], [0.62, 0.30, 0.62]])
        stains = torch.tensor([[0.62, 0.50, 0.62], [0.92, 0.42, 0.36], [0.55, 0.70, 0.45]])
        return cls(
            eyes=eyes,
            mouth=mouth,
            blotch=blotch,
            odd_side=sign(),
            eye_scale=between(1.2, 1.45),
            eye_drop=sign() * between(0.05, 0.11),
            odd_iris=vivid[torch.randint(4, (count,), generator=rng)],
            mouth_tilt=sign() * between(0.25, 0.5),
            mouth_wave=between(0.02, 0.05),
            blotch_x=sign() * between(0.18, 0.34),
            blotch_y=between(0.20, 0.42),
            blotch_size=between(0.10, 0.15),
            blotch_colour=stains[torch.randint(3, (count,), generator=rng)],
        )

    def removed(self) -> Defects:
        """The same faces drawn correctly."""
        nothing = torch.zeros_like(self.eyes)
        return replace(self, eyes=nothing, mouth=nothing, blotch=nothing)
