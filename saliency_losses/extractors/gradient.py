"""The gradient of scores with respect to one tensor, on the graph, or the reason why it cannot be."""

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.utils.checkpoint import CheckpointError

from saliency_losses.extractors.base import is_own_leaf
from saliency_losses.graph import leaves_behind, nodes_behind

__all__ = [
    "gradient",
    "gradients",
    "half_scale",
    "hides_parameters",
    "precision_of",
    "reaches_parameter",
    "refuse_obstacles",
]

# Half-precision gradients of scores are small; a power of two moves them into range without rounding.
_HALF_SCALE = 128.0

# How PyTorch names the functions that it differentiates twice by itself.
_BUILT_IN = re.compile(r"(Backward\d+|AccumulateGrad|CopyBackwards|CopySlices)$")

_OBSTACLES = {
    "CompiledFunction": (
        "a compiled module lies between the layer and the score, and torch.compile has no double backward. "
        "Compile only modules before the layer, or use extractor='cam'."
    ),
    "CheckpointFunction": (
        "reentrant checkpointing lies between the layer and the score. Use checkpoint(..., use_reentrant=False)."
    ),
    "ScaledDotProduct": (
        "the model insists on a fused attention kernel without double backward between the layer and the score. Let it "
        "choose torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), or not choose at all."
    ),
    "FlashAttention": (
        "a fused attention kernel without double backward lies between the layer and the score. Build the model "
        "with eager attention."
    ),
    "SyncBatchNorm": (
        "SyncBatchNorm has no double backward and lies between the layer and the score. Use extractor='cam', or a "
        "layer above it."
    ),
    "CudnnRnn": (
        "a cuDNN recurrent layer without double backward lies between the layer and the score. Call the loss under "
        "'with torch.backends.cudnn.flags(enabled=False):'."
    ),
}


def gradient(scores: Tensor, tensor: Tensor, what: str, *, create_graph: bool) -> Tensor:
    r"""Each sample's d score / d tensor; see :func:`gradients`."""
    return gradients(scores, [tensor], [what], create_graph=create_graph)[0]


def gradients(scores: Tensor, tensors: Sequence[Tensor], names: Sequence[str], *, create_graph: bool) -> list[Tensor]:
    r"""Each sample's d score / d tensor, for several tensors in one backward pass.

    Args:
        scores: (B,) or (B, K).
        tensors: Each (B, \*shape), on the graph of the scores.
        names: Of the tensors, for errors.
        create_graph: Whether the result can be trained through.

    Returns:
        For each tensor (B, \*shape), or (B, K, \*shape), in at least float32.

    Raises:
        ValueError: The scores do not depend on a tensor.
        RuntimeError: Something on the way has no double backward; the message names the remedy.
    """
    for tensor, name in zip(tensors, names, strict=True):
        if len(scores) != len(tensor):
            raise ValueError(
                f"The score has {len(scores)} samples, but {name} has shape {tuple(tensor.shape)}, with the "
                "batch first: scores must be (B,) or (B, K), and a layer must keep the batch first "
                "(reshape= can bring it there)."
            )
        if create_graph:
            refuse_obstacles(scores, tensor)
    scale = max(map(half_scale, tensors))
    columns = [scores] if scores.ndim == 1 else list(scores.unbind(1))
    found: list[tuple[Tensor, ...]] = []
    with _refusing_recomputation(), _watching_for_cuts(scores, tensors, watch=create_graph):
        for number, column in enumerate(columns):
            keep = create_graph or number + 1 < len(columns)
            total = column.float().sum() if column.dtype in (torch.float16, torch.bfloat16) else column.sum()
            grads: tuple[Tensor | None, ...] = (None,) * len(tensors)
            if total.requires_grad:
                grads = torch.autograd.grad(
                    total * scale, tensors, retain_graph=keep or None, create_graph=create_graph, allow_unused=True
                )
            for grad, name in zip(grads, names, strict=True):
                if grad is None:
                    raise ValueError(
                        f"The explained score does not depend on {name}; choose a layer between the input and the "
                        "score (list_layers(model, images))."
                    )
            found.append(tuple(grad for grad in grads if grad is not None))
    return [
        _descaled(columns[0] if scores.ndim == 1 else torch.stack(columns, 1), scale)
        for columns in map(list, zip(*found, strict=True))
    ]


