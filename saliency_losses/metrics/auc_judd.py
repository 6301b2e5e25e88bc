"""The area under the curve of hits over false alarms, after Judd (AUC-Judd)."""

import math
from typing import Any

import torch
from torch import Tensor

from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.ranks import area_at_fixations
from saliency_losses.metrics.reading import FixationSizing, check_fixation_sizing, read_fixations

__all__ = ["AUCJudd", "auc_judd"]


def auc_judd(
    model: Tensor,
    human: Tensor | None,
    annotated: Tensor | None = None,
    *,
    jitter: float = 0.0,
    seed: int = 42,
    sizing: FixationSizing = "enlarge",
) -> Tensor:
    r"""How well the model's map tells fixated pixels from all others; 0.5 is chance, 1 the best.

    The share of fixations, over the share of pixels without one, that are at or above a threshold; thresholds are the
    values at fixations, and the curve is straight in between. So a pixel between two fixated values counts as half a
    hit where all pairs would count it in full, and few fixations give a value nearer to one half.

    Args:
        model: The model's maps, (B, \*s).
        human: How often each pixel was fixated, (B, \*S), see :func:`~saliency_losses.maps.fixations_to_counts`; a
            pixel that was fixated twice counts twice.
        annotated: Which samples count, (B,); all by default.
        jitter: Deviation of normal noise that is added to the model's map to break ties; benchmarks use 1e-7. It
            matters for maps of few values, and makes the result depend on the noise: here no noise by default, and
            with it the same on every map, whatever the batch.
        seed: Of the noise.
        sizing: How the model's map comes to the size of the fixations.

    Returns:
        (B,); NaN for samples that do not count, and where no pixel or every pixel is fixated.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, a map that counts is not finite, or a count is negative.

    Example:
        >>> maps = torch.tensor([[[0.1, 0.9, 0.5, 0.2]]])
        >>> auc_judd(maps, torch.tensor([[[0.0, 1.0, 0.0, 1.0]]]))
        tensor([0.8750])

    Reference:
        Judd, Ehinger, Durand and Torralba, Learning to predict where humans look, ICCV 2009; in this form: Bylinskii,
        Judd, Oliva, Torralba and Durand, What do different evaluation metrics tell us about saliency models?, TPAMI
        2019.
    """
    _check_jitter(jitter)
    maps = read_fixations("auc_judd", model, human, annotated, sizing)
    values = maps.model
    if jitter:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(values.shape[1], generator=generator, dtype=torch.float64)
        values = values + jitter * noise.to(values)
    return maps.values(area_at_fixations(values, maps.human))


@METRICS.register("auc_judd")
class AUCJudd(MeanOverMaps):
    """The mean of :func:`auc_judd` over maps for which it is defined.

    Args:
        jitter: Deviation of the noise that breaks ties.
        seed: Of the noise.
        sizing: How the model's map comes to the size of the fixations.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> metric = AUCJudd()
        >>> metric.update(torch.tensor([[[0.1, 0.9, 0.5, 0.2]]]), torch.tensor([[[0.0, 1.0, 0.0, 1.0]]]))
        >>> metric.compute()
        tensor(0.8750, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(
        self, *, jitter: float = 0.0, seed: int = 42, sizing: FixationSizing = "enlarge", **kwargs: Any
    ) -> None:
        options = {"jitter": _check_jitter(jitter), "seed": seed, "sizing": check_fixation_sizing(sizing)}
        super().__init__(options, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return auc_judd(model, human, annotated, **self.options)


def _check_jitter(jitter: float) -> float:
    if not 0 <= jitter < math.inf:
        raise ValueError(f"jitter must be finite and not negative, got {jitter}.")
    return jitter
