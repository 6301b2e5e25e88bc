r"""Signed annotations that may be inaccurate and incomplete: a tolerant comparison with a threshold found by search."""

import math
from typing import Literal

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_mean, masked_sum
from saliency_losses.divergences.normalize import Scope, max_abs
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import MINMAX
from saliency_losses.divergences.threshold import best_threshold
from saliency_losses.sizing import Sizing

__all__ = ["Robust", "imputed"]

_SLOPE = 5.0
_FLOOR = 1e-6


def imputed(signed: Tensor) -> Tensor:
    r"""The positive cells of maps (B, \*s), blurred over their neighbours and divided by the largest plus 1e-6.

    The kernel is that of a 3x3 Gaussian blur, (1, 2, 1) / 4 along each axis; maps are mirrored at their border.

    Example:
        >>> imputed(torch.tensor([[0.0, 1.0, 0.0, -1.0]]))
        tensor([[1.0000, 1.0000, 0.5000, 0.0000]])
    """
    maps = signed.relu()
    for axis in range(1, maps.ndim):
        if (size := maps.shape[axis]) > 1:
            before = torch.cat([maps.narrow(axis, 1, 1), maps.narrow(axis, 0, size - 1)], axis)
            after = torch.cat([maps.narrow(axis, 1, size - 1), maps.narrow(axis, size - 2, 1)], axis)
            maps = (before + 2.0 * maps + after) / 4.0
    return max_abs(maps.flatten(1), floor=_FLOOR).view(maps.shape)


@DIVERGENCES.register("robust")
class Robust(Divergence):
    r"""Explanation supervision that tolerates inaccurate borders, incomplete marks and distributions that differ.

    .. math:: \max\!\left(0,\ \frac{\sum_{F_i \ne 0} |\tanh(5 (m_i - a)) - F_i|}{|\{i : F_i \ne 0\}|} - \eta\right)
        + \frac{1}{N} \sum_i |m_i - g(F)_i|

    The human map F is signed: 1 where the model should look, -1 where it should not, 0 where nothing was said; the
    model's map is scaled from 0 to 1. The threshold a separates the two best (``best_threshold``), :math:`\eta`
    is what is tolerated, and g spreads the positive marks over their neighbours (``imputed``).

    The first term is 0 where nothing was said at all; the second then asks for a flat map. A flat model map counts as
    all zeros and gets no gradient.

    Args:
        normalize: Of the model's map; ``MinMax(floor=1e-6)`` as published.
        tolerance: :math:`\eta`.
        imputation: ``"gaussian"`` for g, or ``"none"``: the positive marks themselves.
        threshold: Whether a, and with it the first term, is that of each ``"sample"``, or of the ``"batch"`` in this
            process, as published; its value is then the same for all maps.
        detach: Take the threshold as a constant, as published: the gradient ignores how it moves.
        sizing: How both maps come to one size.

    Raises:
        ValueError: An option has an unknown value or is out of range.

    Example:
        >>> Robust()(torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[-1.0, 0.0, 1.0]]))
        tensor([0.4554])

    Reference:
        Gao, Sun, Bai, Gu, Hong and Zhao, RES: A Robust Framework for Guiding Visual Explanation, KDD 2022.
    """

    spatial = True
    reads = "signed"

    def __init__(
        self,
        *,
        normalize: str | Normalizer = MINMAX,
        tolerance: float = 0.1,
        imputation: Literal["gaussian", "none"] = "gaussian",
        threshold: Scope = "sample",
        detach: bool = True,
        sizing: Sizing = "nearest",
    ) -> None:
        super().__init__(normalize=normalize, sizing=sizing)
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance must be finite and not negative, got {tolerance}.")
        if imputation not in ("gaussian", "none"):
            raise ValueError(f"imputation must be 'gaussian' or 'none', got {imputation!r}.")
        if threshold not in ("sample", "batch"):
            raise ValueError(f"threshold must be 'sample' or 'batch', got {threshold!r}.")
        self.tolerance = tolerance
        self.imputation = imputation
        self.threshold = threshold
        self.detach = detach

    @property
    def scope(self) -> Scope:
        """See :attr:`Divergence.scope`."""
        return "batch" if self.threshold == "batch" else super().scope

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        goal = (imputed(human) if self.imputation == "gaussian" else human.relu()).flatten(1)
        model, human = model.flatten(1), human.flatten(1)
        known = None if known is None else known.flatten(1)
        spread = masked_mean((model - goal).abs(), known)
        if self.threshold == "batch":
            model, human = model.reshape(1, -1), human.reshape(1, -1)
            known = None if known is None else known.reshape(1, -1)
        limit = best_threshold(model, human, known)
        gap = ((_SLOPE * (model - (limit.detach() if self.detach else limit))).tanh() - human).abs()
        said = (human != 0).to(gap.dtype)
        cells = masked_sum(said, known)
        wrong = masked_sum(gap * said, known) / torch.where(cells > 0, cells, 1.0)
        return (wrong - self.tolerance).relu() + spread
