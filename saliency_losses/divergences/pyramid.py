"""Mean squared error between the maps at several scales."""

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_mean
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import ZScoreReLU
from saliency_losses.sizing import Sizing

__all__ = ["Pyramid", "pyramid_error", "pyramid_level"]

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_ABOVE_MEAN = ZScoreReLU(floor=1e-5)
_FLOOR = 1e-6


def pyramid_level(maps: Tensor) -> Tensor:
    r"""The next level of a binomial pyramid: maps (B, \*s) blurred, and every second position kept, (B, \*ceil(s/2)).

    The weights along each axis are 1, 4, 6, 4, 1 over 16. Around the maps lie zeros: one before and two after an axis
    of even length, two on either side of another.

    Example:
        >>> pyramid_level(torch.ones(1, 4, 4))
        tensor([[[0.8789, 0.6445],
                 [0.6445, 0.4727]]])
    """
    for axis in range(1, maps.ndim):
        size = maps.shape[axis]
        kept = (size + 1) // 2
        line = F.pad(maps.movedim(axis, -1), (1 + size % 2, 2))
        taps = [weight * line[..., start : start + 2 * kept - 1 : 2] for start, weight in enumerate(_BINOMIAL)]
        maps = torch.stack(taps).sum(0).movedim(-1, axis)
    return maps


def pyramid_error(model: Tensor, human: Tensor, known: Tensor | None = None, *, levels: int = 5) -> Tensor:
    r"""The mean over ``levels`` of the mean squared difference between the pyramids of two (B, \*s) tensors."""
    gap, share = model - human, None if known is None else known.flatten(1)
    total = masked_mean(gap.flatten(1).square(), share)
    inside = torch.ones_like(model[:1])
    if known is not None:
        gap = gap * known
    for _ in range(levels - 1):
        gap = pyramid_level(gap)
        if known is not None:
            known, inside = pyramid_level(known), pyramid_level(inside)
            share = (known / inside).flatten(1)
        total = total + masked_mean(gap.flatten(1).square(), share)
    return total / levels


@DIVERGENCES.register("pyramid")
class Pyramid(Divergence):
    r"""Mean squared error between the maps at five scales, of what stands above each map's mean (Harmonization).

    .. math:: \frac{1}{L} \sum_{l=0}^{L-1} \frac{1}{N_l} \sum_i \big(P_l(\hat m)_i - P_l(\hat h)_i\big)^2, \qquad
        \hat h = \frac{\max \hat m + 10^{-6}}{\max z^+(h) + 10^{-6}}\, z^+(h)

    with :math:`\hat m = z^+(m)`, :math:`z^+(x) = \max(0, (x - \bar x) / (\sigma_x + 10^{-5}))`, and :math:`P_l` the map
    after l steps of ``pyramid_level``, on maps of any size and number of axes. The constant added to the deviation
    makes maps of small scale weak; with ``ZScoreReLU()`` on both sides the value depends on no scale.

    A flat model map costs next to nothing, since the human map is scaled to it, and gets no gradient; an annotated but
    empty human map asks the model for a flat one. Unknown cells count as lying outside the map, and each level is
    averaged by the share that is known of what a position of it sees.

    Args:
        levels: How many scales, the map's own among them.
        detach: Take the model's maximum as a constant, as published; the gradient then ignores how it moves.
        normalize: Of the model's map: a normaliser, or its name.
        human_normalize: Of the human map, before it is scaled to the model's maximum.
        sizing: How both maps come to one size.

    Raises:
        ValueError: An option has an unknown value, or there is no level.

    Example:
        >>> Pyramid()(torch.tensor([[1.0, 0.0, 3.0, 0.0]]), torch.tensor([[0.0, 0.0, 2.0, 0.0]])).round(decimals=4)
        tensor([0.])

    Reference:
        Fel, Felipe, Linsley and Serre, Harmonizing the object recognition strategies of deep neural networks with
        humans, NeurIPS 2022.
    """

    spatial = True

    def __init__(
        self,
        *,
        levels: int = 5,
        detach: bool = True,
        normalize: str | Normalizer = _ABOVE_MEAN,
        human_normalize: str | Normalizer = _ABOVE_MEAN,
        sizing: Sizing = "area",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing)
        if levels < 1:
            raise ValueError(f"levels must be at least 1, got {levels}.")
        self.levels = levels
        self.detach = detach

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        axes = tuple(range(1, model.ndim))
        largest = (model.detach() if self.detach else model).amax(axes, keepdim=True)
        human = human * ((largest + _FLOOR) / (human.amax(axes, keepdim=True) + _FLOOR))
        return pyramid_error(model, human, known, levels=self.levels)
