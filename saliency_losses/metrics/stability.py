"""Run-to-run stability: how alike the maps of independently trained models are."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.cc import cc

__all__ = ["Stability", "stability"]

Similarity = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def stability(maps: Tensor, annotated: Tensor | None = None, *, similarity: Similarity = cc) -> Tensor:
    r"""The mean similarity of the maps that R models give for one image, over all ordered pairs of models.

    .. math:: \frac{1}{R (R - 1)} \sum_{r \ne s} \operatorname{similarity}(m_r, m_s)

    Args:
        maps: (R, B, \*s), of models that differ in their seed alone.
        annotated: Which samples count, (B,); all by default.
        similarity: A callable ``(maps, others, annotated)`` that gives (B,), such as :func:`cc`, :func:`spearman` or
            :func:`sim`.

    Returns:
        (B,); NaN for samples that do not count.

    Raises:
        TypeError: The maps are no tensor, or the similarity is not callable.
        ValueError: There are fewer than two models, or the similarity does not give one value per map.

    Example:
        >>> runs = torch.tensor([[[[1.0, 2.0, 3.0]]], [[[2.0, 3.0, 4.0]]], [[[3.0, 2.0, 1.0]]]])
        >>> stability(runs)
        tensor([-0.3333])
    """
    _check_similarity(similarity)
    if not isinstance(maps, Tensor):
        raise TypeError(f"stability expected maps as a tensor (R, B, *s), got {type(maps).__name__}.")
    if maps.ndim < 3 or len(maps) < 2:
        raise ValueError(
            f"stability expected the maps of two or more models, (R, B, *s), got {tuple(maps.shape)}; stack them: "
            "torch.stack(maps)."
        )
    runs = range(len(maps))
    values = [similarity(maps[one], maps[other], annotated) for one in runs for other in runs if one != other]
    if values[0].shape != maps.shape[1:2]:
        raise ValueError(f"similarity must give one value per map, ({maps.shape[1]},), got {tuple(values[0].shape)}.")
    return torch.stack(values).mean(0)


@METRICS.register("stability")
class Stability(MeanOverMaps):
    r"""The mean of :func:`stability` over images; an update takes the maps of all models, (R, B, \*s).

    Args:
        similarity: A callable ``(maps, others, annotated)`` that gives (B,).
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> metric = Stability()
        >>> metric.update(torch.tensor([[[[1.0, 2.0, 3.0]]], [[[3.0, 2.0, 1.0]]]]))
        >>> metric.compute().round(decimals=4)
        tensor(-1., dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, similarity: Similarity = cc, **kwargs: Any) -> None:
        super().__init__({"similarity": _check_similarity(similarity)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return stability(model, annotated, **self.options)


def _check_similarity(similarity: Similarity) -> Similarity:
    if not callable(similarity):
        raise TypeError(f"similarity must be a callable(maps, others, annotated) -> (B,), got {similarity!r}.")
    return similarity
