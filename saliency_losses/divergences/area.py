"""How large a part of the image the model's map covers."""

import math

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.prior import Prior
from saliency_losses.divergences.scales import MINMAX

__all__ = ["Area"]


@DIVERGENCES.register("area")
class Area(Prior):
    r"""The area that the model's map covers, to a power.

    .. math:: \Big( \frac{1}{N} \sum_i \max(0, \hat m_i) \Big)^{k}, \qquad
        \hat m = \frac{m - \min m}{\max m - \min m}

    A small value asks for a small focus. A flat or empty map counts as all zeros: it gives 0 and no gradient.

    Args:
        power: :math:`k`, at least 1; 2 is the original's default.
        normalize: A normaliser to at most 1, or its name; ``"none"`` for maps that are in [0, 1] already, such as the
            attention after a sigmoid of the original.

    Raises:
        ValueError: An option has an unknown value, or the power is below 1.

    Example:
        >>> import torch
        >>> Area()(torch.tensor([[0.0, 0.0, 0.0, 8.0], [0.0, 8.0, 8.0, 8.0]]))
        tensor([0.0625, 0.5625])

    Reference:
        Li, Wang, Verma, Nakashima, Kawasaki and Nagahara, SCOUTER: Slot Attention-based Classifier for Explainable
        Image Recognition, ICCV 2021.
    """

    def __init__(self, *, power: float = 2.0, normalize: str | Normalizer = MINMAX) -> None:
        super().__init__(normalize=normalize)
        if not 1 <= power < math.inf:
            raise ValueError(f"power must be finite and at least 1, got {power}.")
        self.power = power

    def measure(self, model: Tensor) -> Tensor:
        """See :meth:`Prior.measure`."""
        return model.relu().mean(1).pow(self.power)
