"""What one forward pass shows of a model: its layers, and the pooling and linear classifier that CAM stands on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import ref

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saliency_losses.extractors.capture import Tap, as_leaf
from saliency_losses.extractors.head import Head, why_not_linear
from saliency_losses.extractors.modules import named_layers
from saliency_losses.extractors.pooling import Pool, PoolWatch
from saliency_losses.extractors.score import find_logits

__all__ = ["Anatomy", "Layer", "Observer", "observing"]

_LAYOUT_ONLY = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
)


class Layer(NamedTuple):
    """A layer whose output has positions.

    Attributes:
        name: Dotted, as extractors take it.
        shape: Of its output.
        channel_axis: Which axis holds channels: 1 for convolutions, the last one for tokens.
    """

    name: str
    shape: tuple[int, ...]
    channel_axis: int


@dataclass(frozen=True)
class Anatomy:
    """What is known of a model after one forward pass.

    Attributes:
        layers: Those with a spatial output, in the order in which they finished.
        heads: Each classifier that provably is linear on a globally pooled map, by name.
        main: Which of them gives the logits; ``None`` if none does.
        why_no_head: Why ``main`` is ``None``, in words.
        default: Where Grad-CAM taps unless told: what feeds the pooling, else the last spatial layer.
    """

    layers: tuple[Layer, ...]
    heads: dict[str | None, Head]
    main: Head | None
    why_no_head: str
    default: tuple[Tap, int] | None
    parts: tuple[tuple[str, "ref[nn.Module]"], ...]

    def layer(self, name: str) -> Layer | None:
        """The layer of this name, if its output has positions."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def candidates(self) -> str:
        """The last layers that a map can be taken from, in words."""
        outer = [layer for layer in self.layers if layer.name.count(".") < 2]
        return ", ".join(f"{layer.name!r} {layer.shape}" for layer in outer[-4:]) or "none found"


@dataclass
class _Record:
    name: str
    module: nn.Module
    call: int
    tensor: Tensor
    version: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)


class _Classifier(NamedTuple):
    name: str | None
    rank: int
    pool: Pool


