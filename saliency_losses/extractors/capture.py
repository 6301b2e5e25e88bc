"""Tapping one tensor of a model during one call; every hook is gone when the call is over."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from saliency_losses.extractors.base import own_leaf
from saliency_losses.extractors.modules import compiled_on_the_way, find_module
from saliency_losses.extractors.pooling import Pool, PoolWatch

__all__ = ["Captured", "Tap", "as_leaf", "capture", "check_on_graph", "entering", "first_argument", "refuse_compiled"]


@dataclass(frozen=True)
class Tap:
    """Where in a model a tensor can be had.

    Attributes:
        module: Dotted name of a module.
        place: ``"output"`` of the module, its ``"input"``, or what the ``"pool"`` function pools after it returned.
        call: Which call of the module in one forward pass, from 1; ``None`` for the only one.
        index: For ``"pool"``, which pooling after that call, from 0.
    """

    module: str
    place: Literal["output", "input", "pool"]
    call: int | None = None
    index: int = 0

    def __str__(self) -> str:
        prefix = {"output": "", "input": "the input of ", "pool": "what is pooled after "}[self.place]
        return f"{prefix}{self.module!r}"


class Captured:
    """Holds the tapped tensor once the model has been called."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self._tensors: list[Any] = []

    def put(self, tensor: Any) -> None:
        """Keep the tensor."""
        self._tensors.append(tensor)

    @property
    def tensor(self) -> Tensor:
        """The tensor.

        Raises:
            ValueError: The layer was never called, was called several times, or gave no tensor.
        """
        if not self._tensors:
            raise ValueError(
                f"Layer {self.tap} was never called in this forward pass, so it explains nothing; choose a layer "
                "that the model uses (list_layers(model, images))."
            )
        if len(self._tensors) > 1:
            raise ValueError(
                f"Layer {self.tap} was called {len(self._tensors)} times in one forward pass, so its activation "
                "is ambiguous; choose a layer that is called once."
            )
        tensor = self._tensors[0]
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"Layer {self.tap} returns {type(tensor).__name__}, expected a tensor; choose a layer inside it or "
                "after it (list_layers(model, images))."
            )
        return tensor


def as_leaf(tensor: Any) -> Tensor | None:
    """A leaf of the same values, where gradients are on but no parameter reaches the tensor; else ``None``."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return None
    if not torch.is_grad_enabled() or tensor.requires_grad:
        return None
    return own_leaf(tensor)


def first_argument(args: Any, kwargs: dict[str, Any]) -> Any:
    """What a module was called with, by position or keyword."""
    return args[0] if args else next(iter(kwargs.values()), None)


def check_on_graph(tensor: Tensor, tap: Tap) -> None:
    """Raise where scores cannot be differentiated with respect to the tensor although gradients are on.

    Raises:
        ValueError: The layer runs without gradients; the message names the remedy.
    """
    if torch.is_grad_enabled() and not tensor.requires_grad:
        raise ValueError(
            f"Layer {tap} runs without gradients (reentrant checkpointing, or torch.no_grad() in the model), so a map "
            "of it cannot be trained through. Checkpoint with use_reentrant=False, or choose a layer outside that "
            "region."
        )


def entering(stack: ExitStack, above: AbstractContextManager[Any] | None) -> Callable[[], None]:
    """A function that at its first call enters ``above``, which the stack leaves."""
    waiting = [] if above is None else [above]

    def enter() -> None:
        if waiting:
            stack.enter_context(waiting.pop())

    return enter


@contextmanager
def capture(model: nn.Module, tap: Tap, *, leaf: bool, reached: Callable[[], None] | None = None) -> Iterator[Captured]:
    """Capture the tapped tensor of whatever call of ``model`` happens inside the block.

    A tapped output is kept as it was returned and the model goes on with a copy, so that an in-place ReLU behind
    the layer changes nothing.

    Args:
        model: The model, in whatever wrappers.
        tap: What to capture.
        leaf: Whether the tensor must be differentiable with respect to, even below frozen parameters.
        reached: Called when the tensor is captured, before the model goes on.

    Raises:
        ValueError: The layer does not exist, or lies in a compiled module, where hooks do not fire reliably.
    """
    refuse_compiled(model, tap.module, f"Layer {tap}")
    module = find_module(model, tap.module)
    captured = Captured(tap)
    calls = itertools.count(1)

    def its_turn() -> bool:
        return next(calls) == tap.call or tap.call is None

    def keep(tensor: Any) -> Tensor | None:
        replacement = as_leaf(tensor) if leaf else None
        captured.put(tensor if replacement is None else replacement)
        if reached is not None:
            reached()
        return None if replacement is None else replacement.clone()

    def output_hook(_: nn.Module, args: Any, output: Any) -> Any:
        if not its_turn():
            return None
        copy = keep(output)
        return output.clone() if copy is None and isinstance(output, Tensor) else copy

    def input_hook(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        copy = keep(first_argument(args, kwargs)) if its_turn() else None
        if copy is None:
            return None
        return ((copy, *args[1:]), kwargs) if args else (args, {**kwargs, next(iter(kwargs)): copy})

    with ExitStack() as stack:
        if tap.place == "output":
            handle = module.register_forward_hook(output_hook)
        elif tap.place == "input":
            handle = module.register_forward_pre_hook(input_hook, with_kwargs=True)
        else:
            waiting = False

            def pool_hook(*_: Any) -> None:
                nonlocal waiting
                waiting = its_turn()
                watch.restart()

            def on_pool(pool: Pool) -> Tensor | None:
                nonlocal waiting
                if not waiting or pool.index != tap.index:
                    return None
                waiting = False
                return keep(pool.source)

            watch = PoolWatch(on_pool)
            handle = module.register_forward_hook(pool_hook)
            stack.callback(watch.forget)
            stack.enter_context(watch)
        stack.callback(handle.remove)
        yield captured


def refuse_compiled(model: nn.Module, layer: str, what: str) -> None:
    """Raise where hooks would not fire reliably.

    Raises:
        ValueError: The layer lies in a compiled module.
    """
    compiled = compiled_on_the_way(model, layer)
    if compiled:
        raise ValueError(
            f"{what} cannot be tapped: {compiled} is compiled, and hooks inside a compiled module do not fire "
            "reliably. Compile only the modules before the layer (module.compile()) and leave the rest eager."
        )
