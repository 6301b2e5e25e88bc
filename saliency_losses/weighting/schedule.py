"""How much of the saliency term counts in which epoch."""

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ConstantUntil", "Cosine", "Linear", "OffUntil", "Schedule", "factor_at"]

Schedule = Callable[[int], float]
"""The epoch, counted from 0, to a factor of the saliency term's weight. Picklable, so a function with a name."""


@dataclass(frozen=True)
class OffUntil:
    """Nothing for the first ``epochs`` epochs, then all.

    Example:
        >>> [OffUntil(2)(epoch) for epoch in range(4)]
        [0.0, 0.0, 1.0, 1.0]
    """

    epochs: int

    def __post_init__(self) -> None:
        _check_count("epochs", self.epochs, 0)

    def __call__(self, epoch: int) -> float:
        """The factor in this epoch."""
        return float(epoch >= self.epochs)


@dataclass(frozen=True)
class ConstantUntil:
    """All for the first ``epochs`` epochs, then nothing.

    Example:
        >>> [ConstantUntil(2)(epoch) for epoch in range(4)]
        [1.0, 1.0, 0.0, 0.0]
    """

    epochs: int

    def __post_init__(self) -> None:
        _check_count("epochs", self.epochs, 0)

    def __call__(self, epoch: int) -> float:
        """The factor in this epoch."""
        return float(epoch < self.epochs)


@dataclass(frozen=True)
class Linear:
    """From ``start`` to ``stop`` on a straight line that begins in epoch ``first`` and ends ``epochs`` later.

    Example:
        >>> [Linear(0.0, 1.0, 2, first=1)(epoch) for epoch in range(5)]
        [0.0, 0.0, 0.5, 1.0, 1.0]
    """

    start: float
    stop: float
    epochs: int
    first: int = 0

    def __post_init__(self) -> None:
        _check_ramp(self)

    def __call__(self, epoch: int) -> float:
        """The factor in this epoch."""
        return _between(self, _progress(self, epoch))


@dataclass(frozen=True)
class Cosine:
    """From ``start`` to ``stop`` on half a cosine wave that begins in epoch ``first`` and ends ``epochs`` later.

    Example:
        >>> [round(Cosine(1.0, 0.0, 4)(epoch), 3) for epoch in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    start: float
    stop: float
    epochs: int
    first: int = 0

    def __post_init__(self) -> None:
        _check_ramp(self)

    def __call__(self, epoch: int) -> float:
        """The factor in this epoch."""
        return _between(self, (1.0 - math.cos(math.pi * _progress(self, epoch))) / 2.0)


def factor_at(schedule: Schedule, epoch: int, most: float = math.inf) -> float:
    """The schedule's factor, checked.

    Args:
        schedule: The schedule.
        epoch: Counted from 0.
        most: The largest factor that makes sense.

    Raises:
        TypeError: The schedule does not give a number.
        ValueError: It gives one that is negative, not finite, or too large.
    """
    factor = schedule(epoch)
    try:
        factor = float(factor)
    except (TypeError, ValueError) as error:
        raise TypeError(f"schedule must map an epoch to a number, got {factor!r} for epoch {epoch}.") from error
    if not (0.0 <= factor < math.inf and factor <= most * (1.0 + 1e-9)):
        upper = "and finite" if most == math.inf else f"and at most 1 / (1 - alpha) = {most:g}"
        raise ValueError(f"schedule must give factors that are not negative {upper}, got {factor} for epoch {epoch}.")
    return factor


def _progress(ramp: Linear | Cosine, epoch: int) -> float:
    return min(max((epoch - ramp.first) / ramp.epochs, 0.0), 1.0)


def _between(ramp: Linear | Cosine, progress: float) -> float:
    return (1.0 - progress) * ramp.start + progress * ramp.stop


def _check_ramp(ramp: Linear | Cosine) -> None:
    for name, value in (("start", ramp.start), ("stop", ramp.stop)):
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {value}.")
    _check_count("epochs", ramp.epochs, 1)
    _check_count("first", ramp.first, 0)


def _check_count(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
