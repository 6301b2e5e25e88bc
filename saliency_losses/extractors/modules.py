"""Finding modules by dotted name, through the wrappers that training puts around a model."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from saliency_losses.registry import nearest

__all__ = ["check_layer", "compiled_on_the_way", "find_module", "is_compiled", "named_layers", "unwrap"]

_WRAPPERS: tuple[str, ...] = ("_orig_mod", "module")
_ADAPTER_WRAPPERS = ("base_model", "model")


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of data parallelism, weight averaging, PEFT and ``torch.compile``."""
    inner = _inside(model)
    return model if inner is None else unwrap(inner)


def named_layers(model: nn.Module, *, compiled: bool = True) -> Iterator[tuple[str, nn.Module]]:
    """Every module below ``model``, named as in the bare model: without what wrappers put in front.

    Args:
        model: The model.
        compiled: Whether to list compiled modules and what is inside them.
    """
    for name, child in unwrap(model).named_children():
        if compiled or not is_compiled(child):
            yield name, unwrap(child)
            yield from ((f"{name}.{below}", inner) for below, inner in named_layers(child, compiled=compiled))


def is_compiled(module: nn.Module) -> bool:
    """Whether this very module was compiled: ``torch.compile(module)``, ``module.compile()``, ``torch.jit.script``."""
    if isinstance(module, torch.jit.ScriptModule):
        return True
    return "_orig_mod" in module._modules or module._compiled_call_impl is not None


def check_layer(layer: str | None) -> str | None:
    """``layer`` itself, if it is a name.

    Raises:
        TypeError: It is not.
    """
    if layer is not None and not isinstance(layer, str):
        raise TypeError(
            f"layer must be a dotted name such as 'layer4' (list_layers(model, images) lists them), got "
            f"{type(layer).__name__}."
        )
    return layer


def find_module(model: nn.Module, name: str) -> nn.Module:
    """The module called ``name``, with or without the prefixes that wrappers add.

    Raises:
        ValueError: There is none; the message suggests the nearest names.

    Example:
        >>> find_module(nn.Sequential(nn.ReLU()), "0")
        ReLU()
    """
    *_, (_, module) = _way(model, name)
    return module


def compiled_on_the_way(model: nn.Module, name: str = "") -> str | None:
    """In words, what is compiled on the way from ``model`` down to the layer ``name``; ``None`` if nothing is."""
    for path, module in _way(model, name):
        if is_compiled(module):
            return f"its part {path!r}" if path else "the model"
    return None


def _inside(module: nn.Module) -> nn.Module | None:
    if isinstance(module, (nn.parallel.DistributedDataParallel, nn.DataParallel, AveragedModel)):
        return module._modules["module"]
    if _holds_adapters(module):
        return next((module._modules[name] for name in _ADAPTER_WRAPPERS if name in module._modules), None)
    return _child(module, "_orig_mod")


def _child(module: nn.Module, name: str) -> nn.Module | None:
    return next((child for key, child in module._modules.items() if key == name), None)  # scripted ones have no get


def _holds_adapters(module: nn.Module) -> bool:
    return any(kind.__module__.partition(".")[0] == "peft" for kind in type(module).__mro__)


def _way(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Path and module, from the model down to the layer, wrappers on the way included."""
    path, module, parts, prefixes = "", model, name.split(".") if name else [], _WRAPPERS
    while True:
        yield path, module
        inner = _inside(module)
        if inner is not None:
            prefixes = (*_WRAPPERS, *_ADAPTER_WRAPPERS) if _holds_adapters(module) else prefixes
            module = inner
            continue
        while parts and parts[0] in prefixes and parts[0] not in module._modules:
            parts.pop(0)
        if not parts:
            return
        child = _child(module, parts[0])
        if child is None:
            names = [known for known, _ in named_layers(model)]
            raise ValueError(
                f"The model {type(unwrap(model)).__name__} has no layer {name!r}.{nearest(name, names)} "
                "list_layers(model, images) lists the layers with a spatial output."
            )
        path, module = f"{path}.{parts.pop(0)}".lstrip("."), child
