"""Normalisers by name: what is done to a map before it is compared."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from saliency_losses.divergences.normalize import (
    FLAT,
    Scope,
    l2,
    log_softmax,
    max_abs,
    minmax,
    none,
    standardize,
    sum_to_one,
)
from saliency_losses.registry import Registry

__all__ = [
    "L2",
    "MAX_ABS",
    "MINMAX",
    "NORMALIZERS",
    "RAW",
    "SOFTMAX",
    "SUM",
    "MaxAbs",
    "MinMax",
    "Normalizer",
    "Raw",
    "Softmax",
    "SumToOne",
    "ZScore",
    "ZScoreReLU",
    "create_normalizer",
    "list_normalizers",
    "register_normalizer",
]


@dataclass(frozen=True, repr=False, kw_only=True)
class Normalizer(ABC):
    r"""What is done to a map before it is compared: a value, equal to another of the same options.

    Subclass it as a frozen dataclass whose fields are the options. Options of the same name mean the same everywhere:
    ``scope`` is ``"batch"`` where statistics are those of all maps in this process's batch (processes do not share
    them); a map whose values differ by less than ``eps`` times its largest magnitude is flat, and gets no gradient;
    ``floor`` is added to what is divided by, in units of the map, as some published code does (the result then depends
    on the map's scale); ``detach`` takes the statistics as constants, so that the gradient ignores how they move.
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
        raise ValueError(f"{self} gives no distribution over positions; use 'softmax' or 'sum'.")

    def __repr__(self) -> str:
        chosen = (f for f in fields(self) if getattr(self, f.name) != f.default)
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in chosen)})"


NORMALIZERS: Registry[Normalizer] = Registry("normalizer", Normalizer)
register_normalizer = NORMALIZERS.register


