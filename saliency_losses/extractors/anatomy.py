"""What one forward pass shows of a model: its layers, and the pooling and linear classifier that CAM stands on."""

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import ref

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saliency_losses.extractors.automatic import last_that_counts
from saliency_losses.extractors.capture import Tap, as_leaf, first_argument, first_tensor, refuse_compiled
from saliency_losses.extractors.head import Head, HeadCall, is_sharded, pooled_call
from saliency_losses.extractors.identity import why_not_linear, why_not_this_call
from saliency_losses.extractors.layers import Layer, Record, last_layer, layout_of_tensor, read_layers
from saliency_losses.extractors.layout import Layout
from saliency_losses.extractors.modules import find_module, named_layers, unwrap
from saliency_losses.extractors.pooling import Pool, PoolWatch, version
from saliency_losses.extractors.score import find_logits
from saliency_losses.extractors.tokens import TokenWatch

__all__ = ["Anatomy", "Observer", "observing"]


@dataclass(frozen=True)
class Anatomy:
    """What is known of a model after one forward pass.

    Attributes:
        layers: Those whose outputs can be read as maps, in the order in which they finished.
        heads: Each classifier that provably is linear on a globally pooled map, by name.
        main: The name of the one that gives the logits; ``None`` if none does.
        why_no_head: Why ``main`` is ``None``, in words.
        default: Where gradient methods tap unless told, and how that is read: what feeds the pooling, else the last
            layer with positions; of tokens, the last layer where the score depends on patches.
        modules: All modules of the model, in order.
        checked: How often a head was held against the logits, by its name and the size of its features.
        defaults: The default for each purpose, where it depends on what is explained.
        asked: For which purposes and layers a map was taken.
    """

    layers: tuple[Layer, ...]
    heads: dict[str, Head]
    main: str | None
    why_no_head: str
    default: tuple[Tap, Layout] | None
    modules: tuple["ref[nn.Module]", ...]
    checked: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)
    defaults: dict[Hashable, tuple[Tap, Layout]] = field(default_factory=dict)
    asked: set[Hashable] = field(default_factory=set)

    def default_for(self, purpose: Hashable) -> tuple[Tap, Layout] | None:
        """Where gradient methods tap for a purpose; ``None`` where there is no such layer or it is not known yet."""
        depends = self.main is None and self.default is not None and self.default[1].tokens is not None
        return self.defaults.get(purpose) if depends else self.default

    def layer(self, model: nn.Module, name: str) -> Layer | None:
        """What is known of the layer called ``name``, by this or another name."""
        named = next((layer for layer in self.layers if layer.name == name), None)
        if named is not None:
            return named
        module = find_module(model, name)
        return next((layer for layer in self.layers if find_module(model, layer.name) is module), None)

    def spatial(self) -> list[Layer]:
        """The layers with more than one position."""
        return [layer for layer in self.layers if set(layer.positions) != {1}]

    def instead(self) -> str:
        """What a map can be taken from, in words: the last layers with positions, else the input."""
        outer = [layer for layer in self.spatial() if layer.name.count(".") < 2]
        if not outer:
            return "No layer of it has positions, so use extractor='input_gradient'."
        names = ", ".join(f"{layer.name!r} {layer.shape}" for layer in outer[-4:])
        return (
            "Use extractor='grad_cam', which finds a layer or takes one by name: GradCAM(layer=...). Candidates: "
            f"{names}."
        )

    @property
    def sized(self) -> bool:
        """Whether how layers are read depends on the size of the input, as it does for tokens."""
        return any(layer.layout.tokens is not None for layer in self.layers)

    def fits(self, model: nn.Module) -> bool:
        """Whether the model still consists of the same modules."""
        modules = tuple(unwrap(model).modules())
        return len(modules) == len(self.modules) and all(
            known() is module for known, module in zip(self.modules, modules, strict=True)
        )


