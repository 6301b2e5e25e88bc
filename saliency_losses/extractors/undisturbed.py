"""Forward passes that leave no trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["Copied", "copied_buffers", "undisturbed"]


class _Place(NamedTuple):
    """Where a module holds a buffer, and the copy that stands there."""

    path: str
    holder: Any
    name: str
    buffer: Tensor | None
    copy: Tensor | None

    @property
    def replaced(self) -> bool:
        return self.name not in self.holder or self.holder[self.name] is not self.copy

    @property
    def changed(self) -> bool:
        if self.buffer is None or self.copy is None:
            return self.replaced
        return self.replaced or not torch.equal(self.buffer, self.copy)


class Copied:
    """The copies that stand for the buffers of a model.

    Attributes:
        originals: The buffer, by the ``id`` of its copy.
    """

    def __init__(self, model: nn.Module) -> None:
        self.originals: dict[int, Tensor] = {}
        self._places: list[_Place] = []
        copies: dict[int, Tensor] = {}
        for prefix, module in model.named_modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and id(buffer) not in copies:
                    copies[id(buffer)] = buffer.clone()
                    self.originals[id(copies[id(buffer)])] = buffer
                path, copy = f"{prefix}.{name}".lstrip("."), copies.get(id(buffer))
                self._places.append(_Place(path, module._buffers, name, buffer, copy))
        self._aliases = [
            (vars(module), name, value, copies[id(value)])
            for module in model.modules()
            for name, value in vars(module).items()
            if id(value) in copies
        ]

    def put(self) -> None:
        """Put the copies in the places of the buffers."""
        for place in self._places:
            place.holder[place.name] = place.copy
        for attributes, name, _, copy in self._aliases:
            attributes[name] = copy

    def put_back(self) -> None:
        """Put the buffers back."""
        for place in self._places:
            place.holder[place.name] = place.buffer
        for attributes, name, value, _ in self._aliases:
            attributes[name] = value

    def changed(self) -> dict[str, bool]:
        """The names of the buffers whose copies were changed, and whether they were replaced; makes a device wait."""
        return {place.path: place.replaced for place in self._places if place.changed}


@contextmanager
def copied_buffers(model: nn.Module) -> Iterator[Copied]:
    """Forward passes that see and change copies of the buffers, in whatever way; the buffers themselves rest.

    What is one tensor stays one, be it a buffer of several modules or also a plain attribute.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with copied_buffers(norm):
        ...     _ = norm(torch.randn(4, 2))
        >>> norm.running_mean
        tensor([0., 0.])
    """
    copied = Copied(model)
    try:
        copied.put()
        yield copied
    finally:
        copied.put_back()


@contextmanager
def undisturbed(model: nn.Module, inputs: Any) -> Iterator[dict[str, bool]]:
    """Forward passes that leave no trace in buffers and random state.

    Yields:
        Filled at the end: the names of the buffers that were changed, and whether they were replaced by others.
    """
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    devices = {tensor.device for tensor in (*tensors, *model.parameters()) if tensor.device.type != "cpu"}
    changed: dict[str, bool] = {}
    with torch.random.fork_rng(devices), copied_buffers(model) as copied:
        try:
            yield changed
        finally:
            changed.update(copied.changed())
