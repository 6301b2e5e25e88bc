"""Intersection over union of what both maps mark (IoU)."""

from typing import Any

from torch import Tensor

from saliency_losses.divergences.normalize import max_abs, minmax
from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.reading import MASK, read_pair
from saliency_losses.sizing import Sizing, check_sizing

__all__ = ["IoU", "iou"]


def iou(
    model: Tensor,
    human: Tensor | None,
    annotated: Tensor | None = None,
    *,
    threshold: float = 0.5,
    sizing: Sizing = "enlarge",
) -> Tensor:
    r"""How much of what either map marks both mark, from 0 to 1.

    .. math:: \frac{|M \cap H|}{|M \cup H|}, \qquad
        M = \left\{i : \frac{m_i^+ - \min m^+}{\max m^+ - \min m^+} > t\right\}, \qquad
        H = \left\{i : \frac{h_i}{\max h} > t\right\}

    where :math:`m^+ = \max(0, m)`; a flat map of the model marks nothing. A mask marks itself.

    Args:
        model: The model's maps, (B, \*s).
        human: Maps in [0, 1], or bool masks, (B, \*S).
        annotated: Which samples count, (B,); all by default.
        threshold: t, in [0, 1).
        sizing: How both maps come to one size.

    Returns:
        (B,); NaN for samples that do not count, and where neither map marks anything.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, a map that counts is not finite, or a human map leaves [0, 1].

    Example:
        >>> import torch
        >>> iou(torch.tensor([[[1.0, 4.0, 5.0]]]), torch.tensor([[[0.0, 0.0, 1.0]]]))
        tensor([0.5000])

    Reference:
        Rao, Böhle, Parchami-Araghi and Schiele, Studying How to Efficiently and Effectively Guide Models with
        Explanations, ICCV 2023.
    """
    _check_threshold(threshold)
    maps = read_pair("iou", model, human, annotated, sizing, MASK)
    marked, meant = minmax(maps.model.relu()) > threshold, max_abs(maps.human) > threshold
    common, either = (marked & meant).sum(1), (marked | meant).sum(1)
    return maps.values(common.to(maps.model.dtype) / either, either > 0)


@METRICS.register("iou")
class IoU(MeanOverMaps):
    """The mean of :func:`iou` over maps for which it is defined.

    Args:
        threshold: Above which share of its range a map marks a position.
        sizing: How both maps come to one size.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = IoU()
        >>> metric.update(torch.tensor([[[1.0, 4.0, 5.0]]]), torch.tensor([[[False, False, True]]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, threshold: float = 0.5, sizing: Sizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"threshold": _check_threshold(threshold), "sizing": check_sizing(sizing)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return iou(model, human, annotated, **self.options)


def _check_threshold(threshold: float) -> float:
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be in [0, 1), got {threshold}.")
    return threshold
