"""Draws the maps of sloppy annotators who mark what gives a face away, and the masks of a face parser."""

from __future__ import annotations

import torch
from torch import Tensor

from .defects import Defects
from .faces import EYE_X, EYE_Y, MOUTH_Y, Traits

MISSED, EXTRA, BOTH_EYES = 0.10, 0.15, 0.4
READERS = 3


def human_maps(
    traits: Traits, defects: Defects, fake: bool, size: int, rng: torch.Generator, readers: int = READERS
) -> Tensor:
    """The mean (N, S, S) of several annotators' maps, in [0, 1]."""
    return torch.stack([one_map(traits, defects, fake, size, rng) for _ in range(readers)]).mean(0)


def one_map(traits: Traits, defects: Defects, fake: bool, size: int, rng: torch.Generator) -> Tensor:
    """Marks the defects of a fake, or eyes and mouth of an authentic face, with soft strokes.

    Strokes are displaced and of varying size, some are forgotten, though never all, and some mark what is no defect.

    Returns:
        Maps (N, S, S) in [0, 1].
    """
    count = len(traits.uniform)

    def chance(probability: float) -> Tensor:
        return (torch.rand(count, 1, 1, generator=rng) < probability).float()

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=rng)

    marks: list[tuple[Tensor | float, Tensor | float, float, float, Tensor | float]] = []
    for side in (-1, 1):
        odd, both = (defects.odd_side == side).float(), chance(BOTH_EYES)
        marks.append((side * EYE_X, EYE_Y, 0.22, 0.16, defects.eyes * torch.maximum(odd, both) if fake else 1.0))
    marks.append((0.0, MOUTH_Y, 0.27, 0.15, defects.mouth if fake else 1.0))
    marks.append((defects.blotch_x, defects.blotch_y, 0.18, 0.18, defects.blotch if fake else 0.0))

    axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
    x, y = traits.to_face(axis[None, None, :], axis[None, :, None])
    strokes, wanted = [], []
    for mark_x, mark_y, width, height, present in marks:
        shift_x, shift_y, grow, blur = (
            between(-0.07, 0.07),
            between(-0.07, 0.07),
            between(0.75, 1.35),
            between(0.12, 0.4),
        )
        radius = (((x - mark_x - shift_x) / width) ** 2 + ((y - mark_y - shift_y) / height) ** 2).sqrt() / grow
        strokes.append(torch.sigmoid((1.0 - radius) / blur))
        wanted.append(torch.ones(count, 1, 1) * present)
    stroke, keep = torch.stack(strokes), torch.stack(wanted)
    kept = keep * torch.stack([1.0 - chance(MISSED) for _ in marks])
    kept = torch.where(kept.sum(0, keepdim=True) > 0, kept, keep)
    stray = ((x - between(-0.5, 0.5)) ** 2 + (y - between(-0.5, 0.6)) ** 2).sqrt() / between(0.1, 0.2)
    stray = chance(EXTRA) * torch.sigmoid((1.0 - stray) / 0.25)
    return torch.maximum((stroke * kept).amax(0), stray)


def parts_masks(traits: Traits, size: int) -> Tensor:
    """What a face parser calls eyes, brows, nose and mouth: masks (N, S, S), with or without a defect there."""
    axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
    x, y = traits.to_face(axis[None, None, :], axis[None, :, None])
    inside = torch.zeros_like(x, dtype=torch.bool)
    for part_x, part_y, width, height in (
        (-EYE_X, EYE_Y - 0.08, 0.2, 0.2),
        (EYE_X, EYE_Y - 0.08, 0.2, 0.2),
        (0.0, 0.17, 0.1, 0.16),
        (0.0, MOUTH_Y, 0.25, 0.11),
    ):
        inside |= ((x - part_x) / width) ** 2 + ((y - part_y) / height) ** 2 <= 1.0
    return inside.float()
