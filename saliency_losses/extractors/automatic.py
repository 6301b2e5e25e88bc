"""Which layer to tap in a transformer unless told: the last one whose patches still count."""

from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_losses.extractors.layers import Layer, Record
from saliency_losses.extractors.pooling import version

__all__ = ["last_that_counts"]


def last_that_counts(
    records: list[Record], layers: tuple[Layer, ...], total: Tensor, parameters: Sequence[Tensor]
) -> tuple[Layer, Tensor] | None:
    """The last layer at whose patches the gradient of the score is not zero, and its output.

    Behind the last attention of a transformer that is read from its class token, no patch counts. Blocks and
    normalisations of the final width are considered; one backward pass decides. There is no such layer where tokens
    follow that cannot be read.

    Args:
        records: Of all calls, in order.
        layers: Those that can be read as maps.
        total: The sum of the explained numbers, on the graph.
        parameters: Of the model.
    """
    by_name = {layer.name: layer for layer in layers}
    found = [record for record in records if record.tensor.requires_grad and _is_block_or_norm(record)]
    candidates = [
        (by_name[record.name], record.tensor)
        for record in found
        if record.name in by_name and version(record.tensor) == record.version
    ]
    candidates = [(layer, tensor) for layer, tensor in candidates if set(layer.positions) != {1}]
    candidates = [(layer, tensor) for layer, tensor in candidates if _width(layer) == _width(candidates[-1][0])]
    if not candidates or not total.requires_grad:
        return None
    grads = _slopes(total, [tensor for _, tensor in candidates], parameters)
    for (layer, tensor), grad in reversed(list(zip(candidates, grads, strict=True))):
        if grad is not None and bool((layer.layout.read(grad) != 0).any()):
            later = found[[other.name for other in found].index(layer.name) + 1 :]
            unread = [other.tensor for other in later if other.name not in by_name and _holds_tokens(other)]
            if _depends(unread, tensor):
                return None
            return next((first, same) for first, same in candidates if same is tensor)
    return None


def _slopes(total: Tensor, tensors: list[Tensor], parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The gradient with respect to each tensor; below a classifier that starts at zero, that of what it reads."""
    grads: Sequence[Tensor | None] = torch.autograd.grad(total, tensors, retain_graph=True, allow_unused=True)
    weights = [parameter for parameter in parameters if parameter.requires_grad and parameter.ndim > 1]
    if any(map(_counts, grads)) or not weights:
        return grads
    moved = torch.autograd.grad(total, weights, retain_graph=True, allow_unused=True)
    weights = [weight for weight, grad in zip(weights, moved, strict=True) if _counts(grad)]
    if not weights:
        return grads
    size = torch.stack([grad.square().sum() for grad in torch.autograd.grad(total, weights, create_graph=True)]).sum()
    return torch.autograd.grad(size, tensors, retain_graph=True, allow_unused=True)


def _counts(grad: Tensor | None) -> bool:
    return grad is not None and bool((grad != 0).any())


def _depends(tensors: list[Tensor], on: Tensor) -> bool:
    if not tensors:
        return False
    ones = [torch.ones_like(tensor) for tensor in tensors]
    (grad,) = torch.autograd.grad(tensors, on, ones, retain_graph=True, allow_unused=True)
    return grad is not None


def _width(layer: Layer) -> int:
    return layer.shape[layer.channel_axis]


def _is_block_or_norm(record: Record) -> bool:
    """Whether the module has modules inside, or is one with a weight for each channel."""
    weight = getattr(record.module, "weight", None)
    of_channels = isinstance(weight, Tensor) and weight.ndim == 1 and len(weight) in record.shape[1:]
    return of_channels or any(record.module.children())


def _holds_tokens(record: Record) -> bool:
    return len(record.shape) == 3 and 1 not in record.shape[1:]
