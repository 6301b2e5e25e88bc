"""One call of a model that also gives a tensor inside it; the first call takes down the model's anatomy."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from saliency_losses.extractors.anatomy import Anatomy, Observer, observing
from saliency_losses.extractors.attention_kernel import attention_setting
from saliency_losses.extractors.base import Run, call_model
from saliency_losses.extractors.capture import Captured, Tap, capture, check_on_graph, entering
from saliency_losses.extractors.head import Head, HeadCall, capture_head, has_hooks, pooled_call
from saliency_losses.extractors.identity import why_not_this_call
from saliency_losses.extractors.layers import Layer
from saliency_losses.extractors.layout import Layout, Reshape, layout_from, square_tokens
from saliency_losses.extractors.memory import remember, remembered
from saliency_losses.extractors.modules import find_module, unwrap
from saliency_losses.extractors.runs import TappingRun
from saliency_losses.extractors.score import find_logits

__all__ = [
    "Classified",
    "Tapped",
    "check_call",
    "gives_logits",
    "list_layers",
    "parametrised",
    "probe",
    "probe_head",
    "tap_of",
]


class Tapped(NamedTuple):
    """One forward pass.

    Attributes:
        output: Of the model.
        tensors: The tapped ones, in the order of the layers.
        layouts: How each is read as a map.
        names: What each is, for errors.
        first: Whether it was the first of these layers for this purpose.
    """

    output: Any
    tensors: tuple[Tensor, ...]
    layouts: tuple[Layout, ...]
    names: tuple[str, ...]
    first: bool


class Classified(NamedTuple):
    """One forward pass: the output, the head, and what it did."""

    output: Any
    head: Head
    call: HeadCall


_CHECKED_CALLS = 10


def probe(
    model: nn.Module,
    inputs: Any,
    run: Run | None,
    layers: Sequence[str | None],
    *,
    score: Callable[[Any], Tensor] | None = None,
    reshape: Reshape = None,
    double_backward: bool = False,
    above: AbstractContextManager[Any] | None = None,
    purpose: Hashable = None,
) -> Tapped:
    """Call the model once and capture the outputs of ``layers``, differentiable with respect to, even if it is frozen.

    The first call of a model also takes down its anatomy, from hooks on all modules; later calls hook the layers alone.
    Where tokens are read as maps, so does the first call with inputs of another size.

    Args:
        model: In whatever wrappers.
        inputs: For the model.
        run: Calls the model; :func:`call_model` by default.
        layers: Dotted names, or ``None`` for the default.
        score: Maps the output to (B,) or (B, K); decides where tokens are tapped by default.
        reshape: How to read the outputs; see :data:`~saliency_losses.extractors.layout.Reshape`.
        double_backward: From the first tapped tensor on, compute attention such that it can be differentiated twice.
        above: A context that the model is in from the first tapped tensor on; on the first call without a layer, all
            the time.
        purpose: What ``score`` stands for: a default that depends on it is found once for each purpose.

    Raises:
        ValueError: There is no such layer or no default, it runs without gradients although they are on, or nothing
            tells how to read it.
    """
    if isinstance(run, TappingRun):
        options: dict[str, Any] = {"score": score, "reshape": reshape, "double_backward": double_backward}
        prepared: Tapped = run.layers(model, inputs, layers, above=above, purpose=purpose, **options)
        return prepared
    run, told = run or call_model, layout_from(reshape)
    anatomy = remembered(model, inputs)
    if anatomy is not None and not all(_is_known(anatomy, model, layer, told, purpose) for layer in layers):
        anatomy = None
    observer = Observer(leaf=True)
    taps = {layer: Tap(layer, "output") if layer is not None else _default_tap(anatomy, purpose) for layer in layers}
    with ExitStack() as stack:
        choose_math = stack.enter_context(attention_setting())
        enter = entering(stack, above)

        def reached() -> None:
            enter()
            if double_backward:
                choose_math()

        captured = {
            layer: stack.enter_context(capture(model, tap, leaf=True, reached=reached))
            for layer, tap in taps.items()
            if tap is not None
        }
        if anatomy is None:
            if None in layers:
                reached()
            stack.enter_context(observing(model, inputs, observer))
        output = run(model, inputs)
    try:
        if anatomy is None:
            anatomy = observer.conclude(model, output, score if None in layers else None)
            if None in layers and anatomy.default is not None:
                anatomy.defaults[purpose] = anatomy.default
            anatomy = remember(model, inputs, anatomy)
        seen = observer.tensors
        found = [_found(model, anatomy, seen, captured.get(layer), layer, reshape, purpose) for layer in layers]
    finally:
        observer.release()
    tensors, layouts, names = (tuple(column) for column in zip(*found, strict=True))
    first = (purpose, *layers) not in anatomy.asked
    anatomy.asked.add((purpose, *layers))
    return Tapped(output, tensors, layouts, names, first)


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
    anatomy = remembered(model, inputs)
    if anatomy is None or (name is not None and name not in anatomy.heads):
        with _parametrised_once(model), observing(model, inputs, Observer(leaf)) as observer:
            output = run(model, inputs)
        try:
            anatomy = remember(model, inputs, observer.conclude(model, output))
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


def gives_logits(model: nn.Module, inputs: Any, head: Head) -> bool:
    """Whether this head of a model that was probed gives the model's logits."""
    anatomy = remembered(model, inputs)
    return anatomy is not None and anatomy.main == head.name


