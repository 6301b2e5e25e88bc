"""What one forward pass shows of a model: its layers, and the pooling and linear classifier that CAM stands on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import ref

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saliency_losses.extractors.capture import Tap, as_leaf, refuse_compiled
from saliency_losses.extractors.head import Head, why_not_linear
from saliency_losses.extractors.layers import Layer, Record, last_layer, spatial_layers, version
from saliency_losses.extractors.modules import named_layers
from saliency_losses.extractors.pooling import Pool, PoolWatch
from saliency_losses.extractors.score import find_logits

__all__ = ["Anatomy", "Observer", "observing"]


@dataclass(frozen=True)
class Anatomy:
    """What is known of a model after one forward pass.

    Attributes:
        layers: Those with a spatial output, in the order in which they finished.
        heads: Each classifier that provably is linear on a globally pooled map, by name.
        main: Which of them gives the logits; ``None`` if none does.
        why_no_head: Why ``main`` is ``None``, in words.
        default: Where Grad-CAM taps unless told, and the channel axis there: what feeds the pooling, else the last
            layer with positions.
        layout: The form of the model's output.
        modules: Every module that was called, by name.
    """

    layers: tuple[Layer, ...]
    heads: dict[str | None, Head]
    main: Head | None
    why_no_head: str
    default: tuple[Tap, int] | None
    layout: pytree.TreeSpec
    modules: dict[str, "ref[nn.Module]"]

    def layer(self, name: str) -> Layer | None:
        """The layer of this name, if its output has positions."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def instead(self) -> str:
        """What a map can be taken from, in words: the last layers with positions, else the input."""
        outer = [layer for layer in self.layers if layer.name.count(".") < 2]
        if not outer:
            return "No layer of it has positions, so use extractor='input_gradient'."
        names = ", ".join(f"{layer.name!r} {layer.shape}" for layer in outer[-4:])
        reshape = " (with reshape= for tokens)" if len(outer[-1].shape) == 3 else ""
        return f"Use extractor='grad_cam' with a layer by name: GradCAM(layer=...){reshape}. Candidates: {names}."

    def essential(self) -> set[str]:
        """The modules that heads and default rest on."""
        taps = {head.tap.module for head in self.heads.values()} | ({self.default[0].module} if self.default else set())
        return taps | {name for name in self.heads if name is not None}


class _Classifier(NamedTuple):
    name: str | None
    rank: int
    pool: Pool


class Observer:
    """Watches all modules and the pooling functions during one forward pass.

    Args:
        leaf: Whether taps must be differentiable with respect to, even below frozen parameters.
    """

    def __init__(self, leaf: bool) -> None:
        self.leaf = leaf
        self.tensors: dict[Tap, Tensor] = {}
        self.watch = PoolWatch(self._on_pool)
        self._stack: list[tuple[str, Any]] = []
        self._calls: dict[str, int] = {}
        self._last = ""
        self._records: list[Record] = []
        self._pools: dict[int, tuple[Tap, Tensor]] = {}
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
            self._calls[name] = self._calls.get(name, 0) + 1
            self._modules[name] = module
            self._last = name
            self.watch.restart()
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return None
            tag = self.watch.tag_of(source)
            if isinstance(tag, Pool):
                self._classify(_Classifier(name, source.ndim, tag), output)
            if output.ndim < 3:
                return None
            copy = as_leaf(output) if self.leaf else None
            kept = output if copy is None else copy
            self._records.append(Record(name, module, 1, kept, version(kept)))
            return None if copy is None else copy.clone()

        return hook

    def layers(self) -> tuple[Layer, ...]:
        """The layers with positions."""
        for record in self._records:
            record.calls = self._calls[record.name]
        return tuple(spatial_layers(self._records))

    def conclude(self, output: Any) -> Anatomy:
        """The anatomy, its heads verified."""
        leaves, layout = pytree.tree_flatten(output)
        logits = find_logits(output)
        numbered: list[tuple[int | None, Any]] = list(enumerate(leaves))
        if logits is not None and all(leaf is not logits for leaf in leaves):
            numbered = [(None, logits)]
        heads: dict[str | None, Head] = {}
        main, why = None, "its output holds no logits"
        for number, leaf in numbered:
            head, reason = self._head(leaf, number)
            if head is not None:
                heads[head.classifier] = head
            if leaf is logits:
                main, why = head, reason
        if logits is None and len(heads) == 1:
            main = next(iter(heads.values()))
        layers = self.layers()
        default = None if main is None else (main.tap, main.channel_axis)
        last = last_layer(self._records, layers)
        if default is None and last is not None:
            default = Tap(last[0].name, "output"), last[0].channel_axis
            self.tensors[default[0]] = last[1]
        modules = {name: ref(module) for name, module in self._modules.items()}
        return Anatomy(layers, heads, main, why, default, layout, modules)

    def release(self) -> None:
        """Let go of everything that was seen."""
        self.tensors.clear()
        self._records.clear()
        self._pools.clear()
        self._stack.clear()
        self.watch.forget()

    def _classify(self, classifier: _Classifier, output: Tensor) -> None:
        """Note a module that turned a pooled vector into something else."""
        found = self.watch.tag_of(output)
        if isinstance(found, Pool):
            return
        if found is None:
            found = []
            self.watch.tag(output, found)
        found.append(classifier)
        self._classified = True

    def _on_pool(self, pool: Pool) -> Tensor | None:
        inside, source = self._stack[-1] if self._stack else ("", None)
        if source is pool.source:
            tap = Tap(inside, "input", self._calls.get(inside, 0) + 1)
        elif self._last:
            tap = Tap(self._last, "pool", self._calls[self._last], pool.index)
        else:
            return None
        self._pools[id(pool)] = tap, pool.pooled.detach().clone()
        copy = as_leaf(pool.source) if self.leaf else None
        self.tensors[tap] = pool.source if copy is None else copy
        return None if copy is None else copy.clone()

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
            if id(pool) not in self._pools:
                return None, "what is pooled is not computed by a module"
            tap, pooled = self._pools[id(pool)]
            module = self._modules[name] if name else None
            reason = why_not_linear(pool.source.detach(), pooled, pool.channel_axis, module, rank)
            if reason is None:
                return Head(tap, pool.channel_axis, name, rank, number), ""
            why = why or reason
        return None, why


@contextmanager
def observing(model: nn.Module, *, leaf: bool) -> Iterator[Observer]:
    """Watch whatever call of ``model`` happens inside the block; compiled parts of it are left alone.

    Raises:
        ValueError: The model itself is compiled, where hooks do not fire reliably.
    """
    refuse_compiled(model, "", "The model's layers")
    observer = Observer(leaf)
    with ExitStack() as stack:
        for name, module in named_layers(model, compiled=False):
            stack.callback(module.register_forward_pre_hook(observer.enter(name), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(observer.leave(name)).remove)
        stack.enter_context(observer.watch)
        yield observer
