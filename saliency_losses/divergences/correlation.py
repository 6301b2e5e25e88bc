"""One minus Pearson's correlation between the maps."""

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Backend, Divergence, masked_mean
from saliency_losses.divergences.normalize import FLAT, standardize
from saliency_losses.divergences.scales import ZScore
from saliency_losses.sizing import Sizing

__all__ = ["Correlation", "pearson"]


def pearson(model: Tensor, human: Tensor, known: Tensor | None = None, *, eps: float = FLAT) -> Tensor:
    """Pearson's correlation of each row of two (B, N) tensors; 0 where either is flat.

    Example:
        >>> import torch
        >>> pearson(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 2.0, 1.0]])).round(decimals=4)
        tensor([-1.])
    """
    return masked_mean(standardize(model, known, eps=eps) * standardize(human, known, eps=eps), known)


@DIVERGENCES.register("correlation")
class Correlation(Divergence):
    r"""One minus Pearson's correlation: from 0 (same shape) over 1 (unrelated) to 2 (opposite).

    .. math:: 1 - \frac{\sum_i (m_i - \bar m)(h_i - \bar h)}
        {\sqrt{\sum_i (m_i - \bar m)^2}\, \sqrt{\sum_i (h_i - \bar h)^2}}

    It does not depend on shift or scale of either map. A flat map on either side gives 1 and no gradient; that holds
    for an annotated but empty human map.

    Args:
        eps: A map whose deviation is below this share of its largest magnitude is flat, below 1.
        sizing: How both maps come to one size.
        backend: ``"auto"``, ``"eager"`` or ``"triton"``: see :class:`.Divergence`.

    Raises:
        ValueError: An option has an unknown value or is out of range.

    Example:
        >>> import torch
        >>> Correlation()(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 2.0, 1.0]])).round(decimals=4)
        tensor([2.])

    Reference:
        Pearson, Notes on regression and inheritance, 1895; between saliency maps (CC): Bylinskii et al., What do
        different evaluation metrics tell us about saliency models?, TPAMI 2019.
    """

    def __init__(self, *, eps: float = FLAT, sizing: Sizing = "area", backend: Backend = "auto") -> None:
        super().__init__(normalize=ZScore(eps=eps), human_normalize=ZScore(eps=eps), sizing=sizing, backend=backend)
        self.eps = eps

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return 1.0 - masked_mean(model * human, known)
