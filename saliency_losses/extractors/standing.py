"""Hooks that stay on a model: they keep a tensor while a step listens, and do nothing otherwise."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from saliency_losses.extractors.capture import Captured, Tap, as_leaf, first_argument, first_tensor
from saliency_losses.extractors.head import Head, HeadCall, is_sharded, pooled_call
from saliency_losses.extractors.pooling import Pool, PoolWatch

__all__ = ["HeadSlot", "Slot", "attach", "attach_head"]


@dataclass(eq=False)
class Slot:
    """What the hooks of one tap share.

    Attributes:
        tap: What is tapped.
        leaf: See :func:`~saliency_losses.extractors.capture.capture`.
        captured: Takes the tensor; ``None`` while no step listens.
        shift: Added to the tapped tensor before the model goes on.
        calls: How often the module was called in this step.
        waiting: Whether the pooling that is looked for comes next.
        watch: Sees poolings, for a tap of one.
        begin: Starts the watch.
        reached: Called as soon as the tensor is kept.
    """

    tap: Tap
    leaf: bool
    captured: Captured | None = None
    shift: Tensor | None = None
    calls: int = 0
    waiting: bool = False
    watch: PoolWatch | None = None
    begin: Callable[[], None] | None = None
    reached: Callable[[], None] | None = None

    @property
    def tensor(self) -> Tensor:
        """What was kept; see :class:`~saliency_losses.extractors.capture.Captured`."""
        return (self.captured or Captured(self.tap)).tensor

    def listen(self) -> None:
        """Keep the tensor of the next forward pass."""
        self.captured, self.calls, self.waiting = Captured(self.tap), 0, False

    def watch_late(self, stack: ExitStack) -> None:
        """For a tap of a pooling: look at poolings only once the module was called."""

        def begin() -> None:
            if self.watch is None:
                self.watch = stack.enter_context(PoolWatch(self.on_pool))

        self.begin = begin if self.tap.place == "pool" else None

    def forget(self) -> None:
        """Do nothing, and hold nothing."""
        if self.watch is not None:
            self.watch.forget()
        self.captured = self.shift = self.watch = self.begin = self.reached = None

    def its_turn(self) -> bool:
        """Whether this call of the module is the one to tap."""
        self.calls += 1
        return self.tap.call is None or self.calls == self.tap.call

    def keep(self, tensor: Any) -> Tensor | None:
        """Keep the tensor; what the model must go on with, if with another one."""
        if self.captured is None:
            return None
        leaf = as_leaf(tensor) if self.leaf and self.shift is None else None
        self.captured.put(tensor if leaf is None else leaf)
        if self.reached is not None:
            self.reached()
        if self.shift is None or not isinstance(tensor, Tensor):
            return None if leaf is None else leaf.clone()
        self.check_shape(tensor, tuple(self.shift.shape[1:]))
        return tensor + self.shift.to(tensor.dtype)

    def check_shape(self, tensor: Tensor, shape: tuple[int, ...]) -> None:
        """Raise where the tapped tensor has another shape than when the model was prepared.

        Raises:
            ValueError: It has.
        """
        if tuple(tensor.shape[1:]) != shape:
            raise ValueError(
                f"The model was prepared where {self.tap} has shape (B, *{shape}), now it is "
                f"(B, *{tuple(tensor.shape[1:])}): prepare with images of this size, or call guided.unprepare()."
            )

    def on_pool(self, pool: Pool) -> Tensor | None:
        """Keep what is pooled, if it is the pooling to tap."""
        if not self.waiting or pool.index != self.tap.index:
            return None
        self.waiting = False
        return self.keep(pool.source)


@dataclass(eq=False)
class _OutputHook:
    slot: Slot

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self.slot.captured is None or not self.slot.its_turn():
            return None
        tensor, rebuild = first_tensor(output)
        if tensor is None:
            self.slot.keep(output)
            return None
        other = self.slot.keep(tensor)
        return rebuild(tensor.clone() if other is None else other)


@dataclass(eq=False)
class _InputHook:
    slot: Slot

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        if self.slot.captured is None or not self.slot.its_turn():
            return None
        other = self.slot.keep(first_argument(args, kwargs))
        if other is None:
            return None
        return ((other, *args[1:]), kwargs) if args else (args, {**kwargs, next(iter(kwargs)): other})


@dataclass(eq=False)
class _PoolHook:
    slot: Slot

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        slot = self.slot
        if slot.captured is None:
            return
        slot.waiting = slot.its_turn()
        if slot.waiting and slot.begin is not None:
            slot.begin()
        if slot.watch is not None:
            slot.watch.restart()


@dataclass(eq=False)
class HeadSlot:
    """What the hook of a classifier needs, and its calls in this step.

    Attributes:
        head: Which classifier, and which of its calls.
        features: The slot of what is pooled.
        leaf: See :func:`~saliency_losses.extractors.head.capture_head`.
        gives_logits: Whether the head gives the logits of the model.
        sharded: Whether the classifier's weights are whole only during a call.
        count: How often the classifier was called in this step.
        made: The head's call.
    """

    head: Head
    features: Slot
    leaf: bool
    gives_logits: bool
    sharded: bool = False
    count: int = 0
    made: HeadCall | None = None

    def listen(self) -> None:
        """Keep the head's call in the next forward pass."""
        self.count, self.made = 0, None

    def take(self, features: Tensor, logits: Tensor | None) -> HeadCall | None:
        """The head's call in the pass that gave these; ``None`` if the classifier was not called."""
        if self.head.classifier is None:
            return pooled_call(features, self.head.channel_axis, logits)
        made, self.made = self.made, None
        return made


@dataclass(eq=False)
class _HeadHook:
    slot: HeadSlot

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        slot = self.slot
        if slot.features.captured is None:
            return None
        slot.count += 1
        if slot.count != slot.head.call or not isinstance(output, Tensor):
            return None
        copy = as_leaf(output) if slot.leaf else None
        slot.made = HeadCall.of(
            module,
            slot.features.tensor,
            slot.head.channel_axis,
            first_argument(args, kwargs),
            output if copy is None else copy,
            at_once=True,
            sharded=slot.sharded,
        )
        return None if copy is None else copy.clone()


def attach(module: nn.Module, slot: Slot) -> RemovableHandle:
    """Put the hook of a tap on its module."""
    if slot.tap.place == "input":
        return module.register_forward_pre_hook(_InputHook(slot), with_kwargs=True)
    return module.register_forward_hook(_OutputHook(slot) if slot.tap.place == "output" else _PoolHook(slot))


def attach_head(classifier: nn.Module, slot: HeadSlot) -> RemovableHandle:
    """Put the hook of a head on its classifier."""
    slot.sharded = is_sharded(classifier)
    return classifier.register_forward_hook(_HeadHook(slot), with_kwargs=True, prepend=True)
