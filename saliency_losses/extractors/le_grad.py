"""LeGrad: the gradient of scores with respect to attention."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.extractors.attention import (
    as_map,
    attend,
    check_grid,
    check_start,
    refusing_recomputation,
    with_heads,
)
from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    Run,
    SaliencyExtractor,
    detached,
    full_precision,
    gradients_on,
)
from saliency_losses.extractors.capture import Tap, capture
from saliency_losses.extractors.gradient import gradient, gradients
from saliency_losses.extractors.modules import find_module, unwrap
from saliency_losses.extractors.score import Score, check_score, scores

__all__ = ["LeGrad", "feature_sensitivity"]


def feature_sensitivity(grads: Sequence[Tensor]) -> Tensor:
    r"""How much attention to each token raises the score, :math:`\operatorname{mean}_{l,h,i} \max(0, \nabla A_{lhij})`.

    Args:
        grads: Of the score with respect to attention, by layer, (..., H, N, N).

    Returns:
        (..., N).

    Example:
        >>> feature_sensitivity([torch.tensor([[[1.0, -1.0], [3.0, 0.0]]])])
        tensor([2., 0.])
    """
    with full_precision(*grads) as grads:
        return torch.stack([grad.relu().mean((-3, -2)) for grad in grads]).mean(0)


@EXTRACTORS.register("le_grad")
class LeGrad(SaliencyExtractor):
    r"""LeGrad: how much more attention to a patch, by any token in any layer, would raise the score.

    .. math:: S(b) = \Bigl[\frac{1}{L H N} \sum_{l, h, i}
              \max\Bigl(0, \frac{\partial y^l_b}{\partial A_{lhi\cdot}}\Bigr)\Bigr]_{patches}

    over layers l, heads h and query tokens i, with A the attention as it was used (after dropout). As published,
    :math:`y^l` is a score of layer l's own, its tokens averaged and classified as the last one's are; that needs
    ``blocks`` and ``classify``, and takes a gradient through one block per layer. Without them every :math:`y^l` is the
    model's own score. The published map is also min-max normalised, which is left to the divergence. For any
    transformer with self-attention over all tokens (torchvision, timm, Hugging Face); fused attention is computed in
    plain operations during the call, with an (N, N) matrix per head in memory.

    Args:
        score: What to explain: ``"true"`` (the given class), ``"predicted"``, ``"contrast"`` (the given class minus the
            strongest other), a class index, or ``(output, targets)`` to (B,); see
            :data:`~saliency_losses.extractors.score.Score`.
        blocks: Dotted name of the list of blocks, each with one attention layer, whose outputs are tokens.
        classify: ``(model, tokens)`` of one block to what the score is taken of, such as
            ``model.head(model.norm(tokens.mean(1)))``.
        start: The first attention layer that counts, from 0; -1 for the last alone.
        grid: Patches along each axis, (height, width), if they are the last tokens, row by row. By default tokens are
            followed from the image to the attention, wherever class token and registers are.

    Raises:
        ValueError: Only one of ``blocks`` and ``classify``. On a call: no attention over all tokens, other attention
            too (windows, cross-attention, pooling), tokens that cannot be placed, a layer without influence on the
            score, or blocks that are not one per attention layer.
        RuntimeError: On a call with gradients: something between attention and score has no double backward.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Unflatten(1, (9, 4)), torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        ...     torch.nn.Flatten(), torch.nn.Linear(36, 2))
        >>> LeGrad(grid=(3, 3))(net, torch.rand(5, 36), torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 3, 3])

    Reference:
        Bousselham et al., LeGrad: An Explainability Method for Vision Transformers via Feature Formation Sensitivity,
        ICCV 2025.
    """

    order = 2
    dimensions = (2,)
    needs = "attention gradient"

    def __init__(
        self,
        *,
        score: Score = "true",
        blocks: str | None = None,
        classify: Callable[[Any, Tensor], Any] | None = None,
        start: int = 0,
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if (blocks is None) != (classify is None):
            raise ValueError("blocks= and classify= together give each layer a score of its own; give both or none.")
        self.score = check_score(score)
        self.blocks = blocks
        self.classify = classify
        self.start = check_start(start)
        self.grid = check_grid(grid)

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        keep = torch.is_grad_enabled()
        with refusing_recomputation(), gradients_on() as usable, ExitStack() as stack:
            inputs, classes = usable((inputs, classes))
            names = [] if self.blocks is None else find_module(model, self.blocks)._modules
            taps = [Tap(f"{self.blocks}.{name}", "output") for name in names]
            blocks = [stack.enter_context(capture(model, tap, leaf=False)) for tap in taps]
            attended = attend(model, inputs, run, grid=self.grid, start=self.start)
            if self.classify is None:
                score = scores(self.score, attended.output, classes)
                grads = gradients(score, [layer.used for layer in attended.layers], attended.names, create_graph=keep)
            else:
                count = attended.first + len(attended.layers)
                if len(blocks) != count:
                    raise ValueError(
                        f"{self.blocks!r} has {len(blocks)} blocks, but the model has {count} attention layers; each "
                        "block must have one."
                    )
                grads = []
                for layer, block in zip(attended.layers, blocks[attended.first :], strict=True):
                    score = scores(self.score, self.classify(unwrap(model), block.tensor), classes)
                    what = f"attention in the block of {block.tap}"
                    grads.append(gradient(score, layer.used, what, create_graph=keep))
            grads = [with_heads(grad, layer) for grad, layer in zip(grads, attended.layers, strict=True)]
            saliency = as_map(feature_sensitivity(grads), attended)
        output = attended.output
        return Explanation(output, saliency) if keep else Explanation(detached(output), saliency.detach())
