"""A block after which a model is as it was before, whatever happened inside."""

import random
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer
from torch.utils import _pytree as pytree

from saliency_losses.diagnosis.facts import Finding

__all__ = ["changes", "fresh", "untouched"]

_CONTAINERS = (list, dict, set, OrderedDict, defaultdict)


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
    attributes = [value for _, state in states for value in state.values()]
    containers = [(value, value.copy()) for value in attributes if type(value) in _CONTAINERS]
    plain = (value for value in attributes if isinstance(value, Tensor) and not isinstance(value, nn.Parameter))
    tensors = [*root.buffers(), *plain]
    copies = [(tensor, tensor.detach().clone()) for tensor in tensors if _can_change(tensor)]
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
            random.setstate(python)
            for module, state in states:
                vars(module).clear()
                vars(module).update(state)
            for container, contents in containers:
                _refill(container, contents)
            for tensor, copy in copies:
                tensor.data.copy_(copy)
            for parameter, grad in grads:
                if parameter.grad is not grad:
                    parameter.grad = grad


def fresh(tree: Any) -> Any:
    """Copies of a pytree's tensors, which a model may change in place, and use outside inference mode."""

    def copy(tensor: Tensor) -> Tensor:
        return tensor.detach().clone().requires_grad_(tensor.requires_grad)

    return pytree.tree_map_only(Tensor, copy, tree)


def changes(images: Any, parameters: dict[str, Tensor], versions: dict[str, int]) -> Iterator[Finding]:
    """What a forward pass changed although it should only read it.

    Args:
        images: As :func:`fresh` made them, after the pass.
        parameters: By name.
        versions: How often each had been changed in place before the pass.
    """
    changed = [name for name, parameter in parameters.items() if parameter._version != versions[name]]
    if changed:
        yield Finding(
            "warning",
            "changes_parameters",
            f"The forward pass changes parameters in place ({changed[0]}), which preflight does not undo.",
            "Change parameters after the optimizer's step, or compute with a changed copy.",
        )
    if any(isinstance(leaf, Tensor) and leaf._version for leaf in pytree.tree_leaves(images)):
        yield Finding(
            "warning",
            "changes_images",
            "The model changes its images in place, so a second call would see others.",
            "Use operations that are not in-place on the input, or pass images.clone().",
        )


def _can_change(tensor: Tensor) -> bool:
    """Whether a forward pass can write to the tensor: it has memory of its own for each value."""
    if isinstance(tensor, UninitializedBuffer) or tensor.is_inference() or tensor.device.type == "meta":
        return False
    if tensor.layout != torch.strided:
        return True
    return all(stride > 0 or size < 2 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _refill(container: Any, contents: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(contents)
    else:
        container.update(contents)
