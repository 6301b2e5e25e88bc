"""How much confidence the model loses, or gains, when it sees what its map marks alone."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from saliency_losses.divergences.normalizer import NORMALIZERS, Normalizer
from saliency_losses.divergences.scales import MINMAX
from saliency_losses.extractors.inputs import Baseline
from saliency_losses.metrics.confidence import Confidence, trial
from saliency_losses.metrics.reading import read_maps

__all__ = ["ConfidenceDrop", "average_drop"]

_EPS = 1e-7


class ConfidenceDrop(NamedTuple):
    """What the model loses when it sees what its map marks alone, one value per image, (B,).

    Attributes:
        drop: Lost confidence as a share of that in the whole image, from 0 to 1; its mean is the average drop.
        increase: 1 where confidence rose, else 0; its mean is the increase in confidence.
        whole: Confidence in the whole image.
        masked: Confidence in what the map marks.
    """

    drop: Tensor
    increase: Tensor
    whole: Tensor
    masked: Tensor


def average_drop(
    model: nn.Module,
    images: Any,
    maps: Tensor,
    targets: Any = None,
    *,
    normalize: str | Normalizer = MINMAX,
    baseline: Baseline = 0.0,
    score: Confidence = "probability",
) -> ConfidenceDrop:
    r"""How much confidence the model loses, or gains, when it sees what its map marks alone.

    .. math:: \frac{\max(0, s(x) - s(\hat m \odot x + (1 - \hat m) \odot x'))}{s(x) + 10^{-7}}, \qquad
        \hat m = \frac{m - \min m}{\max m - \min m}

    A small drop is good, and so is an increase. A flat map hides the whole image. The model is in eval mode meanwhile,
    and no gradient is taken.

    Args:
        model: The model.
        images: What it takes: a tensor (B, C, \*S), or a tuple, list or mapping that holds one.
        maps: (B, \*s); enlarged linearly to the images once normalised.
        targets: Classes, (B,); what the model predicts for the whole images by default.
        normalize: What brings maps to [0, 1]: a normaliser or its name, ``"none"`` for maps that lie there.
        baseline: x', what stands where a pixel is hidden: a number, a tensor that broadcasts to the images, or a
            function of them.
        score: s, what confidence is: ``"probability"``, or a callable ``(output, targets)`` that gives (B,), not
            negative.

    Returns:
        A :class:`ConfidenceDrop`.

    Raises:
        TypeError: Something is of the wrong type.
        ValueError: A shape or option does not fit, a map is not finite or leaves [0, 1], or confidence is negative.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> _ = nn.init.constant_(model[1].weight[0], 1.0), nn.init.zeros_(model[1].weight[1])
        >>> image = torch.tensor([[[[4.0, 0.0]]], [[[4.0, -4.0]]]])
        >>> average_drop(model, image, torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]), torch.tensor([0, 0])).drop
        tensor([0.4908, 0.0000])

    Reference:
        Chattopadhyay, Sarkar, Howlader and Balasubramanian, Grad-CAM++: Generalized Gradient-Based Visual Explanations
        for Deep Convolutional Networks, WACV 2018.
    """
    normalizer = NORMALIZERS.resolve(normalize)
    read = read_maps("average_drop", maps, None)
    unit = normalizer(read.model)
    if bool(((unit < 0) | (unit > 1)).any()):
        raise ValueError(
            f"average_drop hides by maps in [0, 1], but {normalizer} gives values from {float(unit.min()):g} to "
            f"{float(unit.max()):g}; use normalize='minmax'."
        )
    masks = unit.view(-1, *read.size)
    with trial("average_drop", model, images, masks, targets, baseline, score) as (pixels, nothing, values, confidence):
        mask = values.view(len(values), 1, *pixels.shape[2:]).to(pixels.dtype)
        whole, masked = confidence(pixels), confidence(mask * pixels + (1.0 - mask) * nothing)
    if bool((whole < 0).any()):
        raise ValueError(
            f"average_drop is a share of the confidence, which must not be negative, got {float(whole.min()):g}; "
            "take score='probability'."
        )
    drop = (whole - masked).relu() / (whole + _EPS)
    return ConfidenceDrop(drop, (masked > whole).to(drop.dtype), whole, masked)
