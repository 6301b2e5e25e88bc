"""What a dataset's transform may be, and what it must return."""

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import nn

__all__ = ["Transform", "check_transform", "transformed"]

Transform: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""From a sample to a sample."""

_KEYS = ("image", "target", "human_saliency", "annotated")


def check_transform(transform: Transform | None) -> Transform | None:
    """The transform itself, unless it is one of torchvision's, which would move the image and leave its map.

    Raises:
        TypeError: It is, or is none.

    Example:
        >>> check_transform(dict)
        <class 'dict'>
    """
    parts = transform.modules() if isinstance(transform, nn.Module) else [transform]
    for part in parts:
        if any(base.__module__.startswith("torchvision.") for base in type(part).__mro__):
            raise TypeError(
                f"transform is torchvision's {type(part).__name__}, which would move the image and leave its map. Wrap "
                "the pipeline: transform=saliency_losses.data.JointTransform(v2.Compose([...]))."
            )
    if transform is not None and not callable(transform):
        raise TypeError(f"transform must be a callable from sample to sample, got {transform!r}.")
    return transform


def transformed(transform: Transform, sample: dict[str, Any]) -> dict[str, Any]:
    """What a transform makes of a sample.

    Raises:
        TypeError: It is no sample, or the transform would leave its map.
    """
    check_transform(transform)
    changed = transform(sample)
    if not isinstance(changed, dict) or not all(key in changed for key in _KEYS):
        found = list(changed) if isinstance(changed, dict) else type(changed).__name__
        raise TypeError(f"transform must return a dict with {', '.join(_KEYS)}, got {found}.")
    return changed
