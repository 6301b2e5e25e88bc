"""The mean of maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saliency_losses.viz.scaling import Scaling, read_saliency, scaled

__all__ = ["average_map"]


def average_map(
    maps: Any, *, normalize: Scaling = "minmax", annotated: Sequence[bool] | Any = None
) -> NDArray[np.float32]:
    r"""The mean of maps, each scaled to [0, 1] first so that none outweighs the others.

    Args:
        maps: (N, h, w), as a tensor, an array or a list of (h, w), also of grey Pillow images.
        normalize: ``"minmax"`` scales each map, and leaves out flat ones, which say nothing; ``"none"`` takes maps
            that lie in [0, 1] as they are.
        annotated: (N,) bool: which maps there are; the others take no part.

    Returns:
        (h, w) in [0, 1]; zeros if no map takes part.

    Raises:
        TypeError: A dtype that is not accepted.
        ValueError: Shapes or values that do not fit.

    Example:
        >>> average_map(torch.tensor([[[0.0, 2.0]], [[5.0, 5.0]], [[1.0, -1.0]]]))
        array([[0.5, 0.5]], dtype=float32)
    """
    if len(maps) == 0:
        raise ValueError("maps is empty; a mean needs at least one map.")
    if isinstance(maps, list | tuple):
        values = torch.cat([read_saliency(one, "maps", None) for one in maps])
    else:
        values = read_saliency(maps, "maps", len(maps))
    unit = scaled(values, normalize, "maps")
    counted = torch.ones(len(values), dtype=torch.bool)
    if annotated is not None:
        counted = torch.as_tensor(annotated).cpu().bool()
        if tuple(counted.shape) != (len(values),):
            raise ValueError(f"annotated must have shape ({len(values)},) for {len(values)} maps, got "
                             f"{tuple(counted.shape)}.")  # fmt: skip
    if normalize == "minmax":
        counted = counted & (unit.flatten(1).amax(1) > 0)
    result: NDArray[np.float32] = (unit[counted].sum(0) / counted.sum().clamp_min(1)).float().numpy()
    return result
