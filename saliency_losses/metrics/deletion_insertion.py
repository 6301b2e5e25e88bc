"""How the model's confidence falls as what its map marks is deleted, and rises as it is inserted."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from saliency_losses.extractors.inputs import Baseline
from saliency_losses.metrics.confidence import Confidence, trial

__all__ = ["ConfidenceCurve", "deletion", "insertion"]


class ConfidenceCurve(NamedTuple):
    """The model's confidence over the share of pixels that are deleted, or inserted.

    Attributes:
        shares: From 0 to 1, (steps + 1,).
        confidence: (B, steps + 1).
        area: Under each curve, by trapezoids, (B,).
    """

    shares: Tensor
    confidence: Tensor
    area: Tensor


def deletion(
    model: nn.Module,
    images: Any,
    maps: Tensor,
    targets: Any = None,
    *,
    steps: int = 20,
    baseline: Baseline = 0.0,
    score: Confidence = "probability",
) -> ConfidenceCurve:
    r"""The model's confidence as pixels are deleted, those first where its map is largest; a small area is good.

    Of equal values the first in the order of the map is deleted first. The model is in eval mode meanwhile, and no
    gradient is taken.

    Args:
        model: The model.
        images: What it takes: a tensor (B, C, \*S), or a tuple, list or mapping that holds one.
        maps: (B, \*s); enlarged linearly to the images.
        targets: Classes, (B,); what the model predicts for the whole images by default.
        steps: In how many about equal parts; at most one per pixel.
        baseline: What stands where a pixel is deleted: a number, a tensor that broadcasts to the images, or a function
            of them.
        score: What confidence is: ``"probability"``, another score by name, or a callable ``(output, targets)`` that
            gives (B,).

    Returns:
        A :class:`ConfidenceCurve`.

    Raises:
        TypeError: Something is of the wrong type.
        ValueError: A shape or option does not fit, or a map is not finite.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        >>> _ = nn.init.constant_(model[1].weight[0], 1.0), nn.init.zeros_(model[1].weight[1])
        >>> image = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]]]])
        >>> curve = deletion(model, image, image[:, 0], torch.tensor([0]), steps=2)
        >>> curve.confidence.round(decimals=2), curve.area
        (tensor([[0.9800, 0.5000, 0.5000]]), tensor([0.6205]))

    Reference:
        Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018.
    """
    return _curve("deletion", model, images, maps, targets, steps, baseline, score)


def insertion(
    model: nn.Module,
    images: Any,
    maps: Tensor,
    targets: Any = None,
    *,
    steps: int = 20,
    baseline: Baseline = 0.0,
    score: Confidence = "probability",
) -> ConfidenceCurve:
    r"""The model's confidence as pixels are inserted, those first where its map is largest; a large area is good.

    Arguments and result are those of :func:`deletion`; the published baseline is a blurred image.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        >>> _ = nn.init.constant_(model[1].weight[0], 1.0), nn.init.zeros_(model[1].weight[1])
        >>> image = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]]]])
        >>> insertion(model, image, image[:, 0], torch.tensor([0]), steps=2).confidence.round(decimals=2)
        tensor([[0.5000, 0.9800, 0.9800]])

    Reference:
        Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018.
    """
    return _curve("insertion", model, images, maps, targets, steps, baseline, score)


def _curve(
    name: str,
    model: nn.Module,
    images: Any,
    maps: Tensor,
    targets: Any,
    steps: int,
    baseline: Baseline,
    score: Confidence,
) -> ConfidenceCurve:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a positive integer, got {steps!r}.")
    with trial(name, model, images, maps, targets, baseline, score) as (pixels, nothing, values, confidence):
        order = values.argsort(dim=1, descending=True, stable=True)
        place = torch.arange(values.shape[1], device=values.device).expand_as(order)
        turn = torch.empty_like(order).scatter(1, order, place).view(len(values), 1, *pixels.shape[2:])
        last = values.shape[1]
        ends = sorted({round(last * step / steps) for step in range(steps + 1)})
        found = []
        for end in ends:
            reached = turn < end
            found.append(confidence(torch.where(reached == (name == "insertion"), pixels, nothing)))
    curve = torch.stack(found, 1)
    shares = torch.tensor(ends, dtype=torch.float64).to(curve) / last
    return ConfidenceCurve(shares, curve, torch.trapezoid(curve, shares, dim=1))