class Observer:
    """Watches all modules and the pooling functions during one forward pass."""

    def __init__(self, leaf: bool) -> None:
        self.leaf = leaf
        self.tensors: dict[Tap, Tensor] = {}
        self.watch = PoolWatch(self._on_pool)
        self._stack: list[tuple[str, Any]] = []
        self._calls: dict[str, int] = {}
        self._last = ""
        self._records: list[_Record] = []
        self._taps: dict[int, Tap] = {}
        self._pools: list[tuple[Pool, Tensor]] = []
        self._classified = False
        self._modules: dict[str, nn.Module] = {}

    def enter(self, name: str) -> Callable[..., None]:
        """A pre-hook for the module of this name."""

        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            self._stack.append((name, args[0] if args else next(iter(kwargs.values()), None)))

        return hook

    def leave(self, name: str) -> Callable[..., Any]:
        """A forward hook for the module of this name."""

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            _, source = self._stack.pop()
            call = self._calls[name] = self._calls.get(name, 0) + 1
            self._modules[name] = module
            self._last = name
            self.watch.restart()
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return None
            tag = self.watch.tag_of(source)
            if isinstance(tag, Pool) and isinstance(source, Tensor):
                self._classify(name, source.ndim, tag, output)
            copy = as_leaf(output) if self.leaf and output.ndim > 2 else None
            if output.ndim > 2:
                kept = output if copy is None else copy
                self._records.append(_Record(name, module, call, kept, _version(kept)))
            return None if copy is None else copy.clone()

        return hook

    def _classify(self, name: str, rank: int, pool: Pool, output: Tensor) -> None:
        found = self.watch.tag_of(output)
        if isinstance(found, Pool):
            return
        if not isinstance(found, list):
            found = []
            self.watch.tag(output, found)
        found.append(_Classifier(name, rank, pool))
        self._classified = True

    def _on_pool(self, pool: Pool) -> Tensor | None:
        inside, source = self._stack[-1] if self._stack else ("", None)
        if source is pool.source:
            tap = Tap(inside, "input")
        elif self._last:
            tap = Tap(self._last, "pool", self._calls[self._last], pool.index)
        else:
            return None
        self._taps[id(pool)] = tap
        self._pools.append((pool, pool.pooled.detach().clone()))
        copy = as_leaf(pool.source) if self.leaf else None
        self.tensors[tap] = pool.source if copy is None else copy
        return None if copy is None else copy.clone()

    def layers(self) -> Iterator[Layer]:
        """The layers called once with a spatial output."""
        for record in self._records:
            if record.call == 1 == self._calls[record.name] and record.tensor[0, ...].numel() > max(record.shape[1:]):
                yield Layer(record.name, record.shape, self._channel_axis(record))

    def _channel_axis(self, record: _Record) -> int:
        """That of the last module inside the layer whose type tells, and whose output has the layer's shape."""
        for inner in reversed(self._records[: self._records.index(record) + 1]):
            inside = inner.name == record.name or inner.name.startswith(record.name + ".")
            axis = _own_channel_axis(inner.module, record.shape) if inside and inner.shape == record.shape else None
            if axis is not None:
                return axis
        return 1

    def conclude(self, output: Any) -> Anatomy:
        """The anatomy, its heads verified."""
        heads: dict[str | None, Head] = {}
        main, why = None, ""
        logits = find_logits(output)
        leaves: list[tuple[int | None, Any]] = list(enumerate(pytree.tree_leaves(output)))
        if logits is not None and all(leaf is not logits for _, leaf in leaves):
            leaves = [(None, logits)]
        for number, leaf in leaves:
            head, reason = self._head(leaf, number)
            if head is not None:
                heads[head.classifier] = head
            if leaf is logits:
                main, why = head, reason
        if logits is None:
            main, why = next(iter(heads.values())) if len(heads) == 1 else None, "its output holds no logits"
        layers = tuple(self.layers())
        default = self._default(main, layers)
        names = {head.tap.module for head in heads.values()} | {name for name in heads if name}
        names |= {default[0].module} if default else set()
        parts = tuple((name, ref(self._modules[name])) for name in sorted(names))
        return Anatomy(layers, heads, main, why, default, parts)

    def _head(self, leaf: Any, number: int | None) -> tuple[Head | None, str]:
        """The verified head that gave this part of the output, or why there is none."""
        tag = self.watch.tag_of(leaf)
        if isinstance(tag, Pool):
            tag = [_Classifier(None, tag.source.ndim, tag)]
        if not tag:
            if self._classified:
                return None, "more than one linear layer stands between the pooling and the logits"
            if self._pools:
                return None, "what stands between the pooling and the classifier is not linear"
            return None, "its classifier does not read a globally averaged feature map"
        why = ""
        for name, rank, pool in tag:
            module = self._modules[name] if name else None
            pooled = next(copy for known, copy in self._pools if known is pool)
            reason = why_not_linear(pool.source.detach(), pooled, pool.channel_axis, module, rank)
            if reason is None:
                return Head(self._taps[id(pool)], pool.channel_axis, name, rank, number), ""
            why = why or reason
        return None, why

    def _default(self, main: Head | None, layers: tuple[Layer, ...]) -> tuple[Tap, int] | None:
        if main is not None:
            return main.tap, main.channel_axis
        by_name = {record.name: record for record in self._records}
        for layer in reversed(layers):
            record = by_name[layer.name]
            if isinstance(record.module, _LAYOUT_ONLY):
                continue
            if len(layer.shape) == 3 and layer.channel_axis == 2:
                return None
            if _version(record.tensor) == record.version:
                tap = Tap(layer.name, "output")
                self.tensors[tap] = record.tensor
                return tap, layer.channel_axis
        return None


def _version(tensor: Tensor) -> int:
    """How often the tensor was changed in place; inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version


def _own_channel_axis(module: nn.Module, shape: tuple[int, ...]) -> int | None:
    if isinstance(module, nn.Linear):
        return len(shape) - 1
    if isinstance(module, nn.LayerNorm):
        normalised = tuple(module.normalized_shape)
        return len(shape) - 1 if normalised == shape[-len(normalised) :] else 1
    first = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
    return 1 if isinstance(module, first) else None


@contextmanager
def observing(model: nn.Module, *, leaf: bool) -> Iterator[Observer]:
    """Watch whatever call of ``model`` happens inside the block; compiled modules are left alone."""
    observer = Observer(leaf)
    with ExitStack() as stack:
        for name, module in named_layers(model, compiled=False):
            stack.callback(module.register_forward_pre_hook(observer.enter(name), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(observer.leave(name)).remove)
        stack.enter_context(observer.watch)
        yield observer
