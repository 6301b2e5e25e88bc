"""Normalisers that bring maps to a common scale."""

from dataclasses import dataclass

from torch import Tensor

from saliency_losses.divergences.normalize import FLAT, Scope, l2, max_abs, minmax, none, standardize
from saliency_losses.divergences.normalizer import NORMALIZERS, Normalizer

__all__ = ["L2", "MAX_ABS", "MINMAX", "RAW", "MaxAbs", "MinMax", "Raw", "ZScore", "ZScoreReLU"]


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
        >>> import torch
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
        >>> import torch
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
        >>> import torch
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
        >>> import torch
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
        >>> import torch
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


RAW, MINMAX, MAX_ABS = Raw(), MinMax(), MaxAbs()
