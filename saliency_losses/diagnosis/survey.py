"""Where an extractor takes its map, why there, and which modules come behind it."""

import itertools
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn

from saliency_losses.extractors.anatomy import Anatomy, observing
from saliency_losses.extractors.base import Run, SaliencyExtractor, call_model
from saliency_losses.extractors.capture import Tap
from saliency_losses.extractors.head import Head
from saliency_losses.extractors.modules import find_module, named_layers

__all__ = ["Source", "Survey", "survey"]


class Source(NamedTuple):
    """Where a map is taken.

    Attributes:
        tap: In the model; ``None`` for its input.
        why: There, in words.
        head: The classifier that the map stands on, for CAM.
    """

    tap: Tap | None
    why: str
    head: Head | None = None

    @property
    def place(self) -> str:
        """In words; the bare name of a layer."""
        if self.tap is None:
            return "the input"
        return self.tap.module if self.tap.place == "output" else str(self.tap)


class Survey(NamedTuple):
    """What one forward pass showed.

    Attributes:
        model: The model.
        anatomy: Its layers and classifiers.
        started: When each module was first called.
        finished: When it last returned.
    """

    model: nn.Module
    anatomy: Anatomy
    started: dict[str, int]
    finished: dict[str, int]

    def source(self, extractor: SaliencyExtractor) -> Source | None:
        """Where the extractor takes its map, by its options ``layer``, ``input`` and ``head``; ``None``: unknown.

        Raises:
            ValueError: There is no such layer.
        """
        layer = getattr(extractor, "layer", None)
        if isinstance(layer, str):
            find_module(self.model, layer)
            return Source(Tap(layer, "output"), "as layer= says")
        if hasattr(extractor, "input"):
            return Source(None, "where this extractor differentiates")
        anatomy = self.anatomy
        main = anatomy.heads.get(anatomy.main or "")
        if hasattr(extractor, "head"):
            named: Any = extractor.head
            head = anatomy.heads.get(named) if named else main
            return None if head is None else Source(head.tap, f"it is pooled for the classifier {head.name!r}", head)
        if not hasattr(extractor, "layer") or anatomy.default is None:
            return None
        pooled = f"it is pooled for the classifier {main.name!r}" if main else "the last one with channels at positions"
        return Source(anatomy.default[0], pooled)

    def behind(self, source: Source) -> dict[str, nn.Module]:
        """The modules that were called after the tapped tensor was there, by name."""
        layers = {name: module for name, module in named_layers(self.model, compiled=False) if name in self.started}
        tap = source.tap
        if tap is None:
            return layers
        module = find_module(self.model, tap.module)
        name = next((name for name, other in layers.items() if other is module), "")
        since = self.started.get(name, 0) if tap.place == "input" else self.finished.get(name, 0)
        return {name: module for name, module in layers.items() if self.started[name] >= since}


def survey(model: nn.Module, inputs: Any, run: Run | None) -> Survey:
    """One forward pass without gradients, watched.

    Args:
        model: In its present mode.
        inputs: For the model.
        run: Calls the model; :func:`~saliency_losses.extractors.call_model` by default.

    Raises:
        ValueError: The model itself is compiled, where hooks do not fire reliably.
    """
    clock = itertools.count()
    started: dict[str, int] = {}
    finished: dict[str, int] = {}

    def watch(name: str, module: nn.Module) -> None:
        def begin(*_: Any) -> None:
            started.setdefault(name, next(clock))

        def end(*_: Any) -> None:
            finished[name] = next(clock)

        stack.callback(module.register_forward_pre_hook(begin).remove)
        stack.callback(module.register_forward_hook(end).remove)

    with torch.no_grad(), ExitStack() as stack:
        stack.callback(torch.clear_autocast_cache)  # older PyTorch would go on with weights cast here, off the graph
        observer = stack.enter_context(observing(model, leaf=False))
        for name, module in named_layers(model, compiled=False):
            watch(name, module)
        output = (run or call_model)(model, inputs)
        try:
            return Survey(model, observer.conclude(model, output), started, finished)
        finally:
            observer.release()
