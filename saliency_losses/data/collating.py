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
        "targets": _stacked(samples, "target"),
        "human_saliency": _stacked(samples, "human_saliency"),
        "annotated": _stacked(samples, "annotated").bool(),
    }


def _stacked(samples: Sequence[dict[str, Any]], key: str) -> Tensor:
    """(B, ...)."""
    values: list[Tensor] = []
    for number, sample in enumerate(samples):
        if not isinstance(sample, dict) or key not in sample:
            found = ", ".join(map(str, sample)) if isinstance(sample, dict) else type(sample).__name__
            raise TypeError(f"Sample {number} of the batch has no {key!r}, but: {found}.")
        value = sample[key]
        if key in ("image", "human_saliency") and not isinstance(value, Tensor):
            raise TypeError(
                f"Sample {number} of the batch: {key} is {type(value).__name__}, expected a tensor; let transform= end "
                "with one."
            )
        values.append(torch.as_tensor(value))
        if values[-1].shape != values[0].shape:
            raise ValueError(
                f"Sample 0 of the batch has {key} of shape {tuple(values[0].shape)}, sample {number} "
                f"{tuple(values[-1].shape)}: a batch needs one size. Pass size=(height, width) to the dataset, or a "
                "transform= that ends in one size."
            )
    return torch.stack(values)
