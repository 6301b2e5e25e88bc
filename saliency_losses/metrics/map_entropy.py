"""How spread out a map is: its entropy as a distribution."""

import math
from typing import Any

import torch
from torch import Tensor

from saliency_losses.divergences.distributions import SUM
from saliency_losses.divergences.normalizer import NORMALIZERS, Normalizer, check_distributions
from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.reading import read_maps

__all__ = ["MapEntropy", "map_entropy"]


def map_entropy(model: Tensor, annotated: Tensor | None = None, *, normalize: str | Normalizer = SUM) -> Tensor:
    r"""Entropy of a map as a distribution over its N positions, from 0 (one position) to 1 (uniform).

    .. math:: -\frac{1}{\log N} \sum_i p_i \log p_i, \qquad
        p = \frac{m - \min(0, \min m)}{\sum_j (m_j - \min(0, \min m))}

    Args:
        model: The maps, (B, \*s), at their own size; values at different sizes compare roughly.
        annotated: Which samples count, (B,); all by default.
        normalize: What makes a map a distribution: a normaliser or its name.

    Returns:
        (B,); NaN for samples that do not count.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, or a map that counts is not finite.

    Example:
        >>> map_entropy(torch.tensor([[[1.0, 1.0, 1.0, 1.0]], [[0.0, 3.0, 3.0, 0.0]], [[0.0, 9.0, 0.0, 0.0]]]))
        tensor([1.0000, 0.5000, 0.0000])

    Reference:
        Shannon, A Mathematical Theory of Communication, Bell System Technical Journal 1948.
    """
    density = _check_density(normalize)
    maps = read_maps("map_entropy", model, annotated)
    return maps.values(torch.special.entr(density(maps.model)).sum(1) / (math.log(maps.model.shape[1]) or 1.0))


@METRICS.register("map_entropy")
class MapEntropy(MeanOverMaps):
    """The mean of :func:`map_entropy` over maps; human maps are taken and not looked at.

    Args:
        normalize: What makes a map a distribution.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> metric = MapEntropy()
        >>> metric.update(torch.tensor([[[1.0, 1.0, 1.0, 1.0]], [[0.0, 3.0, 3.0, 0.0]]]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    def __init__(self, *, normalize: str | Normalizer = SUM, **kwargs: Any) -> None:
        super().__init__({"normalize": _check_density(normalize)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return map_entropy(model, annotated, **self.options)


def _check_density(normalize: str | Normalizer) -> Normalizer:
    density = NORMALIZERS.resolve(normalize)
    check_distributions("map_entropy", normalize=density)
    return density
