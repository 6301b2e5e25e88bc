"""Decoded samples that are kept."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["Cache"]


class Cache:
    """Samples kept until a number of bytes is reached; what came first stays, since every epoch asks for all.

    Copies, also those in worker processes, start empty.

    Args:
        limit: How many bytes of tensors are kept.

    Example:
        >>> import torch
        >>> cache = Cache(1000)
        >>> _ = cache.get(0, lambda: {"image": torch.zeros(10)})
        >>> cache.held, cache.get(0, dict)["image"].shape
        (40, torch.Size([10]))
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._samples: dict[int, dict[str, Any]] = {}

    def get(self, index: int, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The sample of this index, read if it is not kept; the caller may write into its tensors."""
        if index in self._samples:
            return _copied(self._samples[index])
        sample = read()
        size = sum(value.numel() * value.element_size() for value in sample.values() if isinstance(value, Tensor))
        if self.held + size <= self.limit:
            self._samples[index] = _copied(sample)
            self.held += size
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "held": 0, "_samples": {}}


def _copied(sample: dict[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in sample.items()}
