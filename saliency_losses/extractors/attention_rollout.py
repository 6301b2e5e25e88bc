"""Attention rollout."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

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
from saliency_losses.extractors.score import find_logits

__all__ = ["AttentionRollout", "Fusion", "rollout"]

Fusion = Literal["mean", "max", "min"]

_FUSE: dict[Fusion, Callable[[Tensor, int], Tensor]] = {"mean": torch.mean, "max": torch.amax, "min": torch.amin}


def rollout(attentions: Sequence[Tensor], row: Tensor, *, fusion: Fusion = "mean", residual: float = 0.5) -> Tensor:
    r"""How much of each token reaches a row of the last layer, :math:`r^\top \hat A_L \cdots \hat A_1`.

    .. math:: \hat A_l = \operatorname{rows to one}\bigl((1 - \rho)\, \operatorname{fuse}_h A_l + \rho I\bigr)

    Args:
        attentions: Probabilities by layer, (B, H, N, N).
        row: The tokens to read, as weights (N,).
        fusion: Of the heads.
        residual: The share :math:`\rho` of the residual connection.

    Returns:
        (B, N).

    Example:
        >>> rollout([torch.full((1, 1, 2, 2), 0.5)], torch.tensor([1.0, 0.0]))
        tensor([[0.7500, 0.2500]])
    """
    with full_precision(row, *attentions) as (row, *attentions):
        result = row.expand(len(attentions[0]), -1)
        for attention in reversed(attentions):
            fused = _FUSE[fusion](attention, 1)
            mixed = (1.0 - residual) * fused + residual * torch.eye(len(row), dtype=row.dtype, device=row.device)
            mixed = mixed / mixed.sum(-1, keepdim=True).clamp_min(torch.finfo(row.dtype).tiny)
            result = torch.einsum("bi,bij->bj", result, mixed)
    return result


@EXTRACTORS.register("attention_rollout")
class AttentionRollout(SaliencyExtractor):
    r"""Attention rollout: how much of each patch reaches the token that is read, by attention alone.

    .. math:: S(b) = \bigl[r^\top \hat A_L \cdots \hat A_1\bigr]_{patches}, \qquad
              \hat A_l = \tfrac12 \operatorname{mean}_h A_l + \tfrac12 I

    with the attention probabilities A of layer l before dropout, and r the class token's row. The map is the same for
    every class, holds no gradient and is never negative. For any transformer with self-attention over all tokens
    (torchvision, timm, Hugging Face); fused attention is computed in plain operations during the call, with an
    (N, N) matrix per head in memory.

    Args:
        fusion: Of the heads: ``"mean"`` as published, ``"max"`` or ``"min"``.
        residual: Share of the residual connection, in [0, 1).
        query: Read the row of the ``"class"`` token, or the ``"mean"`` of the patches' rows. By default the former
            where the output depends on it behind the last attention.
        start: The first attention layer that counts, from 0; -1 for the last alone.
        grid: Patches along each axis, (height, width), if they are the last tokens, row by row. By default tokens are
            followed from the image to the attention, wherever class token and registers are.

    Raises:
        ValueError: On a call: no attention over all tokens, other attention too (windows, cross-attention, pooling), or
            tokens that cannot be placed.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Unflatten(1, (9, 4)), torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        ...     torch.nn.Flatten(), torch.nn.Linear(36, 2))
        >>> AttentionRollout(grid=(3, 3))(net, torch.rand(5, 36), None).saliency.shape
        torch.Size([5, 3, 3])

    Reference:
        Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020.
    """

    order = 1
    dimensions = (2,)
    needs = "attention"
    maps_per_sample = False

    def __init__(
        self,
        *,
        fusion: Fusion = "mean",
        residual: float = 0.5,
        query: Query | None = None,
        start: int = 0,
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if fusion not in get_args(Fusion):
            raise ValueError(f"fusion must be one of {', '.join(get_args(Fusion))}, got {fusion!r}.")
        if not 0.0 <= residual < 1.0:
            raise ValueError(f"residual must lie in [0, 1), got {residual!r}.")
        self.fusion: Fusion = fusion
        self.residual = residual
        self.query = check_query(query)
        self.start = check_start(start)
        self.grid = check_grid(grid)

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        if isinstance(classes, Tensor) and classes.ndim == 2 and not classes.is_floating_point():
            raise ValueError(
                "attention_rollout gives one map per sample, the same for every class, so classes must be (B,); use "
                "'attention_relevance' for (B, K)."
            )
        keep = torch.is_grad_enabled()
        with refusing_recomputation(), gradients_on() as usable:
            attended = attend(model, usable(inputs), run, grid=self.grid, start=self.start)
            row = first_row(self.query, attended, _total(attended.output), model)
            attentions = [with_heads(layer.probabilities, layer) for layer in attended.layers]
            saliency = as_map(rollout(attentions, row, fusion=self.fusion, residual=self.residual), attended)
        output = attended.output
        return Explanation(output, saliency) if keep else Explanation(detached(output), saliency.detach())


def _total(output: Any) -> Tensor:
    """A number that depends on the logits, or on whatever numbers the model returned."""
    logits = find_logits(output)
    leaves = pytree.tree_leaves(output) if logits is None else [logits]
    numbers = [leaf.float().square().sum() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return torch.stack(numbers).sum() if numbers else torch.zeros(())
