"""Bringing maps to a common scale: pure functions on flattened maps (B, N).

Whether a map is flat is judged relative to its own size, so that scaling a map changes nothing: a map whose values
differ by less than ``eps`` times its largest magnitude is flat. One whose magnitudes are below the smallest normal
number is empty. Where there is nothing to divide by, as for an empty map's size or a flat map's spread, maps are
divided by infinity: the result is finite, each function says which, and the gradient zero. A map that holds NaN or
infinities is not flat: NaN comes out. ``known`` (B, N) weighs the cells; cells with weight zero take no part and come
out as zero. ``floor`` is added to what is divided by, as some published code does; the result then depends on the map's
scale.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "FLAT",
    "Scope",
    "l2",
    "log_softmax",
    "magnitude",
    "max_abs",
    "minmax",
    "none",
    "standardize",
    "sum_to_one",
    "within_unit",
]

Scope = Literal["sample", "batch"]

FLAT = 1e-6


def none(x: Tensor, known: Tensor | None = None) -> Tensor:
    """The map as it is, unknown cells zero."""
    return x if known is None else torch.where(known > 0, x, 0.0)


def minmax(
    x: Tensor,
    known: Tensor | None = None,
    *,
    scope: Scope = "sample",
    eps: float = FLAT,
    floor: float = 0.0,
    detach: bool = False,
) -> Tensor:
    """From 0 at the smallest to 1 at the largest value; a flat map becomes zeros.

    Args:
        x: (B, N).
        known: Weights of the cells, (B, N).
        scope: Whether extremes are each map's own or the batch's.
        eps: Relative flatness.
        floor: Added to the span, in units of the map.
        detach: Take the extremes as constants.

    Example:
        >>> minmax(torch.tensor([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]]))
        tensor([[0.0000, 0.2500, 1.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    size = magnitude(x, known, scope)
    x = none(x / size, known)
    low, high = _extremes(x.detach() if detach else x, known, scope)
    span = high - low
    return none((x - low) / torch.where(span <= eps, torch.inf, span + floor / size), known)


def max_abs(
    x: Tensor,
    known: Tensor | None = None,
    *,
    scope: Scope = "sample",
    floor: float = 0.0,
    detach: bool = False,
) -> Tensor:
    """Divided by the largest magnitude; an all-zero map stays zero.

    Example:
        >>> max_abs(torch.tensor([[1.0, -4.0], [0.0, 0.0]]))
        tensor([[ 0.2500, -1.0000],
                [ 0.0000,  0.0000]])
    """
    size = magnitude(x, known, scope)
    x = none(x / size, known)
    largest = _reduce(torch.amax, (x.detach() if detach else x).abs(), scope)
    return x / torch.where(largest <= FLAT, torch.inf, largest + floor / size)


def l2(
    x: Tensor,
    known: Tensor | None = None,
    *,
    scope: Scope = "sample",
    floor: float = 0.0,
    detach: bool = False,
) -> Tensor:
    """Divided by the Euclidean norm; an all-zero map stays zero.

    Example:
        >>> l2(torch.tensor([[3.0, -4.0], [0.0, 0.0]]))
        tensor([[ 0.6000, -0.8000],
                [ 0.0000,  0.0000]])
    """
    size = magnitude(x, known, scope)
    x = none(x / size, known)
    squares = x.square() if known is None else x.square() * known
    total = _reduce(torch.sum, squares, scope)
    norm = torch.where(total == 0, torch.inf, total).sqrt()
    return x / ((norm.detach() if detach else norm) + floor / size)


def sum_to_one(
    x: Tensor, known: Tensor | None = None, *, minimum: float = 0.0, eps: float = FLAT, detach: bool = False
) -> Tensor:
    """A distribution; an empty map becomes uniform.

    A map with values below ``minimum`` is shifted to it first; one that is flat but for its shift becomes uniform too.

    Example:
        >>> sum_to_one(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
        tensor([[0.2500, 0.7500],
                [0.5000, 0.5000]])
    """
    size = magnitude(x, known, "sample")
    x = x / size
    low, high = _extremes(x.detach() if detach else x, known, "sample")
    gap = (minimum / size).clamp_max(1e20) - low
    shift = torch.where(gap > 0.0, gap, 0.0)
    empty = high.detach() + shift.detach() <= eps
    mass = x / torch.where(empty, torch.inf, torch.ones_like(low)) + torch.where(empty, 1.0, shift)
    if known is not None:
        mass = none(mass, known) * known
    total = mass.sum(1, keepdim=True)
    total = torch.where(total == 0, 1.0, total)
    return mass / (total.detach() if detach else total)


def standardize(
    x: Tensor,
    known: Tensor | None = None,
    *,
    scope: Scope = "sample",
    eps: float = FLAT,
    floor: float = 0.0,
    detach: bool = False,
) -> Tensor:
    """Mean zero and (population) standard deviation one; a flat map becomes zeros.

    Example:
        >>> standardize(torch.tensor([[1.0, 3.0], [2.0, 2.0]])).round(decimals=4)
        tensor([[-1.,  1.],
                [ 0.,  0.]])
    """
    size = magnitude(x, known, scope)
    x = none(x / size, known)
    count = torch.full_like(size, x.numel() / size.numel()) if known is None else _reduce(torch.sum, known, scope)
    count = torch.where(count > 0, count, 1.0)
    mean = _reduce(torch.sum, x if known is None else x * known, scope) / count
    centred = none(x - (mean.detach() if detach else mean), known)
    squares = centred.square()
    variance = _reduce(torch.sum, squares if known is None else squares * known, scope) / count
    deviation = torch.where(variance <= eps**2, torch.inf, variance).sqrt()
    if detach:
        deviation = deviation.detach()
    return centred / (deviation + floor / size)


def log_softmax(x: Tensor, known: Tensor | None = None) -> Tensor:
    """The logarithm of the distribution proportional to ``exp(x)``, over the known cells (others come out as 0).

    Example:
        >>> log_softmax(torch.tensor([[0.0, 0.0]])).exp()
        tensor([[0.5000, 0.5000]])
    """
    lowest = torch.finfo(x.dtype).min
    inside = None if known is None else known > 0
    if inside is not None:
        x = torch.where(inside, x, lowest)
    x = x - x.detach().amax(1, keepdim=True)
    if known is None or inside is None:
        return x.log_softmax(1).clamp_min(lowest)
    x = torch.where(inside, x + torch.where(inside, known, 1.0).log(), lowest)
    return torch.where(inside, x.log_softmax(1).clamp_min(lowest), 0.0)


def within_unit(x: Tensor) -> Tensor:
    """``x`` clamped to [0, 1]; at the bounds gradients pass, which ``clamp`` decides by the version of PyTorch.

    Example:
        >>> within_unit(torch.tensor([-1.0, 0.5, 2.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    return torch.where(x < 0.0, 0.0, torch.where(x > 1.0, 1.0, x))


def _reduce(find: Callable[..., Tensor], x: Tensor, scope: Scope) -> Tensor:
    return find(x, (0, 1) if scope == "batch" else (1,), keepdim=True)


def _extremes(x: Tensor, known: Tensor | None, scope: Scope) -> tuple[Tensor, Tensor]:
    """Smallest and largest value; both 0 where nothing is known."""
    if known is None:
        return _reduce(torch.amin, x, scope), _reduce(torch.amax, x, scope)
    low = _reduce(torch.amin, torch.where(known > 0, x, torch.inf), scope)
    high = _reduce(torch.amax, torch.where(known > 0, x, -torch.inf), scope)
    nothing = _reduce(torch.amax, known, scope) <= 0
    return torch.where(nothing, 0.0, low), torch.where(nothing, 0.0, high)


def magnitude(x: Tensor, known: Tensor | None = None, scope: Scope = "sample") -> Tensor:
    """The largest magnitude, a constant, (B, 1) or (1, 1), to divide by; 1 for an empty map.

    What is divided by it neither overflows nor vanishes when squared and summed.

    Example:
        >>> magnitude(torch.tensor([[1.0, -4.0], [0.0, 0.0]]))
        tensor([[4.],
                [1.]])
    """
    low, high = _extremes(x.detach(), known, scope)
    size = torch.maximum(low.abs(), high.abs())
    return torch.where(size < torch.finfo(x.dtype).tiny, 1.0, size)