def _descaled(grad: Tensor, scale: float) -> Tensor:
    if grad.dtype in (torch.float16, torch.bfloat16):
        grad = grad.float()
    return grad / scale if scale != 1.0 else grad


@contextmanager
def _watching_for_cuts(scores: Tensor, tensors: Sequence[Tensor], *, watch: bool) -> Iterator[None]:
    """Raise afterwards if a function on the way took a gradient on the graph and returned one that is off it.

    PyTorch's own functions do not; those of extensions may, and would give half a gradient without a word.
    """
    cut: list[str] = []
    handles = []
    ways = [nodes_behind(scores.grad_fn, get_gradient_edge(tensor).node) for tensor in tensors] if watch else []
    for node in dict.fromkeys(itertools.chain(*ways)):
        if not _BUILT_IN.search(node.name()):

            def hook(inputs: tuple[Any, ...], outputs: tuple[Any, ...], name: str = node.name()) -> None:
                given = [grad for grad in inputs if grad is not None]
                on_graph = any(grad is not None and grad.requires_grad for grad in outputs)
                if given and on_graph and not any(grad.requires_grad for grad in given):
                    cut.append(name)

            handles.append(node.register_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if cut:
        raise RuntimeError(
            f"The map cannot be trained through: the backward pass of {cut[0]}, between the layer and the score, is "
            "not differentiable itself and would drop part of the gradient. Use extractor='cam', a layer above it, or "
            "a version of that function made of PyTorch operations."
        )


@contextmanager
def _refusing_recomputation() -> Iterator[None]:
    """Say what to do where checkpointing runs a part of the model again in another way than the first time."""
    try:
        yield
    except CheckpointError as error:
        raise RuntimeError(
            "The map cannot be trained through: checkpointing runs a part of the model again, outside of this call, "
            "and there it computes something else. Attention is made of plain operations inside, and fused outside. "
            "Build the model with eager attention (Hugging Face: attn_implementation='eager'; timm: "
            "set_fused_attn(False) before it is made), leave attention out of the checkpoint, or put both this call "
            "and backward() under 'with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):'."
        ) from error


def half_scale(tensor: Tensor) -> float:
    """By what to scale scores so that gradients of this tensor do not vanish in float16."""
    return _HALF_SCALE if precision_of(tensor) == torch.float16 else 1.0


def precision_of(tensor: Tensor) -> torch.dtype:
    """The lowest precision that gradients of this tensor pass through: its own, or autocast's."""
    device = tensor.device.type
    if tensor.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return tensor.dtype


def refuse_obstacles(scores: Tensor, tensor: Tensor) -> None:
    """Raise where something between the tensor and the scores has no double backward.

    Raises:
        RuntimeError: The message names the obstacle and the remedy.
    """
    goal = get_gradient_edge(tensor).node
    for node in nodes_behind(scores.grad_fn, goal):
        for mark, why in _OBSTACLES.items():
            if mark in node.name() and any(behind is goal for behind in nodes_behind(node)):
                raise RuntimeError(f"The map cannot be trained through: {why}")


def reaches_parameter(tensor: Tensor) -> bool:
    """Whether the tensor depends on a trainable parameter, not just on the leaf that a map was differentiated by."""
    return any(not is_own_leaf(leaf) for leaf in leaves_behind(tensor))


def hides_parameters(tensor: Tensor) -> bool:
    """Whether reentrant checkpointing lies behind the tensor, whose parameters ``torch.autograd.grad`` cannot see."""
    return any("CheckpointFunction" in node.name() for node in nodes_behind(tensor.grad_fn))
