"""One minus the intersection of the maps as histograms."""

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence
from saliency_losses.divergences.distributions import SUM
from saliency_losses.divergences.normalizer import Normalizer, check_distributions
from saliency_losses.sizing import Sizing

__all__ = ["SIM", "intersection_distance"]


def intersection_distance(model: Tensor, human: Tensor) -> Tensor:
    r""":math:`1 - \sum_i \min(p_i, q_i)` for each row of two (B, N) distributions, as :math:`\frac12 \sum |p_i - q_i|`.

    Example:
        >>> import torch
        >>> intersection_distance(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]]))
        tensor([0.2500])
    """
    return 0.5 * (model - human).abs().sum(1)


@DIVERGENCES.register("sim")
class SIM(Divergence):
    r"""One minus the histogram intersection of the maps: from 0 (same distribution) to 1 (nowhere both).

    .. math:: 1 - \sum_i \min(p_i, q_i), \qquad p = \frac{m - \min(0, \min m)}{\sum_j (m_j - \min(0, \min m))},
        \qquad q = \frac{h}{\sum_j h_j}

    It does not depend on the scale of either map. A model map that is all zero, or flat and negative, is the uniform
    distribution and gets no gradient; an annotated but empty human map is the uniform distribution too.

    Args:
        normalize: Of the model's map: a normaliser that makes a distribution, or its name.
        human_normalize: Of the human map, likewise.
        sizing: How both maps come to one size.

    Raises:
        ValueError: An option has an unknown value, or a normaliser gives no distribution.

    Example:
        >>> import torch
        >>> SIM()(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([0.2500])

    Reference:
        Swain and Ballard, Color Indexing, IJCV 1991; between saliency maps: Bylinskii et al., What do different
        evaluation metrics tell us about saliency models?, TPAMI 2019.
    """

    def __init__(
        self,
        *,
        normalize: str | Normalizer = SUM,
        human_normalize: str | Normalizer = SUM,
        sizing: Sizing = "area",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing)
        check_distributions("SIM", normalize=self.normalize, human_normalize=self.human_normalize)

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return intersection_distance(model, human)
