"""Following positions through a forward pass: which axis of each tensor holds which part of the grid of the image."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from saliency_losses.extractors.axes import Axes, grid_axes
from saliency_losses.extractors.axis_rules import RULES, Call, Rule, starts_a_grid, tensors_in
from saliency_losses.extractors.pooling import version

__all__ = ["TokenWatch"]


class TokenWatch(TorchFunctionMode):
    """While active, follows the axes of tensors from images and convolutions on.

    Functions of which it is known what they do to axes pass that on; the results of all others are unknown, so that
    nothing is ever taken for a map that was reordered on the way.

    Attributes:
        grid: Whether anything had a grid of more than one coordinate.
    """

    def __init__(self) -> None:
        super().__init__()
        self.grid = False
        self._known: dict[int, tuple[Tensor, int, Axes]] = {}

    def start(self, inputs: Any) -> None:
        """Take four-dimensional inputs for images, their channels in the shorter of the first and last axis."""
        for leaf in pytree.tree_leaves(inputs):
            if isinstance(leaf, Tensor) and leaf.ndim == 4 and leaf.is_floating_point():
                self._note(leaf, grid_axes(tuple(leaf.shape), 1 if leaf.shape[1] <= leaf.shape[3] else 3))

    def axes_of(self, tensor: Tensor) -> Axes | None:
        """What is known of the tensor; one that was changed in place since is another one."""
        known, then, axes = self._known.get(id(tensor), (None, 0, None))
        return axes if known is not None and version(known) == then else None

    def forget(self) -> None:
        """Let go of everything that was seen."""
        self._known.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = RULES.get(getattr(func, "__name__", ""))
        if rule is None or torch.compiler.is_compiling():
            return func(*args, **kwargs)
        known = {
            id(tensor): axes for tensor in tensors_in((args, kwargs)) if (axes := self.axes_of(tensor)) is not None
        }
        result = func(*args, **kwargs)
        if known or starts_a_grid(rule):
            several = tuple(result) if isinstance(result, (tuple, list)) else (result,)
            for number, tensor in enumerate(several):
                if isinstance(tensor, Tensor):
                    self._note(tensor, _axes_by(rule, Call(func, args, kwargs, known, several, number)))
        return result

    def _note(self, tensor: Tensor, axes: Axes | None) -> None:
        if axes is None or len(axes) != tensor.ndim:
            return
        self._known[id(tensor)] = tensor, version(tensor), axes
        self.grid = self.grid or len({digit[0] for axis in axes for digit in axis if digit[0] >= 0}) > 1


def _axes_by(rule: Rule, call: Call) -> Axes | None:
    """What the rule says; nothing of a call with arguments that it does not foresee."""
    try:
        return rule(call)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return None
