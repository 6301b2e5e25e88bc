"""Where a model reacts when a patch of the image is hidden: behaviour, not a gradient."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saliency_losses.extractors.base import Explanation, Run, SaliencyExtractor, call_model
from saliency_losses.extractors.score import Score, check_score, class_weights, logits_of, scores

__all__ = ["SlidingOcclusion"]


def _occlusion(
    model: nn.Module,
    images: Any,
    classes: Tensor | None,
    run: Run,
    window: int | Sequence[int] | None = None,
    score: Score = "true",
) -> Explanation:
    r"""The output and :math:`S(b, i) = \frac{1}{|W_i|} \sum_{w \ni i} (y_b(x) - y_b(x \text{ without } w))`.

    A window is hidden by the image's mean in each channel, and moves by half its size.
    """
    pixels, rebuild = _pixels(images)
    size = pixels.shape[2:]
    extents = _extents(window, tuple(size))
    output = run(model, images)
    scored = _scored(score, output, classes)
    plain = scored(output)
    column = (*plain.shape, *[1] * len(size))
    hidden = pixels.mean(tuple(range(2, pixels.ndim)), keepdim=True)
    total = plain.new_zeros((*plain.shape, *size))
    count = total.new_zeros(size)
    for corner in itertools.product(*map(_starts, size, extents)):
        inside = torch.zeros(size, dtype=torch.bool, device=pixels.device)
        inside[tuple(slice(start, start + extent) for start, extent in zip(corner, extents, strict=True))] = True
        drop = plain - scored(run(model, rebuild(torch.where(inside, hidden, pixels))))
        total = total + inside * drop.view(column)
        count = count + inside
    return Explanation(output, total / count)


class SlidingOcclusion(SaliencyExtractor):
    r"""Occlusion: how much the score falls when a window of the image is hidden, a mean over the windows at each pixel.

    Args:
        window: Its extent, one number or one per axis; a quarter of the image by default.
        score: See :data:`~saliency_losses.extractors.score.Score`. Which classes it names is read from the whole image.

    Raises:
        ValueError: On a call: not exactly one input has the shape (B, C, \*S), or the window does not fit.

    Reference:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
    """

    order = 1

    def __init__(self, *, window: int | Sequence[int] | None = None, score: Score = "true") -> None:
        super().__init__()
        self.window = window
        self.score = check_score(score)

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        return _occlusion(model, inputs, classes, run or call_model, self.window, self.score)


def _scored(score: Score, output: Any, classes: Tensor | None) -> Callable[[Any], Tensor]:
    """The score as a function of an output, its classes settled by this one."""
    if callable(score):
        return lambda out: scores(score, out, classes)
    weights = class_weights(score, logits_of(output), classes)
    return lambda out: (weights * (logits_of(out) if weights.ndim == 2 else logits_of(out).unsqueeze(1))).sum(-1)


def _pixels(inputs: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    leaves, layout = pytree.tree_flatten(inputs)
    fitting = [
        number
        for number, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor) and leaf.ndim > 2 and leaf.is_floating_point()
    ]
    if len(fitting) != 1:
        raise ValueError(
            f"Occlusion hides windows of one input of shape (B, C, *S), but {len(fitting)} of the model's inputs look "
            "like that. Pass witness=None, or an extractor of your own."
        )
    (number,) = fitting

    def rebuild(tensor: Tensor) -> Any:
        return pytree.tree_unflatten([*leaves[:number], tensor, *leaves[number + 1 :]], layout)

    return leaves[number], rebuild


def _extents(window: int | Sequence[int] | None, size: tuple[int, ...]) -> tuple[int, ...]:
    if window is None:
        return tuple(max(1, round(length / 4)) for length in size)
    extents = (window,) * len(size) if isinstance(window, int) else tuple(window)
    if len(extents) != len(size) or not all(0 < extent <= length for extent, length in zip(extents, size, strict=True)):
        raise ValueError(f"window must be from 1 to the image's extent {size} along each axis, got {window}.")
    return extents


def _starts(length: int, extent: int) -> list[int]:
    """Every half extent, and one that ends with the image."""
    return sorted({*range(0, length - extent + 1, max(1, extent // 2)), length - extent})
