"""Normalised scanpath saliency (NSS)."""

from typing import Any

from torch import Tensor

from saliency_losses.divergences.normalize import standardize
from saliency_losses.divergences.nss import mean_at_fixations
from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.reading import FixationSizing, check_fixation_sizing, read_fixations

__all__ = ["NSS", "nss"]


def nss(
    model: Tensor, human: Tensor | None, annotated: Tensor | None = None, *, sizing: FixationSizing = "enlarge"
) -> Tensor:
    r"""How many deviations above its mean the model's map is where people looked; 0 is chance.

    .. math:: \frac{\sum_i f_i z_i}{\sum_i f_i}, \qquad z = \frac{m - \bar m}{\sigma_m}

    Every fixation counts, and the deviation is the population's. A flat map gives 0.

    Args:
        model: The model's maps, (B, \*s).
        human: How often each pixel was fixated, (B, \*S), see :func:`~saliency_losses.maps.fixations_to_counts`.
        annotated: Which samples count, (B,); all by default.
        sizing: How the model's map comes to the size of the fixations.

    Returns:
        (B,); NaN for samples that do not count, and without a fixation.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, a map that counts is not finite, or a count is negative.

    Example:
        >>> import torch
        >>> nss(torch.tensor([[[0.0, 0.0, 0.0, 1.0]]]), torch.tensor([[[0.0, 0.0, 0.0, 2.0]]]))
        tensor([1.7321])

    Reference:
        Peters, Iyer, Itti and Koch, Components of bottom-up gaze allocation in natural images, Vision Research 2005.
    """
    maps = read_fixations("nss", model, human, annotated, sizing)
    return maps.values(mean_at_fixations(standardize(maps.model), maps.human), maps.human.sum(1) > 0)


@METRICS.register("nss")
class NSS(MeanOverMaps):
    """The mean of :func:`nss` over maps with a fixation, each map counting once.

    Args:
        sizing: How the model's map comes to the size of the fixations.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = NSS()
        >>> metric.update(torch.tensor([[[0.0, 2.0]], [[0.0, 2.0]]]), torch.tensor([[[0.0, 1.0]], [[0.0, 0.0]]]))
        >>> metric.compute().round(decimals=4)
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, sizing: FixationSizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"sizing": check_fixation_sizing(sizing)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return nss(model, human, annotated, **self.options)
