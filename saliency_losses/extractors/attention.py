"""One call of a transformer that also gives what its attention layers did, and the way from tokens back to a map."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import CheckpointError

from saliency_losses.extractors.attention_tokens import finding_tokens
from saliency_losses.extractors.attention_watch import Attention, AttentionWatch
from saliency_losses.extractors.base import Run, call_model
from saliency_losses.extractors.layout import Tokens
from saliency_losses.extractors.modules import is_compiled

__all__ = [
    "Attended",
    "as_map",
    "attend",
    "check_grid",
    "check_start",
    "refusing_recomputation",
    "with_heads",
]


class Attended(NamedTuple):
    """One forward pass.

    Attributes:
        output: Of the model.
        layers: Attention, from the first layer that counts to the last.
        first: How many layers came before the first that counts.
        tokens: Which are patches, and where each belongs.
    """

    output: Any
    layers: list[Attention]
    first: int
    tokens: Tokens

    @property
    def names(self) -> list[str]:
        """What errors call each layer."""
        return [f"the attention of layer {self.first + number}" for number in range(len(self.layers))]


def attend(model: nn.Module, inputs: Any, run: Run | None, *, grid: tuple[int, ...] | None, start: int) -> Attended:
    """Call the model once and capture self-attention over all tokens.

    Args:
        model: In whatever wrappers.
        inputs: For the model.
        run: Calls the model; :func:`~saliency_losses.extractors.call_model` by default.
        grid: The positions of the patches, which then are the last tokens; by default found by following them.
        start: The first layer that counts.

    Raises:
        ValueError: The model is compiled, has no self-attention that can be seen, or another kind of attention too, or
            nothing tells where its tokens are.
    """
    if any(is_compiled(module) for module in model.modules()):
        raise ValueError(
            "Attention inside a compiled module cannot be seen. Call the loss with the model before torch.compile; "
            "its weights are the same."
        )
    with finding_tokens(model, inputs, grid) as places, AttentionWatch() as watch:
        output = (run or call_model)(model, inputs)
    layers = watch.attentions
    sizes = (len(tensor) for tensor in pytree.tree_leaves(inputs) if isinstance(tensor, Tensor) and tensor.ndim)
    _check_layers(layers, next(sizes, None))
    watch.check(layers[0].used.shape[-1])
    tokens = places.of(layers)
    if not -len(layers) <= start < len(layers):
        raise ValueError(f"start={start} names an attention layer, but the model has {len(layers)}, from 0.")
    return Attended(output, layers[start:], start % len(layers), tokens)


@contextmanager
def refusing_recomputation() -> Iterator[None]:
    """Say what to do where checkpointing runs attention again, by then in another way.

    Raises:
        RuntimeError: The message names the remedy.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, CheckpointError) and not isinstance(error.__cause__, CheckpointError):
            raise
        raise RuntimeError(
            "The map cannot be trained through: checkpointing runs fused attention again outside of this call, where "
            "its probabilities are not on the graph. Build the model with eager attention (Hugging Face: "
            "attn_implementation='eager'; timm: set_fused_attn(False) before it is made), or without checkpointing."
        ) from error


def as_map(tokens: Tensor, attended: Attended) -> Tensor:
    r"""The patches of (..., N), as (..., \*s)."""
    flat = tokens.reshape(1, -1, tokens.shape[-1])
    return attended.tokens.unfold(flat).reshape(*tokens.shape[:-1], *attended.tokens.grid)


def with_heads(tensor: Tensor, layer: Attention) -> Tensor:
    """What belongs to the layer, (..., N, N), with an axis of heads also where the layer has one head and no axis."""
    return tensor.unsqueeze(-3) if layer.used.ndim == 3 else tensor


def check_grid(grid: Sequence[int] | None) -> tuple[int, ...] | None:
    """``grid`` as a tuple of positive integers.

    Raises:
        ValueError: It is something else.
    """
    if grid is None:
        return None
    if not isinstance(grid, (tuple, list)) or not grid or not all(isinstance(n, int) and n > 0 for n in grid):
        raise ValueError(f"grid must be the number of patches along each axis, such as (14, 14), got {grid!r}.")
    return tuple(grid)


def check_start(start: int) -> int:
    """``start`` itself, if it is an integer.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(start, int) or isinstance(start, bool):
        raise TypeError(f"start must be the number of the first attention layer that counts, got {start!r}.")
    return start


def _check_layers(layers: list[Attention], batch: int | None) -> None:
    if not layers:
        raise ValueError(
            "No attention was seen in this forward pass: the model has none, changes its probabilities behind the "
            "softmax, or computes it outside PyTorch's operations. Build it with PyTorch's attention (Hugging Face: "
            "attn_implementation='sdpa' or 'eager'), or use extractor='grad_cam'."
        )
    shapes = [tuple(layer.used.shape) for layer in layers]
    square = all(shape[-1] == shape[-2] == shapes[0][-1] for shape in shapes)
    if not square or any(shape[0] != (batch or shape[0]) for shape in shapes):
        raise ValueError(
            "Maps of attention need self-attention over all tokens in every layer, (B, heads, N, N) with one N for "
            f"B={batch}, but these were seen: {sorted(set(shapes))}. Windows, cross-attention and attention pooling do "
            "not compose to a map; use extractor='grad_cam' with a layer by name."
        )
    if torch.is_grad_enabled() and not all(layer.used.requires_grad for layer in layers):
        raise ValueError(
            "An attention layer runs without gradients (reentrant checkpointing, or torch.no_grad() in the model), so "
            "a map of it cannot be trained through. Checkpoint with use_reentrant=False."
        )
