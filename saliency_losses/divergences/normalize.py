"""Bringing maps to a common scale: pure functions on flattened maps (B, N).

Whether a map is flat is judged relative to its own size, so that scaling a map changes nothing: a map whose values
differ by less than ``eps`` times its largest magnitude is flat. One whose magnitudes are below the smallest normal
number is empty. Flat and empty maps have defined, finite results and a zero gradient; each function says which. A map
that holds NaN or infinities is not flat: NaN comes out. ``known`` (B, N) weighs the cells; cells with weight zero take
no part and come out as zero. ``floor`` is added to what is divided by, as some published code does; the result then
depends on the map's scale.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

__all__ = ["FLAT", "Scope", "l2", "log_softmax", "max_abs", "minmax", "none", "standardize", "sum_to_one"]

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
    size = _size(x, known, scope)
    x = none(x / size, known)
    low = _extreme(x, known, scope, torch.amin, float("inf"))
    high = _extreme(x, known, scope, torch.amax, float("-inf"))
    if detach:
        low, high = low.detach(), high.detach()
    span = high - low
    flat = span <= eps
    scaled = (x - low) / torch.where(flat, 1.0, span + floor / size)
    return torch.where(~flat if known is None else ~flat & (known > 0), scaled, 0.0)


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
    size = _size(x, known, scope)
    x = none(x / size, known)
    largest = _extreme(x.abs(), None, scope, torch.amax, 0.0)
    if detach:
        largest = largest.detach()
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
    size = _size(x, known, scope)
    x = none(x / size, known)
    squares = x.square() if known is None else x.square() * known
    total = _sum(squares, scope)
    empty = total == 0
    norm = torch.where(empty, 1.0, total).sqrt()
    return x / torch.where(empty, torch.inf, (norm.detach() if detach else norm) + floor / size)


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
    weight = torch.ones_like(x) if known is None else known
    size = _size(x, known, "sample")
    x, least = x / size, (minimum / size).clamp_max(1e20)
    shift = (least - _extreme(x, known, "sample", torch.amin, float("inf"))).clamp_min(0.0)
    mass = torch.where(weight > 0, x + (shift.detach() if detach else shift), 0.0)
    empty = mass.detach().amax(1, keepdim=True) <= eps
    mass = mass * weight
    total = mass.sum(1, keepdim=True)
    cells = weight.sum(1, keepdim=True)
    uniform = weight / torch.where(cells > 0, cells, 1.0)
    total = torch.where(empty, 1.0, total)
    return torch.where(empty, uniform, mass / (total.detach() if detach else total))


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
    size = _size(x, known, scope)
    x = none(x / size, known)
    count = x.new_tensor(x.numel() if scope == "batch" else x.shape[1]) if known is None else _sum(known, scope)
    count = torch.where(count > 0, count, 1.0)
    mean = _sum(x if known is None else x * known, scope) / count
    centred = none(x - (mean.detach() if detach else mean), known)
    squares = centred.square()
    variance = _sum(squares if known is None else squares * known, scope) / count
    flat = variance <= eps**2
    deviation = torch.where(flat, 1.0, variance).sqrt()
    if detach:
        deviation = deviation.detach()
    return torch.where(flat, 0.0, centred / (deviation + floor / size))


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
    x = (x - x.detach().amax(1, keepdim=True)).clamp_min(lowest)
    if known is None or inside is None:
        return x.log_softmax(1).clamp_min(lowest)
    x = torch.where(inside, x + torch.where(inside, known, 1.0).log(), lowest)
    return torch.where(inside, x.log_softmax(1).clamp_min(lowest), 0.0)


def _extreme(x: Tensor, known: Tensor | None, scope: Scope, find: Callable[..., Tensor], start: float) -> Tensor:
    if known is not None:
        x = torch.where(known > 0, x, start)
    return find(x, (0, 1) if scope == "batch" else (1,), keepdim=True)


def _sum(x: Tensor, scope: Scope) -> Tensor:
    return x.sum((0, 1) if scope == "batch" else 1, keepdim=True)


def _size(x: Tensor, known: Tensor | None, scope: Scope) -> Tensor:
    """The largest magnitude, a constant, so that nothing after overflows or vanishes; 1 for an empty map."""
    size = _extreme(none(x.detach(), known).abs(), None, scope, torch.amax, 0.0)
    return torch.where(size < torch.finfo(x.dtype).tiny, 1.0, size)
