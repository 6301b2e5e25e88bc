"""Normalisers that make a map a distribution over its positions."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from saliency_losses.divergences.normalize import FLAT, log_softmax, standardize, sum_to_one
from saliency_losses.divergences.normalizer import NORMALIZERS, Normalizer

__all__ = ["SOFTMAX", "SUM", "Softmax", "SumToOne"]


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


SUM, SOFTMAX = SumToOne(), Softmax()