class _Candidate(NamedTuple):
    """A module that was called with a pooled vector, and what it did."""

    name: str | None
    number: int
    pool: Pool
    call: HeadCall


class Observer:
    """Watches all modules and the pooling functions during one forward pass.

    Args:
        leaf: Whether taps and logits must be differentiable with respect to, even below frozen parameters.
    """

    def __init__(self, leaf: bool) -> None:
        self.leaf = leaf
        self.tensors: dict[Tap, Tensor] = {}
        self.calls: dict[str, HeadCall] = {}
        self.sharded: set[str] = set()
        self.watch = PoolWatch(self._on_pool)
        self.tokens = TokenWatch()
        self._stack: list[tuple[str, Any, bool]] = []
        self._counts: dict[str, int] = {}
        self._last = ""
        self._records: list[Record] = []
        self._taps: dict[int, Tap] = {}
        self._pooled: dict[Tap, Layout | None] = {}
        self._classified = False
        self._modules: dict[str, nn.Module] = {}

    def enter(self, name: str) -> Callable[..., None]:
        """A pre-hook for the module of this name."""

        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            self._stack.append((name, first_argument(args, kwargs), len(args) + len(kwargs) == 1))

        return hook

    def leave(self, name: str) -> Callable[..., Any]:
        """A forward hook for the module of this name."""

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            _, source, alone = self._stack.pop()
            self._counts[name] = self._counts.get(name, 0) + 1
            self._modules[name] = module
            self._last = name
            self.watch.restart()
            if not isinstance(output, Tensor):
                tensor, _ = first_tensor(output)
                if tensor is not None and tensor.ndim > 2 and tensor.is_floating_point():
                    self._record(name, module, tensor)
                return None
            if not output.is_floating_point():
                return None
            pool = self.watch.tag_of(source)
            candidate = isinstance(pool, Pool) and not isinstance(self.watch.tag_of(output), Pool)
            copy = as_leaf(output) if self.leaf and (output.ndim > 2 or candidate) else None
            result = None if copy is None else copy.clone()
            kept = output if copy is None else copy
            if candidate:
                self._classify(name, module, pool, source, kept, output if result is None else result, alone)
            if output.ndim > 2:
                self._record(name, module, kept)
            return result

        return hook

    def conclude(self, model: nn.Module, output: Any, score: Callable[[Any], Tensor] | None = None) -> Anatomy:
        """The anatomy, its heads verified.

        Args:
            model: The model.
            output: What it returned.
            score: Gives what is explained, which decides where to tap tokens unless told.
        """
        logits = find_logits(output)
        leaves = pytree.tree_leaves(output)
        if logits is not None and all(leaf is not logits for leaf in leaves):
            leaves = [logits]
        heads: dict[str, Head] = {}
        main, why = None, "its output holds no logits"
        for leaf in leaves:
            head, reason = self._head(leaf, logits if leaf is logits else None)
            if head is not None:
                heads[head.name] = head
            if leaf is logits:
                main, why = head, reason
        if logits is None and len(heads) == 1:
            main = next(iter(heads.values()))
        layers = tuple(read_layers(self._records, self._counts, grid=self.tokens.grid))
        pooled = None if main is None else self._pooled[main.tap]
        default = None
        if main is not None and pooled is not None and math.prod(pooled.positions((1, *main.shape))) > 1:
            default = main.tap, pooled
        last = last_layer(self._records, layers) if default is None else None
        if default is None and last is None and score is not None:
            last = last_that_counts(self._records, layers, score(output).sum(), list(model.parameters()))
        if last is not None:
            default = Tap(last[0].name, "output"), last[0].layout
            self.tensors[default[0]] = last[1]
        modules = tuple(ref(module) for module in unwrap(model).modules())
        return Anatomy(layers, heads, None if main is None else main.name, why, default, modules)

    def release(self) -> None:
        """Let go of everything that was seen."""
        self.tensors.clear()
        self.calls.clear()
        self._records.clear()
        self._stack.clear()
        self.watch.forget()
        self.tokens.forget()

    def _record(self, name: str, module: nn.Module, tensor: Tensor) -> None:
        self._records.append(Record(name, module, tensor, version(tensor), self.tokens.axes_of(tensor)))

    def _classify(
        self, name: str, module: nn.Module, pool: Pool, pooled: Tensor, output: Tensor, tagged: Tensor, alone: bool
    ) -> None:
        """Note a module that turned a pooled vector into something else."""
        self._classified = True
        found = self.watch.tag_of(tagged)
        if found is None:
            found = []
            self.watch.tag(tagged, found)
        if alone and id(pool) in self._taps:
            call = HeadCall.of(
                module,
                pool.source,
                pool.channel_axis,
                pooled,
                output,
                at_once=False,
                sharded=name in self.sharded,
            )
            found.append(_Candidate(name, self._counts[name], pool, call))

    def _on_pool(self, pool: Pool) -> Tensor | None:
        inside, source, _ = self._stack[-1] if self._stack else ("", None, False)
        if source is pool.source:
            tap = Tap(inside, "input", self._counts.get(inside, 0) + 1)
        elif self._last:
            tap = Tap(self._last, "pool", self._counts[self._last], pool.index)
        else:
            return None
        self._taps[id(pool)] = tap
        self._pooled[tap] = layout_of_tensor(
            tuple(pool.source.shape), self.tokens.axes_of(pool.source), pool.channel_axis, grid=self.tokens.grid
        )
        copy = as_leaf(pool.source) if self.leaf else None
        self.tensors[tap] = pool.source if copy is None else copy
        return None if copy is None else copy.clone()

    def _head(self, leaf: Any, logits: Tensor | None) -> tuple[Head | None, str]:
        """The verified head that gave this part of the output, or why there is none."""
        tag = self.watch.tag_of(leaf)
        if isinstance(tag, Pool) and id(tag) in self._taps:
            tag = [_Candidate(None, 1, tag, pooled_call(tag.source, tag.channel_axis, leaf))]
        if not isinstance(tag, list):
            if self._classified:
                return None, "something (another layer, a softmax) stands between its classifier and what it returns"
            if self._taps:
                return None, "what stands between the pooling and the classifier is not linear"
            return None, "its classifier does not read a globally averaged feature map"
        why = "its classifier takes more than the pooled vector"
        for name, number, pool, call in tag:
            reason = None if name is None else why_not_linear(self._modules[name], call.pooled)
            if reason is None:
                dropout = id(pool) in self.watch.dropped
                reason = why_not_this_call(call, logits, dropout=dropout)
            if reason is None:
                shape = tuple(pool.source.shape[1:])
                tap = self._taps[id(pool)]
                layout = self._pooled[tap]
                tokens = None if layout is None else layout.tokens
                head = Head(tap, pool.channel_axis, name, number, shape, dropout, tokens)
                self.calls[head.name] = call
                return head, ""
            why = reason
        return None, why


@contextmanager
def observing(model: nn.Module, inputs: Any, observer: Observer) -> Iterator[Observer]:
    """Watch whatever call of ``model`` happens inside the block; compiled parts of it are left alone.

    What was seen stays after the block, until :meth:`Observer.release`.

    Args:
        model: The model.
        inputs: What it will be called with.
        observer: Does it.

    Raises:
        ValueError: The model itself is compiled, where hooks do not fire reliably.
    """
    refuse_compiled(model, "", "The model's layers")
    with ExitStack() as stack:
        for name, module in named_layers(model, compiled=False):
            if isinstance(module, nn.Linear) and is_sharded(module):
                observer.sharded.add(name)
            stack.callback(module.register_forward_pre_hook(observer.enter(name), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(observer.leave(name)).remove)
        stack.enter_context(observer.tokens)
        stack.enter_context(observer.watch)
        observer.tokens.start(inputs)
        try:
            yield observer
        except BaseException:
            observer.release()
            raise
