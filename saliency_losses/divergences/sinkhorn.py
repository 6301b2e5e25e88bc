"""Optimal transport between the maps as distributions."""

import math
from typing import Any

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence
from saliency_losses.divergences.distributions import SOFTMAX, SUM
from saliency_losses.divergences.normalizer import Normalizer, check_distributions
from saliency_losses.divergences.transport import grid_cost, self_potential, transport_potentials
from saliency_losses.sizing import Sizing

__all__ = ["Sinkhorn", "sinkhorn_divergence"]


def sinkhorn_divergence(
    model: Tensor, human: Tensor, *, blur: float = 0.1, p: float = 2.0, iterations: int = 2000
) -> Tensor:
    r"""Debiased entropic transport cost between two batches of distributions, (B, \*s), on a grid of sides 1.

    Example:
        >>> sinkhorn_divergence(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
        tensor([0.1250])
    """
    tolerance = max(8.0 * torch.finfo(model.dtype).eps, 1e-8)
    masses = (_distribution(maps.double()) for maps in (model, human))
    value: Tensor = _Debiased.apply(*masses, blur**p, p, tolerance, iterations)
    return value.to(model.dtype)


class _Debiased(torch.autograd.Function):
    """At the optimum the potentials are the derivative: how they move does not change the value to first order."""

    @staticmethod
    def forward(
        ctx: Any, model: Tensor, human: Tensor, epsilon: float, p: float, tolerance: float, iterations: int
    ) -> Tensor:
        cost = grid_cost(model.shape[1:], p, model.device)
        f, g = transport_potentials(model, human, cost, epsilon, tolerance=tolerance, iterations=iterations)
        f = f - self_potential(model, cost, epsilon, tolerance=tolerance)
        g = g - self_potential(human, cost, epsilon, tolerance=tolerance)
        ctx.save_for_backward(model, human, f, g)
        return (model * f + human * g).flatten(1).sum(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        model, human, *potentials = ctx.saved_tensors
        rows = grad.view(-1, *[1] * (model.ndim - 1))
        slopes = (rows * potential for potential in _Potentials.apply(model, human, *potentials))
        wanted = (slope if needed else None for slope, needed in zip(slopes, ctx.needs_input_grad, strict=False))
        return *wanted, None, None, None, None


class _Potentials(torch.autograd.Function):
    """The potentials as what they are, functions of both distributions, whose derivative is not known here."""

    @staticmethod
    def forward(ctx: Any, model: Tensor, human: Tensor, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        return f.clone(), g.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "Sinkhorn has no second derivative: take its gradient once, or compare the maps with another divergence."
        )


def _distribution(maps: Tensor) -> Tensor:
    """Sums to one to the last digit, which the iterations rely on; an empty map becomes uniform."""
    total = maps.flatten(1).sum(1).view(-1, *[1] * (maps.ndim - 1))
    empty = total == 0
    return torch.where(empty, 1.0 / maps[0].numel(), maps / torch.where(empty, 1.0, total))


@DIVERGENCES.register("sinkhorn")
class Sinkhorn(Divergence):
    r"""Optimal transport: the least work that turns the model's map into the human's, both as distributions.

    .. math:: \mathrm{OT}(p, q) - \tfrac12 \mathrm{OT}(p, p) - \tfrac12 \mathrm{OT}(q, q), \qquad
        \mathrm{OT}(p, q) = \min_\pi \sum_{ij} \pi_{ij} C_{ij} + \epsilon\, \mathrm{KL}(\pi \,\|\, p \otimes q)

    over plans :math:`\pi` that move p to q, with :math:`C_{ij} = \frac1k \sum_{axes} |x_i - x_j|^k` and
    :math:`\epsilon = \mathrm{blur}^k`; each axis of the map has length 1. It tells a near miss from a far one, where
    pointwise divergences see two misses. Zero where the distributions agree, and exactly the cost between two single
    positions.

    A flat model map is the uniform distribution and gets no gradient; an annotated but empty human map is the uniform
    distribution too. The plan is found in float64 by iteration; a warning says where it is not exact. A second
    derivative raises a RuntimeError; ``torch.compile`` runs it as it is, which ``fullgraph=True`` refuses. It costs far
    more time than a pointwise divergence.

    Args:
        blur: How far mass may spread on its way, in sides of the map: 0.1 is less than a cell of a map of 7x7. Small
            values approach unregularised transport; those below a third of a cell may need very many iterations.
        p: The power k, from 1 (sum of distances along the axes) to 2 (half the squared Euclidean distance).
        iterations: At most.
        normalize: Of the model's map: a normaliser that makes a distribution, or its name.
        human_normalize: Of the human map, likewise.
        sizing: How both maps come to one size.

    Raises:
        ValueError: An option has an unknown value or is out of range, or a normaliser gives no distribution.

    Example:
        >>> near, far = torch.eye(8)[2], torch.eye(8)[7]
        >>> model, human = torch.eye(8)[[1, 1]], torch.stack([near, far])
        >>> Sinkhorn(normalize="sum")(model, human)
        tensor([0.0078, 0.2812])

    Reference:
        Genevay, Peyré and Cuturi, Learning Generative Models with Sinkhorn Divergences, AISTATS 2018; Feydy, Séjourné,
        Vialard, Amari, Trouvé and Peyré, Interpolating between Optimal Transport and MMD using Sinkhorn Divergences,
        AISTATS 2019.
    """

    spatial = True

    def __init__(
        self,
        *,
        blur: float = 0.1,
        p: float = 2.0,
        iterations: int = 2000,
        normalize: str | Normalizer = SOFTMAX,
        human_normalize: str | Normalizer = SUM,
        sizing: Sizing = "area",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing)
        check_distributions("Sinkhorn", normalize=self.normalize, human_normalize=self.human_normalize)
        if not 0 < blur < math.inf:
            raise ValueError(f"blur must be positive and finite, got {blur}.")
        if not 1 <= p <= 2:
            raise ValueError(f"p must lie between 1 and 2, got {p}.")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}.")
        self.blur = blur
        self.p = p
        self.iterations = iterations

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`; unknown cells hold no mass."""
        return sinkhorn_divergence(model, human, blur=self.blur, p=self.p, iterations=self.iterations)