def tap_of(model: nn.Module, inputs: Any, layer: str | None, purpose: Hashable) -> Tap:
    """Where :func:`probe` taps this layer of a model that was probed."""
    anatomy = remembered(model, inputs)
    if layer is None and anatomy is not None:
        return _default(anatomy, purpose)[0]
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
        with (
            torch.random.fork_rng(devices),
            torch.no_grad(),
            observing(model, images, Observer(leaf=False)) as observer,
        ):
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


def _is_known(anatomy: Anatomy, model: nn.Module, layer: str | None, told: Layout | None, purpose: Hashable) -> bool:
    if layer is None:
        return anatomy.default_for(purpose) is not None
    return told is not None or anatomy.layer(model, layer) is not None


def _default_tap(anatomy: Anatomy | None, purpose: Hashable) -> Tap | None:
    return None if anatomy is None else _default(anatomy, purpose)[0]


def _default(anatomy: Anatomy, purpose: Hashable) -> tuple[Tap, Layout]:
    default = anatomy.default_for(purpose)
    if default is not None:
        return default
    raise ValueError(
        "Gradient methods found no layer to take by default: the last ones hold tokens that could not be followed back "
        "to the image or do not count for the score, or are changed in place, or there is none with positions. "
        f"{anatomy.instead()}"
    )


def _found(
    model: nn.Module,
    anatomy: Anatomy,
    seen: dict[Tap, Tensor],
    captured: Captured | None,
    layer: str | None,
    reshape: Reshape,
    purpose: Hashable,
) -> tuple[Tensor, Layout, str]:
    """The tapped tensor, how it is read, and what it is, for errors."""
    tap, layout = _default(anatomy, purpose) if layer is None else (Tap(layer, "output"), None)
    name = f"the layer taken by default, {tap}," if layer is None else f"layer {tap}"
    tensor = captured.tensor if captured is not None else seen[tap]
    check_on_graph(tensor, tap)
    known = None if layer is None else anatomy.layer(model, layer)
    told = layout_from(reshape)
    layout = told or (layout if known is None else known.layout)
    if tensor.ndim < 3 and (told is None or told.function is None):
        raise ValueError(
            f"{name[0].upper()}{name[1:]} gives shape {tuple(tensor.shape)}, expected (B, C, *positions); choose a "
            "layer with positions (list_layers(model, images))."
        )
    if layout is None and reshape == "tokens":
        layout = square_tokens(tuple(tensor.shape), name)
    if layout is None:
        raise ValueError(
            f"Nothing tells where the channels of {name} are, or how its tokens form a grid; its output has shape "
            f"{tuple(tensor.shape)}. Say so by reshape=: 'channels_first', 'channels_last', the grid of its last "
            "tokens such as (14, 14), or a callable to (B, C, *positions), the batch first."
        )
    return tensor, layout, name
