"""Samples as the keywords of a guided step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["collate"]


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    r"""A batch that a guided loss takes as it is: ``guided(**batch)``; for ``DataLoader(collate_fn=collate)``.

    Args:
        samples: Dicts with ``image``, ``target``, ``human_saliency`` and ``annotated``; what else they hold is left
            out.

    Returns:
        ``images`` (B, C, H, W), ``targets`` (B,), ``human_saliency`` (B, H, W) or (B, K, H, W), and ``annotated`` (B,)
        or (B, K).

    Raises:
        ValueError: Sizes differ, or there is no sample.
        TypeError: A sample is none.

    Example:
        >>> sample = {"image": torch.rand(3, 8, 8), "target": 1, "human_saliency": torch.rand(8, 8), "annotated": True}
        >>> batch = collate([sample, sample])
        >>> batch["images"].shape, batch["targets"], batch["annotated"]
        (torch.Size([2, 3, 8, 8]), tensor([1, 1]), tensor([True, True]))
    """
    if not samples:
        raise ValueError("A batch has at least one sample.")
    return {
        "images": _stacked(samples, "image"),
        "targets": torch.stack([torch.as_tensor(target) for target in _each(samples, "target")]),
        "human_saliency": _stacked(samples, "human_saliency"),
        "annotated": torch.stack([torch.as_tensor(one, dtype=torch.bool) for one in _each(samples, "annotated")]),
    }


def _each(samples: Sequence[dict[str, Any]], key: str) -> list[Any]:
    for number, sample in enumerate(samples):
        if not isinstance(sample, dict) or key not in sample:
            found = ", ".join(map(str, sample)) if isinstance(sample, dict) else type(sample).__name__
            raise TypeError(f"Sample {number} of the batch has no {key!r}, but: {found}.")
    return [sample[key] for sample in samples]


def _stacked(samples: Sequence[dict[str, Any]], key: str) -> Tensor:
    values = _each(samples, key)
    for number, value in enumerate(values):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"Sample {number} of the batch: {key} is {type(value).__name__}, expected a tensor; let transform= end "
                "with one."
            )
        if value.shape != values[0].shape:
            raise ValueError(
                f"Sample 0 of the batch has {key} of shape {tuple(values[0].shape)}, sample {number} "
                f"{tuple(value.shape)}: a batch needs one size. Pass size=(height, width) to the dataset, or a "
                "transform= that ends in one size."
            )
    return torch.stack(values)
