"""One call of a model that also gives a tensor inside it; the first call takes down the model's anatomy."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from saliency_losses.extractors.anatomy import Anatomy, observing
from saliency_losses.extractors.base import Run, call_model
from saliency_losses.extractors.capture import Tap, capture, check_on_graph, entering
from saliency_losses.extractors.head import Head, HeadCall, capture_head, has_hooks, pooled_call
from saliency_losses.extractors.identity import why_not_this_call
from saliency_losses.extractors.layers import Layer
from saliency_losses.extractors.layout import Layout
from saliency_losses.extractors.modules import find_module, unwrap
from saliency_losses.extractors.runs import TappingRun
from saliency_losses.extractors.score import find_logits

__all__ = [
    "Classified",
    "Tapped",
    "TappedLayers",
    "check_call",
    "gives_logits",
    "list_layers",
    "parametrised",
    "probe",
    "probe_head",
    "probe_layers",
    "tap_of",
]


class Tapped(NamedTuple):
    """One forward pass.

    Attributes:
        output: Of the model.
        tensor: The tapped one.
        channel_axis: Where its channels are; ``None`` if nothing tells.
        first: Whether it was the first that was seen of the model.
    """

    output: Any
    tensor: Tensor
    channel_axis: int | None
    first: bool


class Classified(NamedTuple):
    """One forward pass: the output, the head, and what it did."""

    output: Any
    head: Head
    call: HeadCall


_CHECKED_CALLS = 10

# By model and mode: a model may take another way in training than in evaluation.
_KNOWN: "WeakKeyDictionary[nn.Module, dict[bool, Anatomy]]" = WeakKeyDictionary()


def probe(
    model: nn.Module,
    inputs: Any,
    run: Run | None,
    layer: str | None,
    *,
    leaf: bool,
    above: AbstractContextManager[Any] | None = None,
) -> Tapped:
    """Call the model once and capture the output of ``layer``, or what Grad-CAM taps by default.

    The first call of a model also takes down its anatomy, from hooks on all modules; later calls hook one.

    Args:
        model: In whatever wrappers.
        inputs: For the model.
        run: Calls the model; :func:`call_model` by default.
        layer: A dotted name, or ``None`` for the default.
        leaf: See :func:`capture`.
        above: A context that the model is in from the layer on; on the first call without a layer, all the time.

    Raises:
        ValueError: There is no such layer or no default, or the layer runs without gradients although they are on.
    """
    run = run or call_model
    anatomy = _remembered(model)
    if anatomy is not None and layer is not None and anatomy.layer(model, layer) is None:
        anatomy = None
    first = anatomy is None
    if anatomy is None:
        tap = None if layer is None else Tap(layer, "output")
        with ExitStack() as stack:
            enter = entering(stack, above)
            captured = None if tap is None else stack.enter_context(capture(model, tap, leaf=leaf, reached=enter))
            if captured is None:
                enter()
            observer = stack.enter_context(observing(model, leaf=leaf))
            output = run(model, inputs)
        try:
            anatomy = _remember(model, observer.conclude(model, output))
            tap = tap or _default(anatomy)[0]
            tensor = observer.tensors[tap] if captured is None else captured.tensor
        finally:
            observer.release()
    else:
        tap = _default(anatomy)[0] if layer is None else Tap(layer, "output")
        with ExitStack() as stack:
            captured = stack.enter_context(capture(model, tap, leaf=leaf, reached=entering(stack, above)))
            output = run(model, inputs)
        tensor = captured.tensor
    if leaf:
        check_on_graph(tensor, tap)
    if layer is None:
        return Tapped(output, tensor, _default(anatomy)[1], first)
    known = anatomy.layer(model, layer)
    return Tapped(output, tensor, known.channel_axis if known else None, first)


class TappedLayers(NamedTuple):
    """One forward pass: the output, and of each layer the tensor, how to read it, and what to call it in errors."""

    output: Any
    tensors: tuple[Tensor, ...]
    layouts: tuple[Layout, ...]
    names: tuple[str, ...]
    first: bool


def probe_layers(
    model: nn.Module,
    inputs: Any,
    run: Run | None,
    layers: Sequence[str | None],
    *,
    leaf: bool,
    reshape: Callable[[Tensor], Tensor] | None = None,
    above: AbstractContextManager[Any] | None = None,
) -> TappedLayers:
    """As :func:`probe`, with how to read the layer; ``above`` is entered once the layer is reached."""
    if isinstance(run, TappingRun):
        prepared: TappedLayers = run.layers(model, inputs, layers, leaf=leaf, reshape=reshape, above=above)
        return prepared
    (layer,) = layers
    tapped = probe(model, inputs, run, layer, leaf=leaf, above=above)
    name = f"layer {layer!r}" if layer else "the layer that was chosen"
    layout = Layout(tapped.channel_axis, reshape, layer)
    return TappedLayers(tapped.output, (tapped.tensor,), (layout,), (name,), tapped.first)


def probe_head(
    model: nn.Module, inputs: Any, run: Run | None, choose: Callable[[Anatomy], Head], name: str | None, *, leaf: bool
) -> Classified:
    """Call the model once and capture what feeds global pooling, and what the classifier behind it did.

    That the identity behind CAM holds is verified on the first ten calls for each size of the features; on the CPU,
    where looking at numbers waits for nobody, and for a classifier with hooks, on every call.

    Args:
        model: In whatever wrappers.
        inputs: For the model.
        run: Calls the model; :func:`call_model` by default.
        choose: Picks a head; raises where there is none.
        name: Of the head, where the caller named one.
        leaf: Whether the logits must be differentiable with respect to, even if all parameters are frozen.

    Raises:
        ValueError: There is no head, or in this call it did not give the logits.
    """
    if isinstance(run, TappingRun):
        prepared: Classified = run.head(model, inputs, choose, name, leaf=leaf)
        return prepared
    run = run or call_model
    anatomy = _remembered(model)
    if anatomy is None or (name is not None and name not in anatomy.heads):
        with _parametrised_once(model), observing(model, leaf=leaf) as observer:
            output = run(model, inputs)
        try:
            anatomy = _remember(model, observer.conclude(model, output))
            head = choose(anatomy)
            return Classified(output, head, observer.calls[head.name])
        finally:
            observer.release()
    head = choose(anatomy)
    with ExitStack() as stack:
        stack.enter_context(_parametrised_once(model))
        captured = stack.enter_context(capture(model, head.tap, leaf=False))
        calls = stack.enter_context(capture_head(model, head, captured, leaf=leaf))
        output = run(model, inputs)
    features = captured.tensor
    logits = find_logits(output) if head.name == anatomy.main else None
    if head.classifier is None:
        calls.append(pooled_call(features, head.channel_axis, logits))
    values = _worth_checking(model, anatomy, head, features)
    return Classified(output, head, check_call(head, calls[0] if calls else None, logits, values=values))


def check_call(head: Head, call: HeadCall | None, logits: Tensor | None, *, values: bool) -> HeadCall:
    """The call itself, if it is what CAM stands on.

    Args:
        head: The classifier.
        call: What it did; ``None`` if it was not called.
        logits: What the model returned, or ``None`` if another output was chosen.
        values: Whether to look at numbers, which makes a device wait.

    Raises:
        ValueError: The head was not called, or did not give the logits.
    """
    why = None if call is not None else f"its classifier {head.name!r} was not called this time"
    if call is not None and values:
        why = why_not_this_call(call, logits, dropout=head.dropout)
    if call is None or why is not None:
        raise ValueError(
            f"CAM follows one way from pooling to logits, but in this call {why}. Name the classifier, CAM(head=...), "
            "with one loss for each, or use extractor='grad_cam' with a layer by name."
        )
    return call


def gives_logits(model: nn.Module, head: Head) -> bool:
    """Whether this head of a model that was probed gives the model's logits."""
    anatomy = _remembered(model)
    return anatomy is not None and anatomy.main == head.name


