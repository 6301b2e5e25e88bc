"""A block after which a model is as it was before, whatever happened inside."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["fresh", "untouched"]


@contextmanager
def untouched(root: nn.Module, inputs: Any) -> Iterator[None]:
    """Put back what a training step changes: buffers, modes, hooks, attributes, ``.grad`` and random states.

    Nothing is copied but buffers and other small tensors. Attributes of modules are put back, and the contents of those
    that are lists, dictionaries or sets. Parameters are neither copied nor put back: a forward pass only reads them.
    Warnings are not shown.

    Args:
        root: The module, and all modules in it.
        inputs: For their devices.
    """
    modules = [module for module in root.modules() if not isinstance(module, torch.jit.ScriptModule)]
    states = [(module, dict(vars(module))) for module in modules]
    containers = [(value, value.copy()) for _, state in states for value in state.values() if _is_container(value)]
    plain = (value for _, state in states for value in state.values() if isinstance(value, Tensor))
    tensors = [*root.buffers(), *(tensor for tensor in plain if not isinstance(tensor, nn.Parameter))]
    copies = [(tensor, tensor.detach().clone()) for tensor in tensors if not tensor.is_inference()]
    grads = [(parameter, parameter.grad) for parameter in root.parameters()]
    python = random.getstate()
    leaves = [*pytree.tree_leaves(inputs), *root.parameters(), *tensors]
    devices = {leaf.device for leaf in leaves if isinstance(leaf, Tensor) and leaf.device.type not in ("cpu", "meta")}
    kind = next(iter(devices)).type if devices else "cuda"
    with torch.random.fork_rng(devices, device_type=kind), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.clear_autocast_cache()
            random.setstate(python)
            for module, state in states:
                vars(module).clear()
                vars(module).update(state)
            for container, contents in containers:
                _refill(container, contents)
            for tensor, copy in copies:
                tensor.data.copy_(copy)
            for parameter, grad in grads:
                parameter.grad = grad


def fresh(tree: Any) -> Any:
    """Copies of a pytree's tensors, which a model may change in place, and use outside inference mode."""

    def copy(tensor: Tensor) -> Tensor:
        return tensor.detach().clone().requires_grad_(tensor.requires_grad)

    return pytree.tree_map_only(Tensor, copy, tree)


def _is_container(value: Any) -> bool:
    return isinstance(value, (list, dict, set)) and hasattr(value, "copy")


def _refill(container: Any, contents: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(contents)
    else:
        container.update(contents)
