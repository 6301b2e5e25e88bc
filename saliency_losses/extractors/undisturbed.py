"""Forward passes that leave no trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["undisturbed"]


@contextmanager
def undisturbed(model: nn.Module, inputs: Any) -> Iterator[dict[str, bool]]:
    """Forward passes that leave no trace in buffers and random state.

    Yields:
        Filled at the end: the names of the buffers that were changed, and whether they were replaced by others.
    """
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    devices = {tensor.device for tensor in (*tensors, *model.parameters()) if tensor.device.type != "cpu"}
    kept = [
        (f"{prefix}.{name}".lstrip("."), module, name, buffer, buffer.detach().clone())
        for prefix, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    changed: dict[str, bool] = {}
    with torch.random.fork_rng(devices):
        try:
            yield changed
        finally:
            with torch.no_grad():
                for path, module, name, buffer, value in kept:
                    replaced = module._buffers[name] is not buffer
                    if replaced or not torch.equal(buffer, value):
                        changed[path] = replaced
                        module._buffers[name] = buffer.copy_(value)
