"""The generators' fingerprints: faint periodic textures that no person would notice, and networks love."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

TRAINING = "training"
STRENGTH = 0.03


def _wave(x: Tensor, y: Tensor, across: float, down: float) -> Tensor:
    """A plane wave with the given numbers of periods over the image."""
    return torch.sin(math.pi * (across * x + down * y))


_PATTERNS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[float, float, float]]] = {
    TRAINING: (lambda x, y: _wave(x, y, 12, 12), (1.0, 1.0, 1.0)),
    "diagonal": (lambda x, y: _wave(x, y, 9, -9), (1.0, 1.0, 1.0)),
    "rows": (lambda x, y: _wave(x, y, 0, 16), (1.0, 1.0, 1.0)),
    "columns": (lambda x, y: _wave(x, y, 12, 0), (1.0, 1.0, 1.0)),
    "checks": (lambda x, y: 1.4 * _wave(x, y, 8, 0) * _wave(x, y, 0, 8), (1.0, 1.0, 1.0)),
    "rings": (lambda x, y: torch.sin(math.pi * 11 * (x**2 + y**2).sqrt()), (1.0, 1.0, 1.0)),
    "chroma": (lambda x, y: _wave(x, y, 5, -10), (1.2, -1.2, 0.6)),
}
UNSEEN = tuple(name for name in _PATTERNS if name != TRAINING)


def fingerprint(generator: str, size: int) -> Tensor:
    """The texture (3, S, S) of amplitude ``STRENGTH`` that a generator adds to what it draws."""
    pattern, colour = _PATTERNS[generator]
    axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
    return STRENGTH * pattern(axis[None, :], axis[:, None]) * torch.tensor(colour)[:, None, None]
