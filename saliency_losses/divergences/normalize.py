"""Bringing maps to a common scale: pure functions on flattened maps (B, N).

Whether a map is flat is judged relative to its own size, so that scaling a map changes nothing: a map whose values
differ by less than ``eps`` times its largest magnitude is flat. Flat and empty maps have defined, finite results and a
zero gradient; each function says which. A map that holds NaN or infinities is not flat: NaN comes out. ``known``
(B, N) weighs the cells; cells with weight zero take no part and come out as zero.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = [
    "FLAT",
    "Normalization",
    "Scope",
    "check_normalization",
    "log_softmax",
    "max_abs",
    "minmax",
    "none",
    "normalize",
    "standardize",
    "sum_to_one",
]

Normalization = Literal["none", "minmax", "max_abs"]
Scope = Literal["sample", "batch"]

FLAT = 1e-6


def none(x: Tensor, known: Tensor | None = None) -> Tensor:
    """The map as it is, unknown cells zero."""
    return x if known is None else torch.where(known > 0, x, 0.0)


def minmax(
    x: Tensor, known: Tensor | None = None, *, scope: Scope = "sample", eps: float = FLAT, detach: bool = False
) -> Tensor:
    """From 0 at the smallest to 1 at the largest value; a flat map becomes zeros.

    Args:
        x: (B, N).
        known: Weights of the cells, (B, N).
        scope: Whether extremes are each map's own or the batch's.
        eps: Relative flatness.
        detach: Take the extremes as constants.

    Example:
        >>> minmax(torch.tensor([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]]))
        tensor([[0.0000, 0.2500, 1.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    low = _extreme(x, known, scope, torch.amin, float("inf"))
    high = _extreme(x, known, scope, torch.amax, float("-inf"))
    if detach:
        low, high = low.detach(), high.detach()
    span = high - low
    flat = (span < 0) | ((span <= eps * torch.maximum(low.abs(), high.abs())) & (span < float("inf")))
    inside = ~flat if known is None else ~flat & (known > 0)
    return torch.where(inside, (x - low) / torch.where(flat, 1.0, span), 0.0)


def max_abs(x: Tensor, known: Tensor | None = None, *, scope: Scope = "sample", detach: bool = False) -> Tensor:
    """Divided by the largest magnitude; an all-zero map stays zero.

    Example:
        >>> max_abs(torch.tensor([[1.0, -4.0], [0.0, 0.0]]))
        tensor([[ 0.2500, -1.0000],
                [ 0.0000,  0.0000]])
    """
    x = none(x, known)
    size = _extreme(x.abs(), None, scope, torch.amax, 0.0)
    if detach:
        size = size.detach()
    empty = size == 0
    return torch.where(empty, 0.0, x / torch.where(empty, 1.0, size))


def sum_to_one(x: Tensor, known: Tensor | None = None) -> Tensor:
    """A distribution; a map with negative values is shifted to zero first, an empty one becomes uniform.

    Example:
        >>> sum_to_one(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
        tensor([[0.2500, 0.7500],
                [0.5000, 0.5000]])
    """
    weight = torch.ones_like(x) if known is None else known
    lowest = _extreme(x, known, "sample", torch.amin, 0.0).clamp_max(0.0)
    mass = torch.where(weight > 0, x - lowest, 0.0)
    mass = mass / _scale(mass) * weight
    total = mass.sum(1, keepdim=True)
    cells = weight.sum(1, keepdim=True)
    uniform = weight / torch.where(cells > 0, cells, 1.0)
    empty = total == 0
    return torch.where(empty, uniform, mass / torch.where(empty, 1.0, total))


def standardize(x: Tensor, known: Tensor | None = None, *, eps: float = FLAT, detach: bool = False) -> Tensor:
    """Mean zero and (population) standard deviation one; a flat map becomes zeros.

    Example:
        >>> standardize(torch.tensor([[1.0, 3.0], [2.0, 2.0]])).round(decimals=4)
        tensor([[-1.,  1.],
                [ 0.,  0.]])
    """
    weight = torch.ones_like(x) if known is None else known
    x = torch.where(weight > 0, x, 0.0)
    x = x / _scale(x)
    count = weight.sum(1, keepdim=True)
    count = torch.where(count > 0, count, 1.0)
    mean = (x * weight).sum(1, keepdim=True) / count
    centred = torch.where(weight > 0, x - (mean.detach() if detach else mean), 0.0)
    variance = (centred.square() * weight).sum(1, keepdim=True) / count
    flat = variance <= eps**2
    deviation = torch.where(flat, 1.0, variance).sqrt()
    if detach:
        deviation = deviation.detach()
    return torch.where(flat, 0.0, centred / deviation)


def log_softmax(x: Tensor, known: Tensor | None = None) -> Tensor:
    """The logarithm of the distribution proportional to ``exp(x)``, over the known cells (others come out as 0).

    Example:
        >>> log_softmax(torch.tensor([[0.0, 0.0]])).exp()
        tensor([[0.5000, 0.5000]])
    """
    if known is None:
        return x.log_softmax(1)
    inside = known > 0
    x = torch.where(inside, x + torch.where(inside, known, 1.0).log(), torch.finfo(x.dtype).min)
    return torch.where(inside, x.log_softmax(1), 0.0)


def normalize(
    x: Tensor, how: Normalization, known: Tensor | None, *, scope: Scope, eps: float, detach: bool = False
) -> Tensor:
    """``x`` under the normalisation called ``how``."""
    if how == "minmax":
        return minmax(x, known, scope=scope, eps=eps, detach=detach)
    if how == "max_abs":
        return max_abs(x, known, scope=scope, detach=detach)
    return none(x, known)


def check_normalization(how: Normalization, option: str) -> Normalization:
    """``how`` itself, if it is one.

    Raises:
        ValueError: It is not; the message names the option.
    """
    if how not in get_args(Normalization):
        raise ValueError(f"{option} must be one of {', '.join(get_args(Normalization))}, got {how!r}.")
    return how


def _extreme(x: Tensor, known: Tensor | None, scope: Scope, find: Callable[..., Tensor], start: float) -> Tensor:
    if known is not None:
        x = torch.where(known > 0, x, start)
    return find(x, (0, 1) if scope == "batch" else (1,), keepdim=True)


def _scale(x: Tensor) -> Tensor:
    """The largest magnitude, a constant, so that squares neither overflow nor vanish; 1 for an empty map."""
    size = x.detach().abs().amax(1, keepdim=True)
    return torch.where(size > 0, size, 1.0)
