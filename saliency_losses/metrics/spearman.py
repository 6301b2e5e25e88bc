"""Spearman's rank correlation of the model's map with the human map."""

from typing import Any

from torch import Tensor

from saliency_losses.divergences.correlation import pearson
from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.ranks import average_ranks
from saliency_losses.metrics.reading import read_pair
from saliency_losses.sizing import Sizing, check_sizing

__all__ = ["Spearman", "spearman"]


def spearman(
    model: Tensor, human: Tensor | None, annotated: Tensor | None = None, *, sizing: Sizing = "enlarge"
) -> Tensor:
    r"""Pearson's correlation between the ranks of the values of both maps, from -1 to 1; 0 where either is flat.

    Equal values share the mean of their ranks. It does not depend on how either map is scaled, only on its order.

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
        >>> spearman(torch.tensor([[[1.0, 2.0, 9.0]]]), torch.tensor([[[3.0, 4.0, 5.0]]])).round(decimals=4)
        tensor([1.])

    Reference:
        Spearman, The proof and measurement of association between two things, American Journal of Psychology 1904.
    """
    maps = read_pair("spearman", model, human, annotated, sizing)
    return maps.values(pearson(average_ranks(maps.model), average_ranks(maps.human)))


@METRICS.register("spearman")
class Spearman(MeanOverMaps):
    """The mean of :func:`spearman` over maps.

    Args:
        sizing: How both maps come to one size.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = Spearman()
        >>> metric.update(torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]]]), torch.tensor([[[3.0, 5.0]], [[0.0, 0.0]]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, sizing: Sizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"sizing": check_sizing(sizing)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return spearman(model, human, annotated, **self.options)
