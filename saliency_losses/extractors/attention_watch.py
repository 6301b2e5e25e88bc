"""Seeing self-attention as it happens, its probabilities on the graph that the output depends on."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from saliency_losses.extractors.attention_probabilities import attention_probabilities
from saliency_losses.extractors.capture import as_leaf

__all__ = ["Attention", "AttentionWatch"]

# Operations behind which probabilities are still the same ones, thinned out or in another type.
_KEEPS = frozenset(["dropout", "to", "type", "type_as", "float", "double", "half", "bfloat16", "clone", "contiguous"])
_PRODUCTS = frozenset(["matmul", "bmm"])


class Attention(NamedTuple):
    """What one attention layer did: (B, H, N, N), or (B, N, N) for one head.

    Attributes:
        probabilities: Softmax of the scores, before dropout.
        used: What the values were multiplied by: the probabilities after dropout. The output depends on this tensor.
    """

    probabilities: Tensor
    used: Tensor


class AttentionWatch(TorchFunctionMode):
    """While active, computes attention in plain operations and keeps its probabilities.

    Fused attention, ``F.scaled_dot_product_attention`` and ``F.multi_head_attention_forward``, is restated; a softmax
    over the last axis whose result is multiplied by something is attention too. What the model returns is the same up
    to rounding, and so is the random state.

    Attributes:
        attentions: In the order in which they were used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attentions: list[Attention] = []
        self._softmaxed: dict[int, tuple[Tensor, Tensor]] = {}
        self._misused: set[int] = set()

    def check(self, tokens: int) -> None:
        """Raise where a softmax over so many tokens was not multiplied by values, once.

        Raises:
            ValueError: One was changed, left unused or used again.
        """
        for result, source in self._softmaxed.values():
            if result is not source or tuple(source.shape[-2:]) != (tokens, tokens):
                continue
            times = sum(layer.probabilities is source for layer in self.attentions)
            if times != 1 or id(source) in self._misused:
                what = "are changed behind the softmax or not used" if not times else "weigh more than one tensor"
                raise ValueError(
                    f"Probabilities of attention {tuple(source.shape)} over {tokens} tokens {what}, which a map would "
                    "not show. Multiply values once by what the softmax gives, with nothing but dropout between, or "
                    "use extractor='grad_cam'."
                )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            return self._attend(*args, **kwargs)
        if name == "multi_head_attention_forward":
            return self._attend_with_heads(func, *args, **kwargs)
        if name == "einsum":
            args = self._summed(*args)
        elif name in _PRODUCTS:
            args = tuple(self._multiplied(factor, not number) for number, factor in enumerate(args))
            kwargs = {key: self._multiplied(factor, key == "input") for key, factor in kwargs.items()}
        result = func(*args, **kwargs)
        if name == "softmax" and result.ndim in (3, 4):
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            if dim in (-1, result.ndim - 1):
                self._softmaxed[id(result)] = result, result
        elif name in _KEEPS and args and id(args[0]) in self._softmaxed:
            self._softmaxed[id(result)] = result, self._softmaxed[id(args[0])][1]
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
            key, value = (_repeated(t, query.shape[-3] // t.shape[-3]) for t in (key, value))
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

    def _summed(self, equation: Any, *operands: Any) -> Any:
        """The arguments of ``einsum``: probabilities weigh values where keys, their last axis, are summed over."""
        if not isinstance(equation, str):
            return equation, *operands
        operands = tuple(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
        given, arrow, result = equation.replace(" ", "").partition("->")
        result = result if arrow else "".join(letter for letter in given if given.count(letter) == 1)
        weighs = [part[-1:] not in result for part in given.split(",")]
        return equation, *(self._multiplied(*pair) for pair in zip(operands, weighs, strict=True))

    def _multiplied(self, factor: Any, weighs: bool) -> Any:
        """What to multiply by, kept if it weighs values rather than is weighed itself."""
        if id(factor) not in self._softmaxed:
            return factor
        probabilities = self._softmaxed[id(factor)][1]
        if weighs:
            return self._keep(probabilities, factor)
        self._misused.add(id(probabilities))
        return factor

    def _keep(self, probabilities: Tensor, used: Tensor) -> Tensor:
        """Keep both, and return what to multiply by: a leaf where no trainable parameter reaches the one used."""
        leaf = as_leaf(used)
        self.attentions.append(Attention(probabilities, used if leaf is None else leaf))
        return self.attentions[-1].used


def _repeated(tensor: Tensor, times: int) -> Tensor:
    """(..., H, N, E) with each head several times, by views that tell where tokens go."""
    several = tensor.unsqueeze(-3)
    return several.expand(*several.shape[:-3], times, *several.shape[-2:]).flatten(-4, -3)
