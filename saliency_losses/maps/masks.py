"""Segmentation masks as maps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_losses.maps.reading import read_maps

__all__ = ["mask_to_map"]


def mask_to_map(mask: Tensor, labels: int | Sequence[int] | None = None) -> Tensor:
    r"""A mask as a float map.

    Args:
        mask: (\*, H, W), bool, uint8 (0..255) or float; with ``labels``, whole numbers of classes.
        labels: The classes that are salient.

    Returns:
        (\*, H, W).

    Raises:
        TypeError: A dtype that does not fit.
        ValueError: A shape that does not fit, or no label.

    Example:
        >>> mask_to_map(torch.tensor([[0, 1], [2, 7]]), labels=(2, 7))
        tensor([[0., 0.],
                [1., 1.]])
    """
    if labels is None:
        return read_maps(mask, "mask")
    wanted = [labels] if isinstance(labels, int) else list(labels)
    if not wanted:
        raise ValueError("labels is empty: name at least one class, or pass None for a mask without classes.")
    if mask.is_floating_point() or mask.dtype == torch.bool:
        raise TypeError(
            f"A mask with labels holds whole numbers of classes, got {mask.dtype}; convert it with .long()."
        )
    chosen = torch.zeros_like(mask, dtype=torch.bool)
    for label in wanted:
        chosen = chosen | (mask == label)
    return read_maps(chosen, "mask")
