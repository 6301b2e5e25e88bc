"""Pairs of maps that a divergence is tried on."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from saliency_losses.divergences.base import Divergence

__all__ = ["Probe", "draw", "draw_human", "other_sizes", "probe_size", "refuses_sizes", "special"]


class Probe(NamedTuple):
    """Five pairs of maps; there is no human map where a divergence reads none."""

    model: Tensor
    human: Tensor | None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Probe":
        """Both maps changed in the same way."""
        return Probe(change(self.model), None if self.human is None else change(self.human))

    def equals(self, other: "Probe") -> bool:
        """Whether both hold the same numbers."""
        return all(a is None or b is None or torch.equal(a, b) for a, b in zip(self, other, strict=True))


def probe_size(divergence: Divergence) -> tuple[int, ...]:
    """Axes and positions that every part of the divergence is defined on.

    Example:
        >>> from saliency_losses.divergences import MSE
        >>> probe_size(MSE())
        (6, 7)
    """
    parts = [part for _, part in divergence.terms()]
    smallest = max(part.smallest for part in parts)
    ranks = set.intersection(*({1, 2, 3} & set(part.ranks or (1, 2, 3)) for part in parts))
    rank = 2 if 2 in ranks else min(ranks)
    return tuple(max(6, smallest) + axis for axis in range(rank))


def draw(divergence: Divergence, size: tuple[int, ...]) -> Probe:
    """Signed maps of the model and what the divergence compares them with, in float64, (5, *size)."""
    return Probe(torch.randn(5, *size, dtype=torch.float64), draw_human(divergence, size))


def draw_human(divergence: Divergence, size: tuple[int, ...]) -> Tensor | None:
    """Human maps of the kind that the divergence reads, in float64; ``None`` where it reads none."""
    reads = {part.reads for _, part in divergence.terms()} - {"nothing"}
    if not reads:
        return None
    low, high = divergence.human_range
    if "fixations" in reads:
        maps = torch.randint(0, 4, (5, *size)).double() * (torch.rand(5, *size) > 0.7)
        maps.flatten(1)[:, 0] = 1.0
    elif "signed" in reads:
        maps = torch.randint(-1, 2, (5, *size)).double()
        maps.flatten(1)[:, 0] = 1.0
        maps.flatten(1)[:, -1] = -1.0
    else:
        maps = torch.rand(5, *size, dtype=torch.float64)
        maps[0] = maps[0].round()
    return maps.clamp(low, high)


def special(maps: Tensor, *, low: float, high: float) -> Iterator[tuple[str, Tensor]]:
    """Flat, empty and extreme maps in float32 within a range, and one batch that holds them all."""
    maps = maps.float()
    one_hot = torch.zeros_like(maps)
    one_hot.flatten(1)[:, 3] = 1.0
    found = {
        "ordinary": maps,
        "zero": torch.zeros_like(maps),
        "constant": torch.full_like(maps, 0.7),
        "nearly constant": 0.7 + 1e-7 * maps,
        "one-hot": one_hot,
        "tiny": maps * 1e-20,
        "denormal": maps * 1e-41,
        "large": maps * 1e15,
        "negative": -1.0 - maps.abs(),
    }
    for name, some in found.items():
        yield name, some.clamp(low, high)
    yield "mixed", torch.stack([some[index % len(some)] for index, some in enumerate(found.values())]).clamp(low, high)


def refuses_sizes(divergence: Divergence) -> bool:
    """Whether a part of the divergence refuses human maps of another size than the model's."""
    return any(part.sizing == "same" and part.reads != "nothing" for _, part in divergence.terms())


def other_sizes(size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """A larger and a smaller size, neither a multiple nor a divisor."""
    return tuple(2 * side - 1 for side in size), tuple(max(1, side - 2) for side in size)
