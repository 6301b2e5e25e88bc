"""The share of the model's positive saliency that lies inside the mask: energy-based pointing game (EPG)."""

import math
from typing import Any

import torch
from torch import Tensor

from saliency_losses.divergences.energy import energy_outside
from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.reading import MASK, read_pair
from saliency_losses.sizing import Sizing, check_sizing

__all__ = ["EnergyPointingGame", "energy_pointing_game"]


def energy_pointing_game(
    model: Tensor,
    human: Tensor | None,
    annotated: Tensor | None = None,
    *,
    floor: float = 1e-7,
    sizing: Sizing = "enlarge",
) -> Tensor:
    r"""The share of the model's positive saliency that lies inside the mask, from 0 to 1.

    .. math:: \frac{\sum_i h_i\, m_i^+}{\sum_i m_i^+}, \qquad m^+ = \max(0, m)

    A map spread evenly gives the mask's share of the area, which is what to compare with.

    Args:
        model: The model's maps, (B, \*s).
        human: Masks in [0, 1] or bool, (B, \*S).
        annotated: Which samples count, (B,); all by default.
        floor: A map whose positive values add up to less gives 0; in units of the map.
        sizing: How both maps come to one size.

    Returns:
        (B,); NaN for samples that do not count.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, a map that counts is not finite, or a mask leaves [0, 1].

    Example:
        >>> energy_pointing_game(torch.tensor([[[3.0, 1.0, -5.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]]))
        tensor([0.7500])

    Reference:
        Wang, Wang, Du, Yang, Zhang, Ding, Mardziel and Hu, Score-CAM: Score-Weighted Visual Explanations for
        Convolutional Neural Networks, CVPR Workshops 2020.
    """
    _check_floor(floor)
    maps = read_pair("energy_pointing_game", model, human, annotated, sizing, MASK)
    share = 1.0 - energy_outside(maps.model, maps.human, eps=0.0)
    return maps.values(torch.where(maps.model.relu().sum(1) < floor, 0.0, share))


@METRICS.register("energy_pointing_game")
class EnergyPointingGame(MeanOverMaps):
    """The mean of :func:`energy_pointing_game` over maps.

    Args:
        floor: A map whose positive values add up to less gives 0.
        sizing: How both maps come to one size.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> metric = EnergyPointingGame()
        >>> metric.update(torch.tensor([[[3.0, 1.0, -5.0]]]), torch.tensor([[[True, False, False]]]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, floor: float = 1e-7, sizing: Sizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"floor": _check_floor(floor), "sizing": check_sizing(sizing)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return energy_pointing_game(model, human, annotated, **self.options)


def _check_floor(floor: float) -> float:
    if not 0 <= floor < math.inf:
        raise ValueError(f"floor must be finite and not negative, got {floor}.")
    return floor
