"""What an extractor is: a model, inputs and classes in; the model's output and a saliency map out."""

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saliency_losses.registry import Registry, options_of

__all__ = [
    "Explanation",
    "LayerExplanation",
    "Run",
    "SaliencyExtractor",
    "call_model",
    "detached",
    "full_precision",
    "gradients_on",
    "is_own_leaf",
    "own_leaf",
]

Run = Callable[[nn.Module, Any], Any]

_OWN = "_saliency_losses_leaf"


class Explanation(NamedTuple):
    r"""What one forward pass gave: the model's output, untouched, and where it looked.

    Attributes:
        output: Whatever the model returned.
        saliency: Raw, signed map of shape (B, \*s), or (B, K, \*s) where K classes were explained; on the
            graph while grad mode is on.
    """

    output: Any
    saliency: Tensor


class LayerExplanation(Explanation):
    """An :class:`Explanation` by several layers, each of which is to be compared; ``saliency`` is their mean.

    Attributes:
        layers: The map of each layer.
    """

    layers: tuple[Tensor, ...]

    @classmethod
    def of(cls, output: Any, saliency: Tensor, layers: Sequence[Tensor]) -> "LayerExplanation":
        """The explanation made of these."""
        explanation = cls(output, saliency)
        explanation.layers = tuple(layers)
        return explanation


class SaliencyExtractor(nn.Module, ABC):
    """Finds where a model looks, in the same forward pass that gives its output.

    Extractors are configuration: they hold no model and no state of a call, so they print, pickle and can be
    shared. Implement :meth:`forward`; use ``torch.autograd.grad`` (never ``backward``, ``eval``, ``.data`` or
    ``.detach`` on what the map depends on), and leave no hook behind.

    Example:
        >>> class FeatureMean(SaliencyExtractor):
        ...     order = 1
        ...     def forward(self, model, inputs, classes, *, run=None):
        ...         kept = []
        ...         handle = model[0].register_forward_hook(lambda module, args, output: kept.append(output))
        ...         try:
        ...             output = (run or call_model)(model, inputs)
        ...         finally:
        ...             handle.remove()
        ...         return Explanation(output, kept[0].square().mean(1))
        >>> FeatureMean()(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), torch.ones(2, 3, 5, 5), None).saliency.shape
        torch.Size([2, 3, 3])

    :func:`~saliency_losses.testing.check_extractor` proves one.

    The attributes below declare what an extractor is; :func:`~saliency_losses.extractors.list_extractors` shows them.

    Attributes:
        needs: What the map is made of: ``"activations"``, ``"activation gradient"``, ``"input gradient"``,
            ``"attention"``, ``"attention gradient"`` or ``"perturbed inputs"``.
        order: 1 where the map is a function of activations and weights; 2 where it holds a gradient, so that
            training through it differentiates the model twice.
        passes: How many forward passes of the model one call takes; ``None`` where the input's size decides.
        tokens: Whether it works on transformers.
        dimensions: Of how many position axes a map may be.
        maps_per_sample: Whether ``classes`` of shape (B, K) is understood.
        compiles: Whether a prepared guided step compiles into one graph; see
            :meth:`~saliency_losses.guided.SaliencyGuidedLoss.prepare`.
    """

    needs: str = "activations"
    order: int = 2
    passes: int | None = 1
    tokens: bool = True
    dimensions: tuple[int, ...] = (1, 2, 3)
    maps_per_sample: ClassVar[bool] = True
    compiles: bool = False

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        return options_of(self)

    @abstractmethod
    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """The model's output and its map.

        Args:
            model: The model to explain.
            inputs: What the model takes: a tensor, a tuple or list (positional) or a mapping (keywords).
            classes: Which class each map explains, (B,) or (B, K) integers; float (B, C) weighs the logits
                (soft labels); ``None`` explains the predicted class.
            run: Calls the model; :func:`call_model` by default.
        """


EXTRACTORS: Registry[SaliencyExtractor] = Registry("extractor", SaliencyExtractor)


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call the model: a mapping is keywords, a tuple or list is positional, anything else the one argument.

    Example:
        >>> call_model(nn.Bilinear(2, 3, 1), (torch.ones(4, 2), torch.ones(4, 3))).shape
        torch.Size([4, 1])
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def detached(tree: Any) -> Any:
    """The same pytree, dataclasses included, with its tensors off the graph."""

    def off(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.detach()
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            fields = {field.name: getattr(leaf, field.name) for field in dataclasses.fields(leaf) if field.init}
            return dataclasses.replace(leaf, **detached(fields))
        return leaf

    return pytree.tree_map(off, tree)


def own_leaf(tensor: Tensor) -> Tensor:
    """A leaf of the same values, to differentiate with respect to, marked as the extractor's own."""
    leaf = tensor.detach().requires_grad_()
    setattr(leaf, _OWN, True)
    return leaf


def is_own_leaf(tensor: Tensor) -> bool:
    """Whether the tensor came from :func:`own_leaf`."""
    return hasattr(tensor, _OWN)


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """The tensors in at least float32, for arithmetic that autocast must not touch."""
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    with torch.autocast(tensors[0].device.type, enabled=False):
        yield [tensor.to(dtype) for tensor in tensors]


@contextmanager
def gradients_on() -> Iterator[Callable[[Any], Any]]:
    """Grad mode, also inside ``no_grad`` or ``inference_mode``.

    Yields:
        A function that makes a pytree's tensors usable here: those born in inference mode are cloned.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield lambda tree: pytree.tree_map_only(Tensor, lambda t: t.clone() if t.is_inference() else t, tree)
