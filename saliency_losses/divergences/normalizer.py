"""What a normaliser is: what is done to a map before it is compared."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_args

from torch import Tensor

from saliency_losses.divergences.normalize import Scope
from saliency_losses.registry import Registry

__all__ = [
    "NORMALIZERS",
    "Normalizer",
    "check_distributions",
    "create_normalizer",
    "list_normalizers",
    "register_normalizer",
]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Normalizer(ABC):
    r"""What is done to a map before it is compared: a value, equal to another of the same options.

    Subclass it as a frozen dataclass whose fields are the options. Options of the same name mean the same everywhere:
    ``scope`` is ``"batch"`` where statistics are those of all maps in this process's batch (processes do not share
    them); a map whose values differ by less than ``eps`` times its largest magnitude is flat, and gets no gradient;
    ``floor`` is added to what is divided by, in units of the map, as some published code does (the result then depends
    on the map's scale); ``detach`` takes the statistics as constants, so that the gradient ignores how they move.

    Attributes:
        distribution: Whether it makes a distribution over positions, whose logarithm :meth:`log` gives.
    """

    distribution: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if getattr(self, "scope", "sample") not in get_args(Scope):
            raise ValueError(f"scope must be 'sample' or 'batch', got {getattr(self, 'scope', None)!r}.")
        for name in ("eps", "floor", "log_floor", "temperature"):
            value = getattr(self, name, 0.0)
            if isinstance(value, Tensor):
                raise TypeError(f"{name} must be a number, which is not learned, got {type(value).__name__}.")
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}.")
        if getattr(self, "eps", 0.0) >= 1:
            raise ValueError(f"eps must be below 1, or every map is flat, got {getattr(self, 'eps', 1.0)}.")

    @property
    def per_batch(self) -> bool:
        """Whether what a map becomes depends on the other maps of the batch."""
        return bool(getattr(self, "scope", "sample") == "batch")

    @abstractmethod
    def __call__(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """Maps (B, N) normalised; ``known`` (B, N) weighs the cells, of which those of weight zero take no part."""

    def log(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """The logarithm of the distribution over positions, where the normaliser gives one."""
        own = " It declares to be one: implement log(x, known)." if self.distribution else ""
        raise ValueError(f"{self} gives no distribution over positions; use 'softmax' or 'sum'.{own}")

    def __repr__(self) -> str:
        chosen = (f for f in fields(self) if getattr(self, f.name) != f.default)
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in chosen)})"


NORMALIZERS: Registry[Normalizer] = Registry("normalizer", Normalizer)
register_normalizer = NORMALIZERS.register


def create_normalizer(name: str, **options: Any) -> Normalizer:
    """The normaliser of this name.

    Raises:
        ValueError: Unknown name; the message lists the known ones and suggests the nearest.
        TypeError: The normaliser does not know an option.

    Example:
        >>> create_normalizer("softmax", temperature=0.5)
        Softmax(temperature=0.5)
    """
    return NORMALIZERS.create(name, **options)


def list_normalizers() -> list[str]:
    """The names of all normalisers, those of installed plugins included.

    Example:
        >>> list_normalizers()
        ['l2', 'max_abs', 'minmax', 'none', 'softmax', 'sum', 'zscore', 'zscore_relu']
    """
    return NORMALIZERS.names()


def check_distributions(owner: str, **normalizers: Normalizer) -> None:
    """Refuse normalisers that make no distribution over positions.

    Args:
        owner: Who needs distributions.
        normalizers: By the name of the option.

    Raises:
        ValueError: One makes none; the message names the option.
    """
    for option, normalizer in normalizers.items():
        if not normalizer.distribution:
            raise ValueError(
                f"{option} of {owner} must make a distribution over positions, such as 'softmax' or 'sum', got "
                f"{normalizer}."
            )
