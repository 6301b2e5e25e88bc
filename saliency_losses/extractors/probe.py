"""One call of a model that also gives a tensor inside it; the first call takes down the model's anatomy."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saliency_losses.extractors.anatomy import Anatomy, observing
from saliency_losses.extractors.base import Run, call_model
from saliency_losses.extractors.capture import Tap, capture
from saliency_losses.extractors.layers import Layer
from saliency_losses.extractors.modules import find_module, unwrap

__all__ = ["Tapped", "list_layers", "probe"]


class Tapped(NamedTuple):
    """One forward pass: the output, the tapped tensor, where its channels are, and the model's anatomy."""

    output: Any
    tensor: Tensor
    channel_axis: int
    anatomy: Anatomy


# By model and mode: a model may take another way in training than in evaluation.
_KNOWN: "WeakKeyDictionary[nn.Module, dict[bool, Anatomy]]" = WeakKeyDictionary()


def probe(
    model: nn.Module,
    inputs: Any,
    run: Run | None,
    layer: str | None,
    choose: Callable[[Anatomy], tuple[Tap, int]],
    *,
    leaf: bool,
) -> Tapped:
    """Call the model once and capture the output of ``layer``, or what ``choose`` picks from its anatomy.

    The first call of a model also takes down its anatomy, from hooks on all modules; later calls hook one.

    Args:
        model: In whatever wrappers.
        inputs: For the model.
        run: Calls the model; :func:`call_model` by default.
        layer: A dotted name, or ``None`` to choose.
        choose: Picks a tap and the channel axis; raises where there is none.
        leaf: See :func:`capture`.
    """
    run = run or call_model
    anatomy = _remembered(model, layer)
    if anatomy is None:
        with ExitStack() as stack:
            wanted = None if layer is None else stack.enter_context(capture(model, Tap(layer, "output"), leaf=leaf))
            observer = stack.enter_context(observing(model, leaf=leaf))
            stack.callback(observer.release)
            output = run(model, inputs)
            anatomy = observer.conclude(output)
            _KNOWN.setdefault(unwrap(model), {})[model.training] = anatomy
            if wanted is None:
                tap, axis = choose(anatomy)
                return Tapped(output, observer.tensors[tap], axis, anatomy)
            captured = wanted
    else:
        tap, axis = choose(anatomy) if layer is None else (Tap(layer, "output"), 1)
        with capture(model, tap, leaf=leaf) as captured:
            output = run(model, inputs)
    if layer is not None:
        known = anatomy.layer(layer)
        axis = known.channel_axis if known else 1
    return Tapped(output, captured.tensor, axis, anatomy)


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
            (forward or call_model)(model, images)
            layers = list(observer.layers())
            observer.release()
    finally:
        for module, mode in modes:
            module.training = mode
    return layers


def _remembered(model: nn.Module, layer: str | None) -> Anatomy | None:
    """The anatomy in the model's present mode, unless modules that matter were replaced since."""
    anatomy = _KNOWN.get(unwrap(model), {}).get(model.training)
    if anatomy is None:
        return None
    names = anatomy.essential() | ({layer} & anatomy.modules.keys() if layer else set())
    try:
        same = all(find_module(model, name) is anatomy.modules[name]() for name in names)
    except ValueError:
        return None
    return anatomy if same else None
