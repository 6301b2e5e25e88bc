"""A model's confidence in what it sees of an image, without leaving a trace in the model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from saliency_losses.extractors.base import call_model
from saliency_losses.extractors.inputs import Baseline, baseline_of, check_baseline, find_input
from saliency_losses.extractors.score import Score, check_score, pinned, scores
from saliency_losses.metrics.reading import read_maps
from saliency_losses.sizing import to_size

__all__ = ["Confidence", "Trial", "check_confidence", "trial"]

Confidence = Literal["probability"] | Score
"""What a model's confidence is: ``"probability"`` is the class's, by softmax, or by sigmoid where there is one logit;
else a :data:`~saliency_losses.extractors.score.Score`, such as ``"true"`` for the logit, or a callable
``(output, targets)`` that gives (B,)."""


class Trial(NamedTuple):
    r"""An image to try a model on, part by part.

    Attributes:
        pixels: (B, C, \*S).
        baseline: What stands where a pixel is hidden; broadcasts to the pixels.
        maps: The maps at the size of the image, (B, N), in double precision.
        confidence: Of the model in other pixels, (B,).
    """

    pixels: Tensor
    baseline: Tensor
    maps: Tensor
    confidence: Callable[[Tensor], Tensor]


def check_confidence(score: Confidence) -> Confidence:
    """``score`` itself, if it is one; else raises as :func:`~saliency_losses.extractors.score.check_score` does."""
    return score if score == "probability" else check_score(score)


@contextmanager
def trial(
    name: str, model: nn.Module, images: Any, maps: Tensor, targets: Any, baseline: Baseline, score: Confidence
) -> Iterator[Trial]:
    """A trial in which the model is in eval mode and no graph is made; modes are set back, also after an error.

    Raises:
        TypeError: Something is of the wrong type.
        ValueError: Something does not fit.
    """
    check_confidence(score), check_baseline(baseline)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} expected the model as an nn.Module, got {type(model).__name__}.")
    pixels, rebuild = find_input(images)
    if pixels.ndim < 3:
        raise ValueError(f"{name} expected images of shape (B, C, *positions), got {tuple(pixels.shape)}.")
    read = read_maps(name, maps, None)
    if len(read.model) != len(pixels) or len(read.size) != pixels.ndim - 2:
        raise ValueError(
            f"{name} expected maps of shape ({len(pixels)}, *s of {pixels.ndim - 2} axes) for images of shape "
            f"{tuple(pixels.shape)}, got {tuple(maps.shape)}."
        )
    enlarged = to_size(read.model.view(-1, *read.size), tuple(pixels.shape[2:]), "enlarge").flatten(1)
    named: Score = "log_probability" if score == "probability" else score
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()
            asked, classes = (named, targets) if targets is not None else pinned(named, call_model(model, images), None)

            def confidence(tried: Tensor) -> Tensor:
                value = scores(asked, call_model(model, rebuild(tried)), classes)
                if value.shape != (len(tried),):
                    raise ValueError(f"{name} needs one number per image, ({len(tried)},), got {tuple(value.shape)}.")
                return value.exp() if score == "probability" else value

            yield Trial(pixels, baseline_of(baseline, pixels), enlarged.to(pixels.device), confidence)
    finally:
        for module, training in modes:
            module.training = training
