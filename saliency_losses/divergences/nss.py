"""Normalised scanpath saliency: how far the model's map stands above its mean where people looked."""

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence, Reads, masked_sum
from saliency_losses.divergences.normalize import FLAT
from saliency_losses.divergences.scales import MAX_ABS, ZScore
from saliency_losses.sizing import Sizing

__all__ = ["NSS", "mean_at_fixations"]


def mean_at_fixations(model: Tensor, fixations: Tensor, known: Tensor | None = None) -> Tensor:
    r""":math:`\sum_i f_i m_i / \sum_i f_i` for each row of two (B, N) tensors; 0 without a fixation.

    Example:
        >>> mean_at_fixations(torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 1.0]]))
        tensor([2.])
    """
    total = masked_sum(fixations, known)
    return masked_sum(model * fixations, known) / torch.where(total > 0, total, 1.0)


@DIVERGENCES.register("nss")
class NSS(Divergence):
    r"""Negative normalised scanpath saliency: minus the mean of the standardised map over fixations.

    .. math:: -\frac{\sum_i f_i z_i}{\sum_i f_i}, \qquad z = \frac{m - \bar m}{\sigma_m}

    The human map counts how often each pixel was fixated, and every fixation counts. The value is 0 for a map that
    ignores the fixations and negative for one that stands out at them, down to :math:`-\sqrt{N - 1}` where a single
    pixel of N is salient and all fixations fall on it; it is not zero where a model is perfect. It does not depend on
    shift (and positive scale) of the model's map, nor on the scale of the counts.

    A flat model map, and an annotated human map without a fixation, give 0 and no gradient.

    Args:
        eps: A map whose deviation is below this share of its largest magnitude is flat, below 1.
        sizing: How both maps come to one size; fixations are pixels, so the model's map is enlarged to them.

    Raises:
        ValueError: An option has an unknown value or is out of range.

    Example:
        >>> NSS()(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.0, 2.0]]))
        tensor([-1.7321])

    Reference:
        Peters, Iyer, Itti and Koch, Components of bottom-up gaze allocation in natural images, Vision Research, 2005.
    """

    reads: Reads = "fixations"

    def __init__(self, *, eps: float = FLAT, sizing: Sizing = "enlarge") -> None:
        super().__init__(normalize=ZScore(eps=eps), human_normalize=MAX_ABS, sizing=sizing)
        self.eps = eps

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return -mean_at_fixations(model, human, known)
