"""The generators' fingerprints: faint periodic textures that no person would notice, and networks love."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

STRENGTH = 0.03
FAMILIES = ("diagonal", "rows", "columns", "checks", "rings", "chroma")


@dataclass(frozen=True)
class Generator:
    """Who drew a synthetic face.

    Attributes:
        name: What tables call it.
        family: The kind of its texture.
        across: Periods of the texture over the image, to the right.
        down: The same downwards.
        colour: How strongly each channel takes part.
    """

    name: str
    family: str
    across: float
    down: float
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def fingerprint(self, size: int) -> Tensor:
        """The texture (3, S, S) of amplitude ``STRENGTH`` that it leaves."""
        axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
        x, y = axis[None, :], axis[:, None]
        if self.family == "checks":
            pattern = 1.4 * torch.sin(math.pi * self.across * x) * torch.sin(math.pi * self.down * y)
        elif self.family == "rings":
            pattern = torch.sin(math.pi * self.across * (x**2 + y**2).sqrt())
        else:
            pattern = torch.sin(math.pi * (self.across * x + self.down * y))
        return STRENGTH * pattern * torch.tensor(self.colour)[:, None, None]


TRAINING = Generator("training", "weave", 12, 12)


def unseen(seed: int) -> list[Generator]:
    """One generator of each family, none of which is like that of training; which, is a function of the seed."""
    draw = random.Random(seed)

    def periods(low: int, high: int) -> float:
        return float(draw.randint(low, high))

    tint = draw.uniform(1.0, 1.3)
    return [
        Generator("diagonal", "diagonal", periods(7, 13), -periods(7, 13)),
        Generator("rows", "rows", 0.0, periods(12, 18)),
        Generator("columns", "columns", periods(10, 18), 0.0),
        Generator("checks", "checks", periods(7, 12), periods(7, 12)),
        Generator("rings", "rings", periods(9, 15), 0.0),
        Generator("chroma", "chroma", periods(4, 9), -periods(8, 13), (tint, -tint, tint / 2)),
    ]
