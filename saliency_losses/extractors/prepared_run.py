"""Calling a model with hooks that stay, in steps that may be compiled."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from saliency_losses.extractors.attention_kernel import attention_setting
from saliency_losses.extractors.backbone import modules_below
from saliency_losses.extractors.base import Run, SaliencyExtractor
from saliency_losses.extractors.capture import check_on_graph, entering
from saliency_losses.extractors.functional import ModelCall, OwnStatistics, pull_back
from saliency_losses.extractors.gradient import half_scale
from saliency_losses.extractors.head import Head
from saliency_losses.extractors.layout import Layout
from saliency_losses.extractors.memory import sizes_of
from saliency_losses.extractors.modules import find_module
from saliency_losses.extractors.pooling import PoolWatch
from saliency_losses.extractors.probe import (
    Classified,
    Tapped,
    check_call,
    gives_logits,
    parametrised,
    probe,
    probe_head,
    tap_of,
)
from saliency_losses.extractors.runs import Differentiated, TappingRun
from saliency_losses.extractors.score import find_logits
from saliency_losses.extractors.standing import HeadSlot, Slot, attach, attach_head
from saliency_losses.extractors.undisturbed import undisturbed
from saliency_losses.extractors.values import looks_at_values

__all__ = ["PreparedRun"]


class PreparedRun(TappingRun):
    """Calls the model with hooks that stay.

    The first call goes the way of an unprepared one and takes down what is tapped; :meth:`close` removes the hooks.
    A copy, by ``copy.deepcopy`` or pickling, is prepared like the original.

    Args:
        model: That is prepared.
        extractor: That it is prepared for.
        run: Calls the model.

    Attributes:
        slots: Of the taps.
        changing: Names of the buffers that a forward pass changes.
        tracing: Go the way of a compiled step although nothing is compiled.
        obstacle: Why a step cannot be compiled, or ``None``.
        compiled_with: The options with which the backbone was compiled.
    """

    layouts: tuple[Layout, ...] = ()
    names: tuple[str, ...] = ()

    def __init__(self, model: nn.Module, extractor: SaliencyExtractor, run: Run) -> None:
        self.model = model
        self.extractor = extractor
        self.run = run
        self.slots: list[Slot] = []
        self.changing: list[str] = []
        self.tracing = False
        self.obstacle: str | None = None
        self._sizes: tuple[tuple[int, ...], ...] | None = None
        self._options = repr(extractor)
        self._call = ModelCall(model, run)
        self._head: HeadSlot | None = None
        self._weights: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._like: list[tuple[tuple[int, ...], torch.dtype]] = []
        self._places: list[tuple[nn.Module, str, nn.Module | None]] = []
        self._handles: list[RemovableHandle] = []
        self._compiled: list[nn.Module] = []
        self.compiled_with: dict[str, Any] = {}

    @property
    def traced(self) -> bool:
        """See :attr:`TappingRun.traced`."""
        return self.tracing or torch.compiler.is_compiling()

    def fits(self, model: nn.Module, extractor: SaliencyExtractor) -> bool:
        """Whether these are still the prepared ones, and every hooked module is still in its place."""
        if model is not self.model or extractor is not self.extractor or repr(extractor) != self._options:
            return False
        return all(parent._modules.get(name) is child for parent, name, child in self._places)

    def close(self) -> None:
        """Remove the hooks, and leave the modules below the layer eager again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for module in self._compiled:
            module._compiled_call_impl = None
        self._compiled.clear()

    def compile_below(self, images: Any, backend: str | Callable[..., Any]) -> None:
        """Compile, in place, the modules that finish before the first tap.

        Raises:
            ValueError: There are none.
        """
        taps = [slot.tap for slot in self.slots]
        if taps:
            with torch.no_grad(), undisturbed(self.model, images):
                self._compiled = modules_below(self.model, taps, lambda: self.run(self.model, images))
        if not self._compiled:
            raise ValueError(
                f"compile='backbone' compiles what lies below the layer of a map, but {self.extractor} "
                f"{'taps no layer' if not taps else 'taps one that nothing finishes before'}. Compile the whole step, "
                "torch.compile(guided), where the extractor compiles, or nothing."
            )
        self.compiled_with = {"compile": "backbone", "backend": backend}
        for module in self._compiled:
            module.compile(backend=backend)

    def __call__(self, model: nn.Module, inputs: Any) -> Any:
        """See :meth:`TappingRun.__call__`."""
        return self.run(model, inputs)

    def layers(
        self,
        model: nn.Module,
        inputs: Any,
        layers: Sequence[str | None],
        *,
        above: AbstractContextManager[Any] | None = None,
        double_backward: bool = False,
        purpose: Hashable = None,
        **options: Any,
    ) -> Tapped:
        """See :meth:`TappingRun.layers`."""
        if not self.slots:
            tapped = probe(
                model,
                inputs,
                self.run,
                layers,
                above=above,
                double_backward=double_backward,
                purpose=purpose,
                **options,
            )
            self.layouts, self.names = tapped.layouts, tapped.names
            self._keep_sizes(inputs, any(layout.tokens is not None for layout in tapped.layouts))
            self._like = [(tuple(tensor.shape[1:]), tensor.dtype) for tensor in tapped.tensors]
            for layer in layers:
                self._attach(Slot(tap_of(model, inputs, layer, purpose), leaf=True))
            return tapped
        self._check_sizes(inputs)
        output, tensors = self._listen(
            lambda: self.run(model, inputs), above=above, double_backward=double_backward, around=nullcontext()
        )
        for slot, tensor in zip(self.slots, tensors, strict=True):
            check_on_graph(tensor, slot.tap)
        return Tapped(output, tensors, self.layouts, self.names, False)

    def head(
        self, model: nn.Module, inputs: Any, choose: Callable[[Any], Head], name: str | None, *, leaf: bool
    ) -> Classified:
        """See :meth:`TappingRun.head`."""
        if not self.slots:
            found = probe_head(model, inputs, self.run, choose, name, leaf=leaf)
            self._keep_sizes(inputs, found.head.tokens is not None)
            features = Slot(found.head.tap, leaf=False)
            self._attach(features)
            self._head = HeadSlot(found.head, features, leaf, gives_logits(model, inputs, found.head))
            if found.head.classifier is not None:
                classifier = find_module(model, found.head.classifier)
                self._handles.append(attach_head(classifier, self._head))
                self._places.extend(_places(model, found.head.classifier))
            self._weights = parametrize.cached if parametrised(model) else nullcontext
            return found
        if self._head is None:
            raise TypeError(f"{self.extractor} was prepared for a layer, not for a classifier.")
        self._check_sizes(inputs)
        slot = self._head
        slot.listen()
        output, (pooled,) = self._listen(lambda: self.run(model, inputs), around=self._weights())
        logits = find_logits(output) if slot.gives_logits else None
        call = slot.take(pooled, logits)
        check = not self.traced and looks_at_values(pooled)
        return Classified(output, slot.head, check_call(slot.head, call, logits, values=check))

    def differentiate_layers(
        self, model: nn.Module, inputs: Any, score: Callable[[Any], Tensor], *, constant: bool
    ) -> Differentiated:
        """See :meth:`TappingRun.differentiate_layers`."""
        self._check_sizes(inputs)
        first = next(leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.ndim)
        shifts = [torch.zeros(len(first), *shape, dtype=dtype, device=first.device) for shape, dtype in self._like]
        around = OwnStatistics if constant else nullcontext
        return self._pull_back(lambda *_: inputs, shifts, score, shifted=True, around=around)

    def differentiate_input(
        self,
        model: nn.Module,
        pixels: Tensor,
        rebuild: Callable[[Tensor], Any],
        score: Callable[[Any], Tensor],
        *,
        constant: bool,
    ) -> Differentiated:
        """See :meth:`TappingRun.differentiate_input`."""
        around = OwnStatistics if constant else nullcontext
        return self._pull_back(rebuild, [pixels], score, shifted=False, around=around)

    def _pull_back(
        self,
        inputs: Callable[..., Any],
        primals: Sequence[Tensor],
        score: Callable[[Any], Tensor],
        *,
        shifted: bool,
        around: Callable[[], AbstractContextManager[Any]],
    ) -> Differentiated:
        buffers = dict(self.model.named_buffers())
        changing = {name: buffers[name] for name in self.changing}
        layout: list[Any] = []

        def function(*primals: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            fresh = {name: buffer.clone() for name, buffer in changing.items()}
            given = inputs(*primals)
            with sdpa_kernel(SDPBackend.MATH):
                output, tensors = self._listen(
                    lambda: self._call.with_buffers(fresh, given), shifts=primals if shifted else (), around=around()
                )
            leaves, spec = pytree.tree_flatten(output)
            layout.append((spec, leaves, len(tensors)))
            found = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            return score(output), (*fresh.values(), *tensors, *found)

        value, grads, rest = pull_back(function, primals, max(map(half_scale, primals)))
        spec, leaves, count = layout[0]
        with torch.no_grad():
            for number, buffer in enumerate(changing.values()):
                buffer.copy_(rest[number])
        tensors, found = rest[len(changing) :][:count], iter(rest[len(changing) + count :])
        output = pytree.tree_unflatten([next(found) if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec)
        return Differentiated(output, tensors, value, grads)

    def _listen(
        self,
        call: Callable[[], Any],
        *,
        above: AbstractContextManager[Any] | None = None,
        double_backward: bool = False,
        shifts: Sequence[Tensor] = (),
        around: AbstractContextManager[Any],
    ) -> tuple[Any, tuple[Tensor, ...]]:
        """The output of a call, and what was tapped in it.

        Args:
            call: Of the model.
            above: Entered as soon as a tensor is tapped, so that compiled modules below do not see it.
            double_backward: From then on, compute attention such that it can be differentiated twice.
            shifts: Added to the tapped tensors.
            around: Entered for the whole call.
        """
        with around:
            for slot in self.slots:
                slot.listen()
            for number, shift in enumerate(shifts):
                self.slots[number].shift = shift
            try:
                output = self._call_traced(call) if self.traced else self._call_eager(call, above, double_backward)
                return output, tuple([slot.tensor for slot in self.slots])
            finally:
                for slot in self.slots:
                    slot.forget()

    def _call_eager(
        self, call: Callable[[], Any], above: AbstractContextManager[Any] | None, double_backward: bool
    ) -> Any:
        with ExitStack() as stack:
            choose_math = stack.enter_context(attention_setting())
            enter = entering(stack, above)

            def reached() -> None:
                enter()
                if double_backward:
                    choose_math()

            for slot in self.slots:
                slot.reached = reached
                slot.watch_late(stack)
            return call()

    def _call_traced(self, call: Callable[[], Any]) -> Any:
        for slot in self.slots:
            if slot.tap.place == "pool":
                slot.watch = PoolWatch(slot.on_pool)
                with slot.watch:
                    return call()
        return call()

    def _keep_sizes(self, inputs: Any, needed: bool) -> None:
        """Where tokens are read, their grid is that of inputs of this size alone."""
        self._sizes = sizes_of(inputs) if needed else None

    def _check_sizes(self, inputs: Any) -> None:
        if self._sizes is not None and sizes_of(inputs) != self._sizes:
            raise ValueError(
                f"The model was prepared for inputs of size {self._sizes}, which tokens are read by, now they are "
                f"{sizes_of(inputs)}: prepare with images of this size, or call guided.unprepare()."
            )

    def _attach(self, slot: Slot) -> None:
        self.slots.append(slot)
        self._handles.append(attach(find_module(self.model, slot.tap.module), slot))
        self._places.extend(_places(self.model, slot.tap.module))


def _places(model: nn.Module, name: str) -> Iterator[tuple[nn.Module, str, nn.Module | None]]:
    """The modules on the way to the one of this name, each with its parent and the name there."""
    parts = name.split(".") if name else []
    for number, part in enumerate(parts):
        parent = find_module(model, ".".join(parts[:number]))
        yield parent, part, parent._modules.get(part)
