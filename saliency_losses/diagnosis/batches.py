"""What a loader yields, as the keywords of a guided step."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saliency_losses.guided import SaliencyGuidedLoss

__all__ = ["device_of", "has_map", "read_batch", "read_batches", "size_of"]

_STEP = tuple(inspect.signature(SaliencyGuidedLoss.forward).parameters)[1:]


def read_batch(batch: Any, device: torch.device) -> dict[str, Any]:
    """The keywords of a guided step, on a device.

    Args:
        batch: ``(images, targets, human_saliency)``, or a mapping with those keywords.
        device: Of the model.

    Raises:
        TypeError: It is neither.
        ValueError: A keyword is unknown, or images or targets are missing.

    Example:
        >>> sorted(read_batch((torch.zeros(1, 3, 4, 4), torch.zeros(1), None), torch.device("cpu")))
        ['human_saliency', 'images', 'targets']
    """
    if isinstance(batch, Mapping):
        unknown = [str(key) for key in batch if key not in _STEP]
        missing = [key for key in _STEP[:2] if key not in batch]
        if unknown or missing:
            raise ValueError(
                f"The loader yields a mapping with {sorted(map(str, batch))}, expected keywords of a guided step: "
                f"{', '.join(_STEP)}, of which images and targets are needed."
            )
        step = {"human_saliency": None, **batch}
    elif isinstance(batch, (tuple, list)) and len(batch) == 3:
        step = dict(zip(_STEP[:3], batch, strict=True))
    else:
        count = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise TypeError(
            f"The loader yields {type(batch).__name__}{count}, expected (images, targets, human_saliency), or a "
            f"mapping with the keywords of a guided step: {', '.join(_STEP)}."
        )
    moved: dict[str, Any] = pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), step)
    return moved


def read_batches(loader: Iterable[Any], model: nn.Module, *, count: int | None = None) -> Iterator[dict[str, Any]]:
    """The first ``count`` batches of the loader, all by default, on the device of the model's first parameter."""
    return (read_batch(batch, device_of(model)) for batch in islice(loader, count))


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is."""
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


def has_map(step: Mapping[str, Any]) -> bool:
    """Whether at least one sample has a human map."""
    annotated = step.get("annotated")
    return step["human_saliency"] is not None and (annotated is None or bool(torch.as_tensor(annotated).any()))


def size_of(step: Mapping[str, Any]) -> int:
    """How many samples there are: the length of the first tensor that has axes."""
    leaves = pytree.tree_leaves((step["images"], step["targets"]))
    return next((len(leaf) for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim), 1)