def tap_of(model: nn.Module, layer: str | None) -> Tap:
    """Where :func:`probe` taps this layer of a model that was probed."""
    anatomy = _remembered(model)
    if layer is None and anatomy is not None:
        return _default(anatomy)[0]
    return Tap(layer or "", "output")


def list_layers(model: nn.Module, images: Any, *, forward: Run | None = None) -> list[Layer]:
    """The layers of which a saliency map can be taken, in the order in which they finish.

    One forward pass in eval mode and without gradients; mode, buffers and random state stay as they were.

    Args:
        model: The model.
        images: What it takes; see :func:`call_model`.
        forward: Calls the model, where that does not do.

    Returns:
        Name, output shape and channel axis of each layer whose output has positions.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
        >>> for layer in list_layers(net, torch.zeros(1, 3, 8, 8)):
        ...     print(layer.name, layer.shape)
        0 (1, 8, 6, 6)
        1 (1, 8, 6, 6)
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = {t.device for t in pytree.tree_leaves(images) if isinstance(t, Tensor) and t.device.type != "cpu"}
    try:
        for module, _ in modes:
            module.training = False
        with torch.random.fork_rng(devices), torch.no_grad(), observing(model, leaf=False) as observer:
            output = (forward or call_model)(model, images)
            layers = observer.conclude(model, output).spatial()
            observer.release()
    finally:
        for module, mode in modes:
            module.training = mode
    return layers


def parametrised(model: nn.Module) -> bool:
    """Whether a linear layer's weight is computed by a parametrisation."""
    linear = (module for module in unwrap(model).modules() if isinstance(module, nn.Linear))
    return any(map(parametrize.is_parametrized, linear))


def _parametrised_once(model: nn.Module) -> AbstractContextManager[Any]:
    """Where linear layers are parametrised: compute each weight once, so that reading it again changes nothing."""
    return parametrize.cached() if parametrised(model) else nullcontext()


def _worth_checking(model: nn.Module, anatomy: Anatomy, head: Head, features: Tensor) -> bool:
    key = head.name, tuple(features.shape[1:])
    anatomy.checked[key] = anatomy.checked.get(key, 0) + 1
    hooked = head.classifier is not None and has_hooks(find_module(model, head.classifier))
    return features.device.type == "cpu" or hooked or anatomy.checked[key] <= _CHECKED_CALLS


def _default(anatomy: Anatomy) -> tuple[Tap, int]:
    if anatomy.default is not None:
        return anatomy.default
    raise ValueError(
        "grad_cam found no layer to take by default: the last ones hold tokens, are changed in place, or there is none "
        f"with positions. {anatomy.instead()}"
    )


def _remember(model: nn.Module, anatomy: Anatomy) -> Anatomy:
    """The anatomy, with the heads that earlier calls found in the same modules."""
    known = _remembered(model)
    if known is not None:
        anatomy.heads.update({name: head for name, head in known.heads.items() if name not in anatomy.heads})
    _KNOWN.setdefault(unwrap(model), {})[model.training] = anatomy
    return anatomy


def _remembered(model: nn.Module) -> Anatomy | None:
    """The anatomy in the model's present mode, unless modules were replaced since."""
    anatomy = _KNOWN.get(unwrap(model), {}).get(model.training)
    return anatomy if anatomy is not None and anatomy.fits(model) else None