@NORMALIZERS.register("none")
@dataclass(frozen=True, repr=False, kw_only=True)
class Raw(Normalizer):
    """The map as it is."""

    def __call__(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :class:`Normalizer`."""
        return none(x, known)


@NORMALIZERS.register("minmax")
@dataclass(frozen=True, repr=False, kw_only=True)
class MinMax(Normalizer):
    r""":math:`(x - \min x) / (\max x - \min x)`; a flat map becomes zeros.

    Example:
        >>> MinMax()(torch.tensor([[1.0, 2.0, 5.0]]))
        tensor([[0.0000, 0.2500, 1.0000]])
    """

    scope: Scope = "sample"
    eps: float = FLAT
    floor: float = 0.0
    detach: bool = False

    def __call__(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :class:`Normalizer`."""
        return minmax(x, known, scope=self.scope, eps=self.eps, floor=self.floor, detach=self.detach)


@NORMALIZERS.register("max_abs")
@dataclass(frozen=True, repr=False, kw_only=True)
class MaxAbs(Normalizer):
    r""":math:`x / \max |x|`; an all-zero map stays zero.

    Attributes:
        positive: Whether negative values count as zero: :math:`x^+ / \max x^+`.

    Example:
        >>> MaxAbs()(torch.tensor([[1.0, -4.0]]))
        tensor([[ 0.2500, -1.0000]])
        >>> MaxAbs(positive=True)(torch.tensor([[1.0, 2.0, -4.0]]))
        tensor([[0.5000, 1.0000, 0.0000]])
    """

    scope: Scope = "sample"
    floor: float = 0.0
    detach: bool = False
    positive: bool = False

    def __call__(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :class:`Normalizer`."""
        x = x.relu() if self.positive else x
        return max_abs(x, known, scope=self.scope, floor=self.floor, detach=self.detach)


@NORMALIZERS.register("l2")
@dataclass(frozen=True, repr=False, kw_only=True)
class L2(Normalizer):
    r""":math:`x / \|x\|_2`; an all-zero map stays zero.

    Example:
        >>> L2()(torch.tensor([[3.0, -4.0]]))
        tensor([[ 0.6000, -0.8000]])
    """

    scope: Scope = "sample"
    floor: float = 0.0
    detach: bool = False

    def __call__(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :class:`Normalizer`."""
        return l2(x, known, scope=self.scope, floor=self.floor, detach=self.detach)


@NORMALIZERS.register("zscore")
@dataclass(frozen=True, repr=False, kw_only=True)
class ZScore(Normalizer):
    r""":math:`(x - \bar x) / \sigma_x` with the population's deviation; a flat map becomes zeros.

    Example:
        >>> ZScore()(torch.tensor([[1.0, 3.0]])).round(decimals=4)
        tensor([[-1.,  1.]])
    """

    scope: Scope = "sample"
    eps: float = FLAT
    floor: float = 0.0
    detach: bool = False

    def __call__(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :class:`Normalizer`."""
        return standardize(x, known, scope=self.scope, eps=self.eps, floor=self.floor, detach=self.detach)


@NORMALIZERS.register("zscore_relu")
@dataclass(frozen=True, repr=False, kw_only=True)
class ZScoreReLU(Normalizer):
    r"""What stands above the mean, in deviations: :math:`\max(0, (x - \bar x) / \sigma_x)`; a flat map becomes zeros.

    Example:
        >>> ZScoreReLU()(torch.tensor([[1.0, 3.0]])).round(decimals=4)
        tensor([[0., 1.]])

    Reference:
        Fel, Felipe, Linsley and Serre, Harmonizing the object recognition strategies of deep neural networks with
        humans, NeurIPS 2022.
    """

    scope: Scope = "sample"
    eps: float = FLAT
    floor: float = 0.0
    detach: bool = False

    def __call__(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :class:`Normalizer`."""
        return standardize(x, known, scope=self.scope, eps=self.eps, floor=self.floor, detach=self.detach).relu()


@NORMALIZERS.register("sum")
@dataclass(frozen=True, repr=False, kw_only=True)
class SumToOne(Normalizer):
    r"""A distribution over positions, :math:`x / \sum x`; an empty map becomes uniform.

    Attributes:
        minimum: A map with values below it is shifted to it first, in units of the map.
        eps: A map that is flat to this share of its magnitude once shifted is uniform.
        log_floor: Added to each probability where its logarithm is taken.
        detach: Take shift and sum as constants.

    Example:
        >>> SumToOne()(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
        tensor([[0.2500, 0.7500],
                [0.5000, 0.5000]])
    """

    minimum: float = 0.0
    eps: float = FLAT
    log_floor: float = 1e-8
    detach: bool = False
    distribution: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.minimum):
            raise ValueError(f"minimum must be finite, got {self.minimum}.")

    def __call__(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :class:`Normalizer`."""
        return sum_to_one(x, known, minimum=self.minimum, eps=self.eps, detach=self.detach)

    def log(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :meth:`Normalizer.log`."""
        logs = (self(x, known) + max(self.log_floor, torch.finfo(x.dtype).tiny)).log()
        return logs if known is None else torch.where(known > 0, logs, 0.0)


@NORMALIZERS.register("softmax")
@dataclass(frozen=True, repr=False, kw_only=True)
class Softmax(Normalizer):
    r"""A distribution over positions, :math:`\operatorname{softmax}((x - \bar x) / (\tau \sigma_x))`.

    The map is standardised first, so that the distribution does not depend on its scale and extractors, whose maps
    differ by orders of magnitude, can be swapped. A flat map becomes uniform.

    Attributes:
        temperature: :math:`\tau`, in deviations of the map; in its units where it is not standardised.
        standardize: Whether to.
        eps: A map whose deviation is below this share of its largest magnitude is flat, where it is standardised.
        detach: Take mean and deviation as constants.

    Example:
        >>> Softmax()(torch.tensor([[1.0, 1.0]]))
        tensor([[0.5000, 0.5000]])
    """

    temperature: float = 1.0
    standardize: bool = True
    eps: float = FLAT
    detach: bool = False
    distribution: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}.")

    def __call__(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :class:`Normalizer`."""
        shares = self.log(x, known).exp()
        return shares if known is None else torch.where(known > 0, shares, 0.0)

    def log(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """See :meth:`Normalizer.log`."""
        if self.standardize:
            x = standardize(x, known, eps=self.eps, detach=self.detach)
        return log_softmax(x / self.temperature, known)


RAW, MINMAX, MAX_ABS, SUM, SOFTMAX = Raw(), MinMax(), MaxAbs(), SumToOne(), Softmax()


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
