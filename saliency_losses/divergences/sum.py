"""Weighted sums of divergences."""

import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from saliency_losses.divergences.base import Divergence
from saliency_losses.divergences.normalize import Scope

__all__ = ["Sum"]


class Sum(Divergence):
    r"""A weighted sum of divergences and priors, :math:`\sum_p w_p D_p(m, h)`; written ``0.7 * KL() + 0.3 * MSE()``.

    Parts that agree on a normaliser or a size share the result. In the guided loss each part is reduced over its own
    maps, a prior over all and a comparison over the annotated ones, and its value is reported by its name.

    Args:
        terms: Weights and parts.

    Raises:
        ValueError: A weight is not finite, or there is no part.
        TypeError: A part is not a divergence.

    Example:
        >>> import torch
        >>> from saliency_losses.divergences import KL, MSE
        >>> total = 0.7 * KL() + 0.3 * MSE(normalize="max_abs")
        >>> total
        0.7 * KL() + 0.3 * MSE(normalize=MaxAbs())
        >>> total(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 5.0]]))
        tensor([0.6352])
    """

    spatial = True

    def __init__(self, terms: Sequence[tuple[float, Divergence]]) -> None:
        super().__init__()
        leaves: list[tuple[float, Divergence]] = []
        for weight, part in terms:
            if not isinstance(part, Divergence):
                raise TypeError(f"A sum is made of divergences, got {part!r}.")
            if not math.isfinite(weight):
                raise ValueError(f"The weight of {part} must be finite, got {weight}.")
            leaves += [(weight * inner, leaf) for inner, leaf in part.terms()]
        if not leaves:
            raise ValueError("A sum needs at least one divergence.")
        self.weights = [float(weight) for weight, _ in leaves]
        self.parts = nn.ModuleList(leaf for _, leaf in leaves)
        self.reads = next((leaf.reads for _, leaf in leaves if leaf.reads != "nothing"), "nothing")
        self.empty_is_suspicious = any(leaf.empty_is_suspicious for _, leaf in leaves)

    @property
    def scope(self) -> Scope:
        """See :attr:`Divergence.scope`."""
        return "batch" if any(leaf.scope == "batch" for _, leaf in self.terms()) else "sample"

    @property
    def holds_statistics(self) -> bool:
        """See :attr:`Divergence.holds_statistics`."""
        return any(leaf.holds_statistics for _, leaf in self.terms())

    @property
    def human_range(self) -> tuple[float, float]:
        """See :attr:`Divergence.human_range`: what every part accepts."""
        ranges = [leaf.human_range for _, leaf in self.terms()]
        return max(low for low, _ in ranges), min(high for _, high in ranges)

    def terms(self) -> list[tuple[float, Divergence]]:
        """See :meth:`Divergence.terms`."""
        return [(weight, cast(Divergence, leaf)) for weight, leaf in zip(self.weights, self.parts, strict=True)]

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """The weighted sum for maps as they are."""
        total: Tensor = self(model, human, known)
        return total

    def __repr__(self) -> str:
        return " + ".join(repr(leaf) if weight == 1 else f"{weight:g} * {leaf!r}" for weight, leaf in self.terms())
