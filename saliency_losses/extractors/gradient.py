"""The gradient of scores with respect to one tensor, on the graph, or the reason why it cannot be."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.graph import Node

from saliency_losses.extractors.base import is_own_leaf

__all__ = ["gradient", "reaches_parameter", "refuse_obstacles"]

# Half-precision gradients of scores are small; a power of two moves them into range without rounding.
_HALF_SCALE = 128.0

_OBSTACLES = {
    "CompiledFunction": (
        "a compiled module lies between the layer and the score, and torch.compile has no double backward. "
        "Compile only modules before the layer, or use extractor='cam'."
    ),
    "CheckpointFunction": (
        "reentrant checkpointing lies between the layer and the score. Use checkpoint(..., use_reentrant=False)."
    ),
    "ScaledDotProduct": (
        "a fused attention kernel without double backward lies between the layer and the score. Call the loss under "
        "'with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):'."
    ),
    "FlashAttention": (
        "a fused attention kernel without double backward lies between the layer and the score. Build the model "
        "with eager attention."
    ),
    "CudnnRnn": (
        "a cuDNN recurrent layer without double backward lies between the layer and the score. Call the loss under "
        "'with torch.backends.cudnn.flags(enabled=False):'."
    ),
}


def gradient(scores: Tensor, tensor: Tensor, what: str, *, create_graph: bool) -> Tensor:
    r"""Each sample's d score / d tensor.

    Args:
        scores: (B,) or (B, K).
        tensor: (B, \*shape) on the graph of the scores.
        what: Names the tensor in errors.
        create_graph: Whether the result can be trained through.

    Returns:
        (B, \*shape), or (B, K, \*shape), in at least float32.

    Raises:
        ValueError: The scores do not depend on the tensor.
        RuntimeError: Something on the way has no double backward; the message names the remedy.
    """
    if len(scores) != len(tensor):
        raise ValueError(
            f"The score has {len(scores)} samples, but {what} has shape {tuple(tensor.shape)}, with the batch first: "
            "scores must be (B,) or (B, K), and a layer must keep the batch first (reshape= can bring it there)."
        )
    if create_graph:
        refuse_obstacles(scores, tensor)
    scale = _HALF_SCALE if _in_half(tensor) else 1.0
    columns = [scores] if scores.ndim == 1 else list(scores.unbind(1))
    grads = []
    for number, column in enumerate(columns):
        keep = create_graph or number + 1 < len(columns)
        total = column.float().sum() if column.dtype in (torch.float16, torch.bfloat16) else column.sum()
        grad = None
        if total.requires_grad:
            (grad,) = torch.autograd.grad(
                total * scale, tensor, retain_graph=keep or None, create_graph=create_graph, allow_unused=True
            )
        if grad is None:
            raise ValueError(
                f"The explained score does not depend on {what}; choose a layer between the input and the score "
                "(list_layers(model, images))."
            )
        grads.append(grad)
    result = grads[0] if scores.ndim == 1 else torch.stack(grads, 1)
    if result.dtype in (torch.float16, torch.bfloat16):
        result = result.float()
    return result / scale if scale != 1.0 else result


def _in_half(tensor: Tensor) -> bool:
    """Whether gradients of this tensor pass through float16."""
    device = tensor.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return autocast or tensor.dtype == torch.float16


def refuse_obstacles(scores: Tensor, tensor: Tensor) -> None:
    """Raise where something between the tensor and the scores has no double backward.

    Raises:
        RuntimeError: The message names the obstacle and the remedy.
    """
    goal = tensor.grad_fn
    for node in _nodes(scores.grad_fn, goal):
        for mark, why in _OBSTACLES.items():
            if mark in node.name() and (goal is None or any(n is goal for n in _nodes(node, None))):
                raise RuntimeError(f"The map cannot be trained through: {why}")


def reaches_parameter(tensor: Tensor) -> bool:
    """Whether the tensor depends on a trainable parameter, not just on the leaf that a map was differentiated by."""
    leaves = (getattr(node, "variable", None) for node in _nodes(tensor.grad_fn, None))
    return any(leaf is not None and not is_own_leaf(leaf) for leaf in leaves)


def _nodes(start: Node | None, stop: Node | None) -> Iterator[Node]:
    """The nodes of the graph behind ``start``, not going past ``stop``."""
    todo = [start]
    seen: set[Node | None] = {None, stop}
    while todo:
        node = todo.pop()
        if node in seen or node is None:
            continue
        seen.add(node)
        yield node
        todo.extend(following for following, _ in node.next_functions)
