"""Whether the model's map is largest inside the mask: the pointing game."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_losses.metrics.base import METRICS, MeanOverMaps
from saliency_losses.metrics.reading import MASK, read_pair
from saliency_losses.sizing import Sizing, check_sizing

__all__ = ["PointingGame", "pointing_game"]

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def pointing_game(
    model: Tensor,
    human: Tensor | None,
    annotated: Tensor | None = None,
    *,
    tolerance: float = 0.0,
    sizing: Sizing = "enlarge",
) -> Tensor:
    r"""Whether the largest value of the model's map is in the mask: 1 for a hit, 0 for a miss.

    Of several positions with the largest value each counts as much, so that a flat map gives chance, the mask's share
    of the area, and not whatever its first position is.

    Args:
        model: The model's maps, (B, \*s).
        human: Masks in [0, 1] or bool, (B, \*S); above one half is inside.
        annotated: Which samples count, (B,); all by default.
        tolerance: How many positions beside the mask still are a hit, in Euclidean distance at the common size; 15
            pixels in the literature.
        sizing: How both maps come to one size.

    Returns:
        (B,); NaN for samples that do not count.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A shape or option does not fit, a map that counts is not finite, or a mask leaves [0, 1].

    Example:
        >>> maps, masks = torch.tensor([[[0.1, 0.9, 0.5]]]), torch.tensor([[[0.0, 0.0, 1.0]]])
        >>> pointing_game(maps, masks), pointing_game(maps, masks, tolerance=1)
        (tensor([0.]), tensor([1.]))

    Reference:
        Zhang, Bargal, Lin, Brandt, Shen and Sclaroff, Top-Down Neural Attention by Excitation Backprop, IJCV 2018.
    """
    _check_tolerance(tolerance)
    maps = read_pair("pointing_game", model, human, annotated, sizing, MASK)
    inside = (maps.human > 0.5).view(-1, *maps.size)
    if tolerance >= 1.0:
        inside = _within(inside, tolerance)
    largest = maps.model == maps.model.amax(1, keepdim=True)
    hits = (largest & inside.flatten(1)).sum(1)
    return maps.values(hits.to(maps.model.dtype) / largest.sum(1))


@METRICS.register("pointing_game")
class PointingGame(MeanOverMaps):
    """The share of hits, the mean of :func:`pointing_game` over maps.

    Args:
        tolerance: How many positions beside the mask still are a hit.
        sizing: How both maps come to one size.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> metric = PointingGame()
        >>> metric.update(torch.tensor([[[0.1, 0.9]], [[0.8, 0.2]]]), torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, *, tolerance: float = 0.0, sizing: Sizing = "enlarge", **kwargs: Any) -> None:
        super().__init__({"sizing": check_sizing(sizing), "tolerance": _check_tolerance(tolerance)}, **kwargs)

    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """See :meth:`MeanOverMaps.measure`."""
        return pointing_game(model, human, annotated, **self.options)


def _within(mask: Tensor, distance: float) -> Tensor:
    """Which positions are at most ``distance`` away from the mask, (B, *size)."""
    reach = [min(int(distance), side - 1) for side in mask.shape[1:]]
    steps = [torch.arange(-far, far + 1, device=mask.device) for far in reach]
    ball = torch.stack(torch.meshgrid(*steps, indexing="ij")).square().sum(0) <= distance**2
    found = _CONVOLVE[len(reach)](mask.unsqueeze(1).float(), ball[None, None].float(), padding=reach)
    return found.squeeze(1) > 0.5


def _check_tolerance(tolerance: float) -> float:
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a finite number of positions, not negative, got {tolerance}.")
    return tolerance
