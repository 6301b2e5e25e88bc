"""How spread out the model's map is: its entropy as a distribution."""

import math

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES
from saliency_losses.divergences.distributions import SOFTMAX
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.prior import Prior

__all__ = ["Entropy", "normalized_entropy"]


def normalized_entropy(logs: Tensor) -> Tensor:
    r""":math:`-\frac{1}{\log N} \sum_i p_i \log p_i` for each row of ``logs``, which is log p, (B, N); 0 where N is 1.

    Example:
        >>> normalized_entropy(torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]]).clamp_min(1e-30).log())
        tensor([1.0000, 0.5000])
    """
    logs = logs.log_softmax(1)
    shares = logs.exp()
    return -torch.where(shares > 0, shares * logs, 0.0).sum(1) / (math.log(logs.shape[1]) or 1.0)


@DIVERGENCES.register("entropy")
class Entropy(Prior):
    r"""Entropy of the model's map as a distribution over positions, from 0 (one position) to 1 (everywhere).

    .. math:: -\frac{1}{\log N} \sum_i p_i \log p_i, \qquad
        p = \operatorname{softmax}\!\left(\frac{m - \bar m}{\tau\, \sigma_m}\right)

    A small weight keeps the model's focus narrow. The published loss is a form of it; ``normalize="sum"`` takes
    :math:`p \propto m - \min m` where the map has negative values. A flat map gives 1, the largest value, and no
    gradient; a map of one position gives 0.

    Args:
        normalize: A normaliser that makes a distribution, or its name: ``"softmax"``, ``Softmax(temperature=...)``,
            or ``"sum"``.

    Raises:
        ValueError: The normaliser gives no distribution.

    Example:
        >>> Entropy()(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 9.0]]))
        tensor([1.0000, 0.5690])

    Reference:
        Shannon, A Mathematical Theory of Communication, 1948; as a loss: Piland, Czajka and Sweet, Model focus improves
        performance of deep learning-based synthetic face detectors, arXiv:2303.00818, 2023.
    """

    logs = True

    def __init__(self, *, normalize: str | Normalizer = SOFTMAX) -> None:
        super().__init__(normalize=normalize)

    def measure(self, model: Tensor) -> Tensor:
        """See :meth:`Prior.measure`; ``model`` is the logarithm."""
        return normalized_entropy(model)
