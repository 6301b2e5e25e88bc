"""Seeing self-attention as it happens, its probabilities on the graph that the output depends on."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from saliency_losses.extractors.capture import as_leaf

__all__ = ["Attention", "AttentionWatch", "attention_probabilities"]

_CONVOLUTIONS = frozenset(["conv1d", "conv2d", "conv3d"])
# Operations behind which probabilities are still the same ones, thinned out or in another type.
_KEEPS = frozenset(["dropout", "to", "type", "type_as", "float", "double", "half", "bfloat16", "clone", "contiguous"])
_PRODUCTS = frozenset(["matmul", "bmm", "einsum"])


class Attention(NamedTuple):
    """What one attention layer did: (B, H, N, N), or (B, N, N) for one head.

    Attributes:
        probabilities: Softmax of the scores, before dropout.
        used: What the values were multiplied by: the probabilities after dropout. The output depends on this tensor.
    """

    probabilities: Tensor
    used: Tensor


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


class AttentionWatch(TorchFunctionMode):
    """While active, computes attention in plain operations and keeps its probabilities.

    Fused attention, ``F.scaled_dot_product_attention`` and ``F.multi_head_attention_forward``, is restated; a softmax
    over the last axis whose result is multiplied by something is attention too. What the model returns is the same up
    to rounding, and so is the random state.

    Attributes:
        attentions: In the order in which they were used.
        positions: What the last convolution before the first attention gave, without batch and channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attentions: list[Attention] = []
        self.positions: tuple[int, ...] | None = None
        self._softmaxed: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            return self._attend(*args, **kwargs)
        if name == "multi_head_attention_forward":
            return self._attend_with_heads(func, *args, **kwargs)
        if name in _PRODUCTS:
            args = tuple(map(self._multiplied, args))
        result = func(*args, **kwargs)
        if name == "softmax" and result.ndim in (3, 4):
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            if dim in (-1, result.ndim - 1):
                self._softmaxed[id(result)] = result, result
        elif name in _KEEPS and args and id(args[0]) in self._softmaxed:
            self._softmaxed[id(result)] = result, self._softmaxed[id(args[0])][1]
        elif name in _CONVOLUTIONS and not self.attentions:
            self.positions = tuple(result.shape[2:])
        return result

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
        probabilities = attention_probabilities(query, key, attn_mask, is_causal=is_causal, scale=scale)
        used = torch.dropout(probabilities, dropout_p, True) if dropout_p > 0 else probabilities
        return self._keep(probabilities, used) @ value

    def _attend_with_heads(self, func: Callable[..., Any], query: Tensor, *args: Any, **kwargs: Any) -> Any:
        """PyTorch's own function, its call of fused attention replaced."""
        own = {"has_torch_function": lambda _: False, "scaled_dot_product_attention": self._attend}
        restated = FunctionType(func.__code__, {**func.__globals__, **own}, None, func.__defaults__)
        output, _ = restated(query, *args, **{**kwargs, "need_weights": False})
        if not kwargs.get("need_weights", True):
            return output, None
        weights = self.attentions[-1].used
        if kwargs.get("average_attn_weights", True):
            weights = weights.mean(1)
        return output, weights.squeeze(0) if query.ndim == 2 else weights

    def _multiplied(self, factor: Any) -> Any:
        if id(factor) not in self._softmaxed:
            return factor
        return self._keep(self._softmaxed[id(factor)][1], factor)

    def _keep(self, probabilities: Tensor, used: Tensor) -> Tensor:
        """Keep both, and return what to multiply by: a leaf where no trainable parameter reaches the one used."""
        leaf = as_leaf(used)
        self.attentions.append(Attention(probabilities, used if leaf is None else leaf))
        return self.attentions[-1].used
