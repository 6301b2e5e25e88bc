"""What extractors share that hide parts of the input and watch the score."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.extractors.base import Explanation, Run, SaliencyExtractor, full_precision
from saliency_losses.extractors.inputs import Baseline, baseline_of, check_baseline, find_input
from saliency_losses.extractors.repeated import check_count, repeatable, tiled
from saliency_losses.extractors.score import Score, check_score, pinned, scores

__all__ = ["PerturbationExtractor"]


class PerturbationExtractor(SaliencyExtractor, ABC):
    r"""An extractor that hides parts of the input and watches the score.

    .. math:: x_n = m_n \odot x + (1 - m_n) \odot x'

    A plain pass of the model gives the output. The others use its batch statistics, so that a map is the sample's own
    and buffers are updated once; they draw dropout masks of their own. Every pass stays on the graph, so that training
    needs the memory of all of them, whatever ``chunk``.

    Args:
        baseline: x', what stands where the input is hidden: a number, a tensor that broadcasts to the input, or a
            function of it.
        chunk: How many masks go through the model at once.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`; a predicted class is that of the
            plain pass.
        input: Which input to explain, where the model takes several: its position or keyword. Other tensors whose
            first axis is the batch are repeated along with it where ``chunk`` is above 1.

    Raises:
        ValueError: The chunk is no positive integer; on a call: the baseline does not fit, the input has no positions,
            or there is no, or more than one, floating-point input to choose from.
        TypeError: The baseline is none.
    """

    needs = "perturbed inputs"
    order = 1

    def __init__(self, *, baseline: Baseline, chunk: int, score: Score, input: int | str | None) -> None:
        super().__init__()
        self.baseline = check_baseline(baseline)
        self.chunk = check_count(chunk, "chunk")
        self.score = check_score(score)
        self.input = input

    @abstractmethod
    def masks(self, pixels: Tensor) -> Iterator[Tensor]:
        r"""At most ``chunk`` masks m at a time, (n, \*S) in [0, 1]."""

    @abstractmethod
    def effects(self, values: Tensor, plain: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        r"""What each mask says of the positions it concerns.

        Args:
            values: The scores of the masked inputs, (n, B) or (n, B, K).
            plain: Those of the input, (B,) or (B, K).
            masks: (n, \*S).

        Returns:
            The effects, like the scores, and by how much they concern each position, like the masks.
        """

    @abstractmethod
    def average(self, total: Tensor, cover: Tensor) -> Tensor:
        r"""The map, from the sum of the effects at each position (B, \*S) and the sum of their weights there (\*S)."""

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        pixels, rebuild = find_input(inputs, self.input)
        if pixels.ndim < 3:
            raise ValueError(
                f"The input has shape {tuple(pixels.shape)}, expected (B, C, *positions) to hide parts of; give inputs "
                "without channels an axis for them."
            )
        baseline = baseline_of(self.baseline, pixels)
        batch = len(pixels)
        sums, covers = [], []
        with repeatable(model, rebuild, pixels, run, keep=torch.is_grad_enabled()) as (output, again):
            score, classes = pinned(self.score, output, classes)
            plain = scores(score, output, classes)
            for masks in self.masks(pixels):
                kept = masks[:, None, None]
                points = (kept * pixels + (1.0 - kept) * baseline).flatten(0, 1)
                values = scores(score, again(points), tiled(classes, len(masks), batch))
                with full_precision(values, plain, masks) as (values, base, masks):
                    effects, weights = self.effects(values.view(len(masks), batch, *values.shape[1:]), base, masks)
                    sums.append(torch.tensordot(effects.movedim(0, -1), weights, 1))
                    covers.append(weights.sum(0))
        return Explanation(output, self.average(torch.stack(sums).sum(0), torch.stack(covers).sum(0)))
