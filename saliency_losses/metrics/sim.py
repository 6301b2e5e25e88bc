"""Similarity: the intersection of both maps as histograms (SIM)."""

from typing import Any

from torch import Tensor

from saliency_losses.divergences.distributions import SUM
from saliency_losses.divergences.sim import intersection_distance
from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.reading import read_pair
from saliency_losses.sizing import Sizing, check_sizing

__all__ = ["SIM", "sim"]


def sim(model: Tensor, human: Tensor | None, annotated: Tensor | None = None, *, sizing: Sizing = "enlarge") -> Tensor:
    r"""What both maps have in common as distributions, from 0 (nothing) to 1 (everything).

    .. math:: \sum_i \min(p_i, q_i), \qquad p = \frac{m - \min(0, \min m)}{\sum_j (m_j - \min(0, \min m))}

    and q likewise from the human map; a map without mass is uniform.

    Args:
        model: The model's maps, (B, \*s).
        human: The human maps, (B, \*S).
        annotated: Which samples count, (B,); all by default.
        sizing: How both maps come to one size.

    Returns:
        (B,); NaN for samples that do not count.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, or a map that counts is not finite.

    Example:
        >>> import torch
        >>> sim(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 3.0]]]))
        tensor([0.7500])

    Reference:
        Swain and Ballard, Color Indexing, IJCV 1991; between saliency maps: Bylinskii, Judd, Oliva, Torralba and
        Durand, What do different evaluation metrics tell us about saliency models?, TPAMI 2019.
    """
    maps = read_pair("sim", model, human, annotated, sizing)
    return maps.values(1.0 - intersection_distance(SUM(maps.model), SUM(maps.human)))


@METRICS.register("sim")
class SIM(MeanOverMaps):
    """The mean of :func:`sim` over maps.

    Args:
        sizing: How both maps come to one size.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = SIM()
        >>> metric.update(torch.tensor([[[1.0, 1.0]], [[1.0, 3.0]]]), torch.tensor([[[1.0, 3.0]], [[1.0, 3.0]]]))
        >>> metric.compute()
        tensor(0.8750, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, sizing: Sizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"sizing": check_sizing(sizing)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return sim(model, human, annotated, **self.options)
