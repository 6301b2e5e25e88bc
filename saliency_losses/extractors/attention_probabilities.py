"""The probabilities of attention in plain operations."""

import torch
from torch import Tensor

__all__ = ["attention_probabilities"]


def attention_probabilities(
    query: Tensor, key: Tensor, mask: Tensor | None = None, *, is_causal: bool = False, scale: float | None = None
) -> Tensor:
    r"""How much each query attends to each key, :math:`\operatorname{softmax}(s\, q k^\top + m)`.

    Args:
        query: (\*, N, E).
        key: (\*, M, E).
        mask: Added to the scores; if bool, what may be attended to. A query that may attend to nothing gets zeros.
        is_causal: Whether a query may attend to keys up to its own position only.
        scale: :math:`1 / \sqrt{E}` by default.

    Returns:
        (\*, N, M).

    Example:
        >>> attention_probabilities(torch.zeros(1, 2, 8), torch.ones(1, 2, 8), is_causal=True)
        tensor([[[1.0000, 0.0000],
                 [0.5000, 0.5000]]])
    """
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is None:
        return scores.softmax(-1)
    scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    nothing = (scores == float("-inf")).all(-1, keepdim=True)
    return scores.masked_fill(nothing, 0.0).softmax(-1).masked_fill(nothing, 0.0)
