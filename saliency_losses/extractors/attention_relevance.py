"""Generic attention relevance."""

from collections.abc import Sequence
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
from saliency_losses.extractors.attention_rows import Query, check_query, first_row
from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    Run,
    SaliencyExtractor,
    detached,
    full_precision,
    gradients_on,
)
from saliency_losses.extractors.gradient import gradients
from saliency_losses.extractors.score import Score, check_score, scores

__all__ = ["AttentionRelevance", "relevance"]


def relevance(attentions: Sequence[Tensor], grads: Sequence[Tensor], row: Tensor) -> Tensor:
    r"""How relevant each token is to a row of the last layer, :math:`r^\top (I + \bar A_L) \cdots (I + \bar A_1)`.

    .. math:: \bar A_l = \operatorname{mean}_h \max(0, \nabla A_l \odot A_l)

    This is the row of R after :math:`R \leftarrow I`, then :math:`R \leftarrow R + \bar A_l R` from the first layer to
    the last, computed from the last to the first, where it takes no product of matrices.

    Args:
        attentions: By layer, (B, H, N, N).
        grads: Of the score, by layer, (B, H, N, N) or (B, K, H, N, N).
        row: The tokens to read, as weights (N,).

    Returns:
        (B, N) or (B, K, N).

    Example:
        >>> relevance([torch.full((1, 1, 2, 2), 0.5)], [torch.ones(1, 1, 2, 2)], torch.tensor([1.0, 0.0]))
        tensor([[1.5000, 0.5000]])
    """
    with full_precision(row, *grads) as (row, *grads):
        several = grads[0].ndim == 5
        result = row.expand(*grads[0].shape[: 2 if several else 1], -1)
        for attention, grad in zip(reversed(attentions), reversed(grads), strict=True):
            weighed = grad * (attention.unsqueeze(1) if several else attention)
            result = result + torch.einsum("...i,...ij->...j", result, weighed.relu().mean(-3))
    return result


@EXTRACTORS.register("attention_relevance")
class AttentionRelevance(SaliencyExtractor):
    r"""Attention relevance: attention weighed by the gradient of the score, passed on from layer to layer.

    .. math:: R \leftarrow I, \qquad R \leftarrow R + \operatorname{mean}_h \max(0, \nabla A_l \odot A_l)\, R
              \quad (l = 1 \dots L), \qquad S(b) = \bigl[r^\top R\bigr]_{patches}

    with A the attention of layer l as it was used (after dropout), its gradient taken of the score, and r the class
    token's row. Never negative. As a training signal, the gradient is often taken for a constant; here it is not, so
    that training follows the map's true derivative. For any transformer with self-attention over all tokens
    (torchvision, timm, Hugging Face); fused attention is computed in plain operations during the call, with an (N, N)
    matrix per head in memory.

    Args:
        score: What to explain: ``"true"`` (the given class), ``"predicted"``, ``"contrast"`` (the given class minus the
            strongest other), a class index, or ``(output, targets)`` to (B,); see
            :data:`~saliency_losses.extractors.score.Score`.
        query: Read the row of the ``"class"`` token, or the ``"mean"`` of the patches' rows. By default the former
            where the score depends on it behind the last attention.
        start: The first attention layer that counts, from 0; -1 for the last alone.
        grid: Patches along each axis, (height, width), if they are the last tokens, row by row. By default tokens are
            followed from the image to the attention, wherever class token and registers are.

    Raises:
        ValueError: On a call: no attention over all tokens, other attention too (windows, cross-attention, pooling),
            tokens that cannot be placed, or a layer without influence on the score.
        RuntimeError: On a call with gradients: something between attention and score has no double backward.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Unflatten(1, (9, 4)), torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        ...     torch.nn.Flatten(), torch.nn.Linear(36, 2))
        >>> AttentionRelevance(grid=(3, 3))(net, torch.rand(5, 36), torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 3, 3])

    Reference:
        Chefer et al., Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
        Transformers, ICCV 2021; as a training signal: Chefer et al., Optimizing Relevance Maps of Vision Transformers
        Improves Robustness, NeurIPS 2022.
    """

    order = 2
    dimensions = (2,)
    needs = "attention gradient"

    def __init__(
        self,
        *,
        score: Score = "true",
        query: Query | None = None,
        start: int = 0,
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.score = check_score(score)
        self.query = check_query(query)
        self.start = check_start(start)
        self.grid = check_grid(grid)

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        keep = torch.is_grad_enabled()
        with refusing_recomputation(), gradients_on() as usable:
            inputs, classes = usable((inputs, classes))
            attended = attend(model, inputs, run, grid=self.grid, start=self.start)
            score = scores(self.score, attended.output, classes)
            row = first_row(self.query, attended, score.sum(), model)
            grads = gradients(score, [layer.used for layer in attended.layers], attended.names, create_graph=keep)
            grads = [with_heads(grad, layer) for grad, layer in zip(grads, attended.layers, strict=True)]
            attentions = [with_heads(layer.used, layer) for layer in attended.layers]
            saliency = as_map(relevance(attentions, grads, row), attended)
        output = attended.output
        return Explanation(output, saliency) if keep else Explanation(detached(output), saliency.detach())
