"""What extractors share that explain by gradients of the score at several points about the input."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from saliency_losses.extractors.base import (
    Explanation,
    Run,
    SaliencyExtractor,
    detached,
    full_precision,
    gradients_on,
    own_leaf,
)
from saliency_losses.extractors.channels import Reduce, check_reduce, reduce_channels
from saliency_losses.extractors.gradient import gradient
from saliency_losses.extractors.input_gradients import twice_differentiable
from saliency_losses.extractors.inputs import find_input
from saliency_losses.extractors.repeated import check_count, repeatable, tiled
from saliency_losses.extractors.score import Score, check_score, pinned, scores

__all__ = ["SampledGradientExtractor"]


class SampledGradientExtractor(SaliencyExtractor, ABC):
    r"""An extractor that sums the gradients of the score at n points about the input.

    .. math:: S(b, i) = \operatorname{reduce}_c \sum_n w_n(b, c, i)\, \partial y_b / \partial x_n(b, c, i)

    A plain pass of the model gives the output. Those through the points use its batch statistics, so that a map is the
    sample's own and buffers are updated once; they draw dropout masks of their own. Every pass stays on the graph: the
    memory of a training step grows with n, whatever ``chunk``. Implement :meth:`sample`.

    Args:
        count: How many points.
        chunk: How many points of each sample go through the model at once.
        reduce: Over channels, see :func:`~saliency_losses.extractors.channels.reduce_channels`; each extractor has its
            own default.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`; a predicted class is that of the
            plain pass.
        input: Which input to explain, where the model takes several: its position or keyword. Other tensors whose
            first axis is the batch are repeated along with it where ``chunk`` is above 1.

    Raises:
        ValueError: The chunk is no positive integer; on a call: no, or more than one, floating-point input to choose
            from, or one without influence.
        RuntimeError: On a call with gradients: something in the model has no double backward.
    """

    needs = "input gradient"
    order = 2
    default_reduce: ClassVar[Reduce] = "sum"

    def __init__(self, count: int, *, chunk: int, reduce: Reduce | None, score: Score, input: int | str | None) -> None:
        super().__init__()
        self.chunk = check_count(chunk, "chunk")
        self.reduce = None if reduce is None else check_reduce(reduce)
        self.score = check_score(score)
        self.input = input
        self.passes = 1 + math.ceil(count / chunk)

    @abstractmethod
    def sample(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        r"""The points (n, B, C, \*S) and their weights, which broadcast to them."""

    def shape_gradient(self, grad: Tensor) -> Tensor:
        """What of a gradient is summed."""
        return grad

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        keep = torch.is_grad_enabled()
        with gradients_on() as usable:
            inputs, classes = usable((inputs, classes))
            pixels, rebuild = find_input(inputs, self.input)
            batch = len(pixels)
            with repeatable(model, rebuild, pixels, run, keep=keep) as (output, again):
                score, classes = pinned(self.score, output, classes)
                points, weights = self.sample(pixels)
                weights = weights.expand(len(points), *weights.shape[1:])
                terms = []
                for some, weight in zip(*(torch.split(both, self.chunk) for both in (points, weights)), strict=True):
                    where = some.flatten(0, 1)
                    where = where if where.requires_grad else own_leaf(where)
                    with twice_differentiable(keep):
                        there = again(where)
                    value = scores(score, there, tiled(classes, len(some), batch))
                    grad = gradient(value, where, "the input", create_graph=keep)
                    with full_precision(grad, weight) as (grad, weight):
                        grad = self.shape_gradient(grad.view(len(some), batch, *grad.shape[1:]))
                        weight = weight.unsqueeze(2) if value.ndim == 2 else weight
                        terms.append((weight * grad).sum(0))
            saliency = reduce_channels(torch.stack(terms).sum(0), self.reduce or self.default_reduce, value.ndim)
        return Explanation(output, saliency) if keep else Explanation(detached(output), saliency.detach())
