"""Information gain over a baseline, in bits per fixation (IG)."""

import math
from typing import Any

import torch
from torch import Tensor

from saliency_losses.divergences.distributions import SUM
from saliency_losses.divergences.normalizer import NORMALIZERS, Normalizer, check_distributions
from saliency_losses.divergences.nss import mean_at_fixations
from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.reading import FixationSizing, Maps, check_fixation_sizing, read_fixations
from saliency_losses.sizing import to_size

__all__ = ["InformationGain", "information_gain"]

_EPS = 2.2204e-16


def information_gain(
    model: Tensor,
    human: Tensor | None,
    annotated: Tensor | None = None,
    *,
    baseline: Tensor | None = None,
    normalize: str | Normalizer = SUM,
    eps: float = _EPS,
    sizing: FixationSizing = "enlarge",
) -> Tensor:
    r"""How much better than a baseline the model predicts a fixation, in bits; 0 is as good.

    .. math:: \frac{1}{\sum_i f_i} \sum_i f_i \left(\log_2 (p_i + \epsilon) - \log_2 (b_i + \epsilon)\right)

    where p and b are distributions over pixels. A map that gives nothing to a fixated pixel loses up to 52 bits there,
    so that a map that was not trained as a density says little by this metric.

    Args:
        model: The model's maps, (B, \*s).
        human: How often each pixel was fixated, (B, \*S), see :func:`~saliency_losses.maps.fixations_to_counts`.
        annotated: Which samples count, (B,); all by default.
        baseline: A map for all samples, (\*S), such as where people look on average (centre bias), at any size; what
            it sums to does not matter. Uniform by default.
        normalize: What makes the model's map a distribution: a normaliser or its name; ``"sum"`` shifts negative
            values to zero first, ``"softmax"`` is for maps of log-densities: ``Softmax(standardize=False)``.
        eps: :math:`\epsilon`.
        sizing: How maps come to the size of the fixations.

    Returns:
        (B,); NaN for samples that do not count, and without a fixation.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, a map that counts is not finite, or a count is negative.

    Example:
        >>> information_gain(torch.tensor([[[1.0, 3.0, 0.0, 0.0]]]), torch.tensor([[[1.0, 1.0, 0.0, 0.0]]]))
        tensor([0.7925])

    Reference:
        Kümmerer, Wallis and Bethge, Information-theoretic model comparison unifies saliency metrics, PNAS 2015.
    """
    density, eps = _check_density(normalize), _check_eps(eps)
    maps = read_fixations("information_gain", model, human, annotated, sizing)
    if baseline is None:
        prior = torch.full_like(maps.model, 1.0 / maps.model.shape[1])
    else:
        prior = _density_of(_check_baseline(baseline), maps, sizing)
    gain = (density(maps.model) + eps).log2() - (prior + eps).log2()
    return maps.values(mean_at_fixations(torch.where(maps.human > 0, gain, 0.0), maps.human), maps.human.sum(1) > 0)


@METRICS.register("information_gain")
class InformationGain(MeanOverMaps):
    r"""The mean of :func:`information_gain` over maps with a fixation, each map counting once.

    Args:
        baseline: A map for all samples, (\*S); uniform by default.
        normalize: What makes the model's map a distribution.
        eps: Added to probabilities.
        sizing: How maps come to the size of the fixations.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> metric = InformationGain()
        >>> metric.update(torch.tensor([[[1.0, 3.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 1.0, 0.0, 0.0]]]))
        >>> metric.compute()
        tensor(1.5850, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(
        self,
        *,
        baseline: Tensor | None = None,
        normalize: str | Normalizer = SUM,
        eps: float = _EPS,
        sizing: FixationSizing = "enlarge",
        **kwargs: Any,
    ) -> None:
        options = {
            "baseline": None if baseline is None else _check_baseline(baseline),
            "normalize": _check_density(normalize),
            "eps": _check_eps(eps),
            "sizing": check_fixation_sizing(sizing),
        }
        super().__init__(options, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return information_gain(model, human, annotated, **self.options)


def _density_of(baseline: Tensor, maps: Maps, sizing: FixationSizing) -> Tensor:
    baseline = baseline.detach().to(maps.model)
    if baseline.ndim != len(maps.size) or (sizing == "same" and tuple(baseline.shape) != maps.size):
        raise ValueError(
            f"baseline must be one map of the size of the fixations {maps.size}, or of as many axes at another size "
            f"unless sizing='same', got {tuple(baseline.shape)}."
        )
    return SUM(to_size(baseline.unsqueeze(0), maps.size, sizing).flatten(1)).expand_as(maps.model)


def _check_baseline(baseline: Tensor) -> Tensor:
    if not isinstance(baseline, Tensor) or not baseline.is_floating_point():
        raise TypeError(f"baseline must be a floating-point map (*S) or None, got {type(baseline).__name__}.")
    if not bool(((baseline >= 0) & baseline.isfinite()).all()) or not bool((baseline > 0).any()):
        raise ValueError("baseline must be finite and not negative, and somewhere positive.")
    return baseline


def _check_density(normalize: str | Normalizer) -> Normalizer:
    density = NORMALIZERS.resolve(normalize)
    check_distributions("information_gain", normalize=density)
    return density


def _check_eps(eps: float) -> float:
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be finite and not negative, got {eps}.")
    return eps
