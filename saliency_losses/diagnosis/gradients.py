"""How the task's and the saliency term's gradients lie to each other."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from saliency_losses.diagnosis.batches import has_map
from saliency_losses.extractors.base import gradients_on
from saliency_losses.guided import SaliencyGuidedLoss
from saliency_losses.term import has_prior
from saliency_losses.weighting import Weighting

__all__ = ["Gradients", "Spread", "compare_gradients", "gradients_of", "shares"]


@dataclass(frozen=True)
class Spread:
    """A number over a few batches: its median, and the smallest and largest; NaN where there is none."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Gradients:
    r"""The gradients of both terms, over the parameters that both reach.

    Attributes:
        ratio: :math:`\|\nabla L_{saliency}\| / \|\nabla L_{task}\|` before weighting.
        weighted_ratio: The same of what the terms contribute to the loss; negative where the weighting reverses the
            saliency's gradient.
        cosine: Of the angle between the two; the weighting does not change it.
        batches: How many batches were compared.
        not_finite: How many more had a gradient with NaN or infinities.
        parameters: How many tensors of parameters both terms reach.
        training: Whether the model was in train mode.
    """

    ratio: Spread
    weighted_ratio: Spread
    cosine: Spread
    batches: int
    not_finite: int
    parameters: int
    training: bool


class _Pair(NamedTuple):
    ratio: float
    weighted_ratio: float
    cosine: float
    parameters: int
    finite: bool


def compare_gradients(
    guided: SaliencyGuidedLoss, weighting: Weighting, steps: Iterable[Mapping[str, Any]]
) -> Gradients | None:
    """Compare both terms on each batch that has a map, in the mode that the model is in.

    Args:
        guided: Computes both terms; its own weighting plays no part, but must need the saliency term.
        weighting: What becomes of them.
        steps: Keywords of guided steps.

    Returns:
        ``None`` where no batch has a map or no parameter is trainable.
    """
    pairs = []
    priors = has_prior(guided.divergence)
    for step in (step for step in steps if priors or has_map(step)):
        if not any(parameter.requires_grad for parameter in guided.model.parameters()):
            return None
        with gradients_on() as usable:
            out = guided(**usable(step))
            pairs.append(_compare(out.task_loss, out.saliency_loss, guided, shares(weighting, *out[1:3])))
    if not pairs:
        return None
    finite = [pair for pair in pairs if pair.finite]
    return Gradients(
        ratio=_spread([pair.ratio for pair in finite]),
        weighted_ratio=_spread([pair.weighted_ratio for pair in finite]),
        cosine=_spread([pair.cosine for pair in finite]),
        batches=len(finite),
        not_finite=len(pairs) - len(finite),
        parameters=max(pair.parameters for pair in pairs),
        training=guided.model.training,
    )


def gradients_of(term: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The term's gradient for each parameter, ``None`` where it reaches none; the graph is kept."""
    if not term.requires_grad:
        return [None] * len(parameters)
    return list(torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True))


def shares(weighting: Weighting, task: Tensor, saliency: Tensor) -> tuple[float, float]:
    """The factors with which the gradients of both terms enter the loss at these values.

    Example:
        >>> from saliency_losses.weighting import Convex
        >>> shares(Convex(0.25), torch.tensor(1.0), torch.tensor(2.0))
        (0.25, 0.75)
    """
    terms = [term.detach().clone().requires_grad_() for term in (task, saliency)]
    first, second = gradients_of(weighting(*terms), terms)
    return (0.0 if first is None else float(first)), (0.0 if second is None else float(second))


def _compare(task: Tensor, saliency: Tensor, guided: SaliencyGuidedLoss, factors: tuple[float, float]) -> _Pair:
    trainable = [parameter for parameter in guided.model.parameters() if parameter.requires_grad]
    both = zip(gradients_of(task, trainable), gradients_of(saliency, trainable), strict=True)
    shared = [
        (a.detach().cpu().double(), b.detach().cpu().double()) for a, b in both if a is not None and b is not None
    ]
    products = ((0, 0), (1, 1), (0, 1))
    task_square, saliency_square, inner = (
        sum(float((pair[i] * pair[j]).sum()) for pair in shared) for i, j in products
    )
    lengths = math.sqrt(task_square), math.sqrt(saliency_square)
    weighted = _divide(lengths[1] * factors[1], lengths[0] * factors[0])
    cosine = _divide(inner, lengths[0] * lengths[1])
    return _Pair(_divide(*lengths[::-1]), weighted, cosine, len(shared), all(map(math.isfinite, lengths)))


def _divide(numerator: float, denominator: float) -> float:
    if denominator:
        return numerator / denominator
    return math.inf if numerator else math.nan


def _spread(values: list[float]) -> Spread:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(math.nan, math.nan, math.nan)
    return Spread(statistics.median(known), min(known), max(known))
