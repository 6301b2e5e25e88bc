"""Human alignment: rank correlation with human maps as a share of that between people."""

from typing import Any

from torch import Tensor

from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.spearman import spearman
from saliency_losses.sizing import Sizing, check_sizing

__all__ = ["HUMAN_CEILING", "HumanAlignment", "human_alignment"]

HUMAN_CEILING = 0.65753
"""Spearman's correlation between the maps of people in the ClickMe data, as published with Harmonization."""


def human_alignment(
    model: Tensor,
    human: Tensor | None,
    annotated: Tensor | None = None,
    *,
    ceiling: float = HUMAN_CEILING,
    sizing: Sizing = "enlarge",
) -> Tensor:
    r"""Spearman's correlation divided by that between people, the ceiling; 1 is as alike as people are.

    Published values take as the model's map the largest gradient magnitude over channels. The ceiling belongs to the
    ClickMe maps: for other human maps measure it, with :func:`~saliency_losses.maps.annotator_agreement` or by
    :func:`spearman` between annotators.

    Args:
        model: The model's maps, (B, \*s).
        human: The human maps, (B, \*S).
        annotated: Which samples count, (B,); all by default.
        ceiling: In (0, 1].
        sizing: How both maps come to one size.

    Returns:
        (B,); NaN for samples that do not count.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, or a map that counts is not finite.

    Example:
        >>> import torch
        >>> human_alignment(torch.tensor([[[1.0, 2.0, 9.0]]]), torch.tensor([[[3.0, 4.0, 5.0]]]))
        tensor([1.5208])

    Reference:
        Fel, Felipe, Linsley and Serre, Harmonizing the object recognition strategies of deep neural networks with
        humans, NeurIPS 2022.
    """
    return spearman(model, human, annotated, sizing=sizing) / _check_ceiling(ceiling)


@METRICS.register("human_alignment")
class HumanAlignment(MeanOverMaps):
    """The mean of :func:`human_alignment` over maps.

    Args:
        ceiling: Spearman's correlation between people.
        sizing: How both maps come to one size.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = HumanAlignment(ceiling=0.5)
        >>> metric.update(torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]]]), torch.tensor([[[3.0, 5.0]], [[0.0, 0.0]]]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, ceiling: float = HUMAN_CEILING, sizing: Sizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"ceiling": _check_ceiling(ceiling), "sizing": check_sizing(sizing)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return human_alignment(model, human, annotated, **self.options)


def _check_ceiling(ceiling: float) -> float:
    if not 0 < ceiling <= 1:
        raise ValueError(f"ceiling must be a correlation in (0, 1], got {ceiling}.")
    return ceiling
