"""What extractors share that explain by one gradient of the score at the input."""

from abc import ABC
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from saliency_losses.extractors.attention_kernel import math_attention
from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    Run,
    SaliencyExtractor,
    call_model,
    detached,
    gradients_on,
)
from saliency_losses.extractors.batch_statistics import BatchStatistics, Statistics, check_batch_statistics
from saliency_losses.extractors.channels import Reduce, check_reduce, reduce_channels
from saliency_losses.extractors.gradient import gradient
from saliency_losses.extractors.inputs import find_input, pick_input
from saliency_losses.extractors.rectifiers import Rectifiers
from saliency_losses.extractors.runs import TappingRun
from saliency_losses.extractors.score import Score, check_score, scores

__all__ = ["InputGradientExtractor", "twice_differentiable"]


def twice_differentiable(needed: bool) -> AbstractContextManager[Any]:
    """Attention by a kernel that can be differentiated twice, where that is needed."""
    return math_attention() if needed else nullcontext()


class InputGradientExtractor(SaliencyExtractor, ABC):
    r"""An extractor that takes one gradient of the score with respect to the input.

    .. math:: S(b, i) = \operatorname{reduce}_c\, A(b, c, i)

    with the attribution :math:`A` made of the gradient and the input by :meth:`combine`.

    Args:
        reduce: Over channels, see :func:`~saliency_losses.extractors.channels.reduce_channels`; each extractor has its
            own default.
        score: What to explain: ``"true"`` (the given class), ``"predicted"``, ``"contrast"`` (the given class minus the
            strongest other), a class index, or ``(output, targets)`` to (B,); see
            :data:`~saliency_losses.extractors.score.Score`.
        input: Which input to explain, where the model takes several: its position or keyword.
        batch_statistics: Whether BatchNorm in train mode counts as ``"constant"`` in the gradient, so that a map is the
            sample's own, or ``"coupled"``: mixed with those of the other samples.

    Raises:
        ValueError: On a call: no, or more than one, floating-point input to choose from, or one without influence.
        RuntimeError: On a call with gradients: something in the model has no double backward.
    """

    needs = "input gradient"
    order = 2
    default_reduce: ClassVar[Reduce] = "abs_max"

    def __init__(
        self,
        *,
        reduce: Reduce | None = None,
        score: Score = "true",
        input: int | str | None = None,
        batch_statistics: BatchStatistics = "constant",
    ) -> None:
        super().__init__()
        self.reduce = None if reduce is None else check_reduce(reduce)
        self.score = check_score(score)
        self.input = input
        self.batch_statistics = check_batch_statistics(batch_statistics)
        self.compiles = self.rectifiers() is None

    def rectifiers(self) -> Rectifiers | None:
        """What changes how ReLUs pass gradients back, if anything does."""
        return None

    def combine(self, pixels: Tensor, grad: Tensor) -> Tensor:
        r"""The attribution.

        Args:
            pixels: (B, C, \*S), or (B, 1, C, \*S) where K classes are explained.
            grad: (B, C, \*S), or (B, K, C, \*S).
        """
        return grad

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        if isinstance(run, TappingRun) and run.traced and self.compiles:
            return self._traced(model, inputs, classes, run)
        keep = torch.is_grad_enabled()
        statistics = Statistics()
        rectifiers = self.rectifiers()
        with gradients_on() as usable:
            inputs, classes = usable((inputs, classes))
            pixels, rebuild = pick_input(inputs, self.input)
            with ExitStack() as watching:
                watching.enter_context(twice_differentiable(keep))
                # Compiled graphs would not see when the gradient of the map is taken; while training they are refused.
                watching.enter_context(nullcontext() if keep else torch.compiler.set_stance("force_eager"))
                for mode in (statistics if self.batch_statistics == "constant" else None, rectifiers):
                    watching.enter_context(mode or nullcontext())
                output = (run or call_model)(model, rebuild(pixels.clone()))
            if rectifiers is not None and not rectifiers.found:
                raise ValueError(
                    f"{EXTRACTORS.name_of(self)} changes how ReLUs pass gradients back, but the model called none "
                    "(nn.ReLU, F.relu); other activations have no such rule. Use extractor='input_gradient'."
                )
            score = scores(self.score, output, classes)
            with statistics.constant(), nullcontext() if rectifiers is None else rectifiers.applied():
                grad = gradient(score, pixels, "the input", create_graph=keep)
            saliency = self.combine(pixels.unsqueeze(1) if score.ndim == 2 else pixels, grad)
            saliency = reduce_channels(saliency, self.reduce or self.default_reduce, score.ndim)
        return Explanation(output, saliency) if keep else Explanation(detached(output), saliency.detach())

    def _traced(self, model: nn.Module, inputs: Any, classes: Tensor | None, run: TappingRun) -> Explanation:
        """The same inside a compiled step."""
        pixels, rebuild = find_input(inputs, self.input)
        constant = self.batch_statistics == "constant"
        output, _, score, (grad,) = run.differentiate_input(
            model, pixels, rebuild, lambda output: scores(self.score, output, classes), constant=constant
        )
        saliency = self.combine(pixels.unsqueeze(1) if score.ndim == 2 else pixels, grad)
        return Explanation(output, reduce_channels(saliency, self.reduce or self.default_reduce, score.ndim))
