"""The input that a map explains, among all that a model takes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saliency_losses.extractors.base import own_leaf

__all__ = ["Baseline", "baseline_of", "check_baseline", "find_input", "pick_input"]

Baseline = float | Tensor | Callable[[Tensor], Tensor]
r"""What stands for nothing: a number, a tensor that broadcasts to the input (B, C, \*S), or a function of the input."""


def find_input(inputs: Any, which: int | str | None = None) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """The input to explain, and what puts another in its place.

    Args:
        inputs: A tensor, or a pytree of tensors.
        which: Position or keyword of the input; by default the only floating-point tensor.

    Raises:
        ValueError: There is no such input, or not exactly one to choose from.
    """
    paths, layout = pytree.tree_flatten_with_path(inputs)
    keys = [getattr(path[0], "idx", getattr(path[0], "key", None)) if path else None for path, _ in paths]
    leaves = [leaf for _, leaf in paths]
    fitting = [
        number
        for number, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and which in (None, keys[number])
    ]
    if len(fitting) != 1:
        found = {key: tuple(leaf.shape) for key, leaf in zip(keys, leaves, strict=True) if isinstance(leaf, Tensor)}
        raise ValueError(
            f"input={which!r} fits {len(fitting)} floating-point tensors among the inputs {found}, expected one; name "
            "it by position or keyword: InputGradient(input=...)."
        )
    number = fitting[0]

    def rebuild(tensor: Tensor) -> Any:
        return pytree.tree_unflatten([*leaves[:number], tensor, *leaves[number + 1 :]], layout)

    return leaves[number], rebuild


def pick_input(inputs: Any, which: int | str | None = None) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """The input to explain, as a tensor to differentiate with respect to, and what puts one back among the inputs.

    Args:
        inputs: A tensor, or a pytree of tensors.
        which: Position or keyword of the input; by default the only floating-point tensor.

    Raises:
        ValueError: There is no such input, or not exactly one to choose from.
    """
    pixels, rebuild = find_input(inputs, which)
    return pixels if pixels.requires_grad else own_leaf(pixels), rebuild


def check_baseline(baseline: Baseline) -> Baseline:
    """``baseline`` itself, if it is one.

    Raises:
        TypeError: It is not.
    """
    if (isinstance(baseline, (int, float, Tensor)) and not isinstance(baseline, bool)) or callable(baseline):
        return baseline
    raise TypeError(
        f"baseline must be a number, a tensor or a callable(inputs) -> tensor, got {type(baseline).__name__}."
    )


def baseline_of(baseline: Baseline, pixels: Tensor) -> Tensor:
    """The baseline of these inputs, in a shape that broadcasts to theirs.

    Raises:
        ValueError: It does not broadcast.
    """
    value = baseline(pixels) if not isinstance(baseline, Tensor) and callable(baseline) else baseline
    value = torch.as_tensor(value, dtype=pixels.dtype, device=pixels.device)
    shape = tuple(pixels.shape)
    if value.ndim > len(shape) or any(
        own not in (1, size) for own, size in zip(value.shape[::-1], shape[::-1], strict=False)
    ):
        raise ValueError(
            f"baseline has shape {tuple(value.shape)}, which does not broadcast to the inputs {shape}; give a number "
            f"or a tensor of shape {shape[1:]}."
        )
    return value
