"""Pearson's correlation of the model's map with the human map (CC)."""

from typing import Any

from torch import Tensor

from saliency_losses.divergences.correlation import pearson
from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.reading import read_pair
from saliency_losses.sizing import Sizing, check_sizing

__all__ = ["CC", "cc"]


def cc(model: Tensor, human: Tensor | None, annotated: Tensor | None = None, *, sizing: Sizing = "enlarge") -> Tensor:
    r"""Pearson's correlation between the values of both maps, from -1 to 1; 0 where either is flat.

    .. math:: \frac{\sum_i (m_i - \bar m)(h_i - \bar h)}
        {\sqrt{\sum_i (m_i - \bar m)^2}\, \sqrt{\sum_i (h_i - \bar h)^2}}

    A map whose deviation is below 1e-6 of its largest magnitude is flat: what is left of it is rounding.

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
        >>> cc(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[3.0, 2.0, 1.0]]])).round(decimals=4)
        tensor([-1.])

    Reference:
        Bylinskii, Judd, Oliva, Torralba and Durand, What do different evaluation metrics tell us about saliency
        models?, TPAMI 2019.
    """
    maps = read_pair("cc", model, human, annotated, sizing)
    return maps.values(pearson(maps.model, maps.human))


@METRICS.register("cc")
class CC(MeanOverMaps):
    """The mean of :func:`cc` over maps.

    Args:
        sizing: How both maps come to one size.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = CC()
        >>> metric.update(torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]]]), torch.tensor([[[3.0, 5.0]], [[0.0, 0.0]]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, sizing: Sizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"sizing": check_sizing(sizing)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return cc(model, human, annotated, **self.options)
