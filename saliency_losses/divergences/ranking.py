"""Positions in the order of a person's interest: a hinge over pairs."""

import math
from typing import Literal

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_sum
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import RAW
from saliency_losses.sizing import Sizing

__all__ = ["Ranking", "ranking_hinge"]

_GOLDEN = 0.6180339887498949
_BLOCK = 2**18  # pairs of a batch that are looked at at once


def ranking_hinge(
    model: Tensor,
    human: Tensor,
    known: Tensor | None = None,
    *,
    margin: float = 0.0,
    ties: Literal["equal", "ignore"] = "equal",
    reduction: Literal["mean", "position", "sum"] = "mean",
    max_positions: int = 1024,
) -> Tensor:
    r""":math:`\sum_{i, j: h_i > h_j} \max(0, \epsilon + m_j - m_i)`, reduced, for each row of two (B, N) tensors.

    Where the hinge is active it is linear in the map, so the pairs are only counted, a few at a time and off the graph,
    and the value is a weighted sum of the map: memory does not grow with the number of pairs.

    See :class:`Ranking` for the options.

    Example:
        >>> ranking_hinge(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]]), reduction="sum")
        tensor([2.])
    """
    count = model.shape[1]
    offsets = _offsets(count, max_positions, model.device)
    slope, pairs, late = (torch.zeros_like(model) for _ in range(3))
    with torch.no_grad():
        around, ranks, weights = _around(model), _around(human), None if known is None else _around(known)
        for block in torch.split(offsets, max(1, _BLOCK // model.numel())):
            weight = None if weights is None else weights[:, block]
            side = (human[:, None] - ranks[:, block]).sign()
            gap = model[:, None] - around[:, block]
            behind = (side * gap < margin) & (side != 0)
            push = torch.where(behind, -side, 0.0)
            if ties == "equal":
                push = torch.where(side == 0, gap.sign(), push)
            slope += masked_sum(push, weight)
            pairs += masked_sum(side >= 0 if ties == "equal" else side > 0, weight)
            late += masked_sum(behind, weight) / 2
        if known is not None:
            slope, pairs, late = slope * known, pairs * known, late * known
        middle = model.amax(1, keepdim=True) / 2 + model.amin(1, keepdim=True) / 2
        share = max(1, len(offsets)) / max(1, count - 1)
        total = pairs.sum(1)
        cells = torch.full_like(total, count) if known is None else known.sum(1)
        over = {"mean": total, "position": share * cells, "sum": torch.full_like(total, share)}[reduction]
        over = torch.where(over > 0, over, 1.0)
        over = torch.where(human.isnan().any(1), torch.nan, over)  # no comparison holds for NaN
    linear = (slope / over.unsqueeze(1) * (model - middle)).sum(1)
    return linear + margin * late.sum(1) / over


@DIVERGENCES.register("ranking")
class Ranking(Divergence):
    r"""How far pairs of positions are from the order in which a person ranks them.

    .. math:: \frac{1}{|P|} \sum_{(i, j) \in P} \max(0, \epsilon + m_j - m_i), \qquad P = \{(i, j) : h_i > h_j\}

    Only the order of the human map matters, and a shift of the model's map changes nothing. Positions that a person
    ranks alike, such as all inside a mask, are pairs in both directions without a margin, as published: they must be
    alike in the model's map too. An annotated but empty human map then asks for a flat map; with ``ties="ignore"`` it
    costs nothing. A flat model map costs the margin, and without one nothing, and gets no gradient.

    Maps of more than ``max_positions`` positions are compared along fixed distances in their flattened order instead
    of pair by pair: as many of them as give ``max_positions`` squared pairs, spread over all distances by the golden
    ratio, each position with those before and after it, around the end. The same positions are paired in every step.

    Args:
        normalize: Of the model's map: ``"none"`` as published, or such as ``"max_abs"`` for a form that does not depend
            on its scale.
        margin: :math:`\epsilon`, by which the higher position must lead; 1e-4 in self-critical reasoning.
        ties: Whether positions of equal rank must be ``"equal"``, or are no pairs: ``"ignore"``, as in self-critical
            reasoning.
        reduction: ``"mean"`` over pairs; ``"sum"``; or that sum per ``"position"``, as HINT's code does. Of a sample of
            the pairs, the sum is scaled up to all.
        max_positions: Up to which all pairs are compared.
        sizing: How both maps come to one size.

    Raises:
        ValueError: An option has an unknown value or is out of range.

    Example:
        >>> Ranking()(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]]))
        tensor([0.6667])

    Reference:
        Selvaraju et al., Taking a HINT: Leveraging Explanations to Make Vision and Language Models More Grounded, ICCV
        2019; the margin: Wu and Mooney, Self-Critical Reasoning for Robust Visual Question Answering, NeurIPS 2019.
    """

    def __init__(
        self,
        *,
        normalize: str | Normalizer = RAW,
        margin: float = 0.0,
        ties: Literal["equal", "ignore"] = "equal",
        reduction: Literal["mean", "position", "sum"] = "mean",
        max_positions: int = 1024,
        sizing: Sizing = "area",
    ) -> None:
        super().__init__(normalize=normalize, sizing=sizing)
        if not 0 <= margin < math.inf:
            raise ValueError(f"margin must be finite and not negative, got {margin}.")
        if ties not in ("equal", "ignore"):
            raise ValueError(f"ties must be 'equal' or 'ignore', got {ties!r}.")
        if reduction not in ("mean", "position", "sum"):
            raise ValueError(f"reduction must be 'mean', 'position' or 'sum', got {reduction!r}.")
        if max_positions < 2:
            raise ValueError(f"max_positions must be at least 2, got {max_positions}.")
        self.margin = margin
        self.ties: Literal["equal", "ignore"] = ties
        self.reduction: Literal["mean", "position", "sum"] = reduction
        self.max_positions = max_positions

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return ranking_hinge(
            model,
            human,
            known,
            margin=self.margin,
            ties=self.ties,
            reduction=self.reduction,
            max_positions=self.max_positions,
        )


def _around(x: Tensor) -> Tensor:
    """Maps (B, N) turned by every distance, (B, N + 1, N), without a copy of each."""
    return torch.cat([x, x], 1).unfold(1, x.shape[1], 1)


def _offsets(count: int, max_positions: int, device: torch.device) -> Tensor:
    """Which positions each is paired with, as distances around the map; with each distance, its opposite."""
    if count <= max_positions:
        return torch.arange(1, count, device=device)
    wanted = max(1, max_positions**2 // (2 * count))
    distances = {1 + int(k * _GOLDEN % 1.0 * (count // 2)) for k in range(wanted)}
    return torch.tensor(sorted({*distances, *(count - d for d in distances)}), device=device)
