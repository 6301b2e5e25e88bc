"""Per-pixel cross-entropy inside the mask."""

import math

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_sum
from saliency_losses.divergences.scales import MaxAbs
from saliency_losses.sizing import Sizing

__all__ = ["PPCE", "mean_log_inside"]

_POSITIVE = MaxAbs(positive=True)


def mean_log_inside(model: Tensor, mask: Tensor, known: Tensor | None = None, *, log_clamp: float = -100.0) -> Tensor:
    r""":math:`\sum_i a_i \max(\log m_i, c) / \sum_i a_i` for each row of two (B, N) tensors; 0 for an empty mask.

    Args:
        model: m, in [0, 1]; what lies at the clamp gets no gradient.
        mask: a.
        known: Weights of the cells, (B, N).
        log_clamp: c.

    Example:
        >>> mean_log_inside(torch.tensor([[0.5, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
        tensor([-0.3466])
    """
    least = max(math.exp(log_clamp), torch.finfo(model.dtype).tiny)
    logs = torch.where(model > least, model.clamp_min(least).log(), log_clamp)
    total = masked_sum(mask, known)
    return masked_sum(logs * mask, known) / torch.where(total < torch.finfo(total.dtype).tiny, torch.inf, total)


@DIVERGENCES.register("ppce")
class PPCE(Divergence):
    r"""Per-pixel cross-entropy: inside the mask the model's positive saliency should be at its maximum.

    .. math:: -\frac{1}{\sum_i a_i} \sum_i a_i \max(\log \hat m_i, c),
        \qquad \hat m = \frac{\max(m, 0)}{\max_j \max(m_j, 0)}

    The human map is a mask in [0, 1]. Saliency outside of it is free. It does not depend on the scale of the model's
    map. Cells without positive saliency cost -c and get no gradient, so a model map without any costs that everywhere;
    an annotated but empty mask costs zero and sends no gradient.

    Args:
        log_clamp: Smallest logarithm, c. The gradient of a cell grows as its saliency falls, up to
            :math:`e^{-c}`: a value such as -10 bounds it.
        sizing: How both maps come to one size.

    Raises:
        ValueError: log_clamp is not negative and finite, or sizing is unknown.

    Example:
        >>> PPCE()(torch.tensor([[1.0, 2.0, -1.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
        tensor([0.3466])

    Reference:
        Rao, Böhle, Parchami-Araghi and Schiele, Studying How to Efficiently and Effectively Guide Models with
        Explanations, ICCV 2023.
    """

    reads = "mask"
    positive = True

    def __init__(self, *, log_clamp: float = -100.0, sizing: Sizing = "area") -> None:
        super().__init__(normalize=_POSITIVE, sizing=sizing)
        if not -math.inf < log_clamp < 0.0:
            raise ValueError(f"log_clamp must be negative and finite, got {log_clamp}.")
        self.log_clamp = log_clamp

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return -mean_log_inside(model, human, known, log_clamp=self.log_clamp)
