"""What a guided step is given, read."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saliency_losses.task import IGNORED

__all__ = ["as_classes", "asks_for_several", "batch_size", "tensors_of"]


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """The tensors in a pytree."""
    return (leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))


def batch_size(images: Any) -> int:
    """How many samples the model's input holds; 1 where no tensor says.

    Raises:
        ValueError: It holds none.
    """
    sizes = [len(tensor) for tensor in tensors_of(images) if tensor.ndim]
    if 0 in sizes:
        raise ValueError("The batch is empty; skip it (a DataLoader with drop_last=True gives none).")
    return sizes[0] if sizes else 1


def asks_for_several(classes: Any) -> bool:
    """Whether the classes ask for K maps per sample: integers (B, K)."""
    return isinstance(classes, Tensor) and classes.ndim == 2 and not classes.is_floating_point()


def as_classes(targets: Any) -> tuple[Any, Tensor | None]:
    """The targets as classes to explain, and for indices which samples have one; ignored targets have none.

    Several classes per sample must be asked for by ``classes``.

    Raises:
        ValueError: Integer targets (B, C).
    """
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.dtype == torch.bool:
        return targets, None
    if targets.ndim == 1 or (targets.ndim == 2 and targets.shape[1] == 1):
        targets = targets.flatten()
        known = targets != IGNORED
        return torch.where(known, targets, 0), known
    if targets.ndim != 2:
        return targets, None
    raise ValueError(
        f"Integer targets of shape {tuple(targets.shape)} do not say which class each map explains; pass classes= "
        "(indices (B,) or (B, K)), or float targets (B, C), which weigh the logits."
    )
