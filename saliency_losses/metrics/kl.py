"""Kullback-Leibler divergence of the model's map from the human map, as saliency benchmarks compute it (KL)."""

from typing import Any

from torch import Tensor

from saliency_losses.divergences.kl import KL as Divergence
from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.reading import read_pair
from saliency_losses.sizing import Sizing, check_sizing

__all__ = ["KL", "kl"]

_BENCHMARK = Divergence(normalize="sum", form="mit", sizing="same", backend="eager")


def kl(model: Tensor, human: Tensor | None, annotated: Tensor | None = None, *, sizing: Sizing = "enlarge") -> Tensor:
    r"""How far the model's map is from the human map as distributions, in nats, from 0 (equal) to about 36.

    .. math:: \sum_i q_i \log\left(\epsilon + \frac{q_i}{p_i + \epsilon}\right), \qquad
        p = \frac{m - \min(0, \min m)}{\sum_j (m_j - \min(0, \min m))}, \qquad \epsilon = 2.2204 \cdot 10^{-16}

    and q likewise from the human map; a map without mass is uniform. A model that gives nothing to a pixel that people
    looked at pays up to :math:`-\log \epsilon`, so the value says most about zeros.

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
        >>> kl(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[0.0, 5.0]]]))
        tensor([0.6931])

    Reference:
        Kullback and Leibler, On Information and Sufficiency, Annals of Mathematical Statistics 1951; in this form:
        Bylinskii, Judd, Oliva, Torralba and Durand, What do different evaluation metrics tell us about saliency
        models?, TPAMI 2019.
    """
    maps = read_pair("kl", model, human, annotated, sizing)
    return maps.values(_BENCHMARK(maps.model, maps.human))


@METRICS.register("kl")
class KL(MeanOverMaps):
    """The mean of :func:`kl` over maps.

    Args:
        sizing: How both maps come to one size.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = KL()
        >>> metric.update(torch.tensor([[[1.0, 1.0]], [[0.0, 1.0]]]), torch.tensor([[[0.0, 5.0]], [[0.0, 5.0]]]))
        >>> metric.compute()
        tensor(0.3466, dtype=torch.float64)
    """

    higher_is_better = False

    def __init__(self, *, sizing: Sizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"sizing": check_sizing(sizing)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return kl(model, human, annotated, **self.options)
