"""Bringing two maps to one size."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Sizing", "bring_to_size", "check_sizing", "to_size"]

Sizing = Literal["area", "max", "antialias", "nearest", "enlarge", "enlarge_aligned", "same"]
"""How a human map and a model's map come to one size.

``"area"`` averages the human map over each cell of the model's map, which keeps its mass; ``"max"`` takes the largest
value in each cell, which keeps peaks; ``"antialias"`` is the triangle filter of Pillow's bilinear resize, ``"nearest"``
picks one pixel per cell and keeps values such as -1, 0, 1. ``"enlarge"`` enlarges the model's map linearly to the human
map instead, ``"enlarge_aligned"`` with the centres of the corner pixels aligned (``align_corners=True``), as some
published code does. ``"same"`` refuses maps of different size. Where a human map is smaller than the model's it is
enlarged, linearly or, for ``"nearest"``, by repetition.
"""

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def check_sizing(sizing: Sizing) -> Sizing:
    """``sizing`` itself, if it is one.

    Raises:
        ValueError: It is not.
    """
    if sizing not in get_args(Sizing):
        raise ValueError(f"sizing must be one of {', '.join(get_args(Sizing))}, got {sizing!r}.")
    return sizing


def to_size(maps: Tensor, size: tuple[int, ...], how: Sizing) -> Tensor:
    r"""Maps (M, \*S) at another size (M, \*size); differentiable.

    Raises:
        ValueError: Maps have more than three axes, or two-dimensional resampling is asked for maps with three.

    Example:
        >>> to_size(torch.tensor([[[0.0, 4.0], [0.0, 0.0]]]), (1, 1), "area")
        tensor([[[1.]]])
    """
    if tuple(maps.shape[1:]) == size:
        return maps
    rank = len(size)
    if rank > 3 or maps.ndim != rank + 1:
        raise ValueError(f"Maps of one to three axes can be resized, got {tuple(maps.shape)} for the size {size}.")
    maps = maps.unsqueeze(1)
    if how == "nearest":
        return F.interpolate(maps, size=size, mode="nearest").squeeze(1)
    if how == "antialias":
        if rank == 3:
            raise ValueError("sizing='antialias' is defined on maps of one or two axes; use 'area' for three.")
        plane = maps if rank == 2 else maps.unsqueeze(2)
        goal = size if rank == 2 else (1, *size)
        plane = F.interpolate(plane, size=goal, mode="bilinear", antialias=True)
        return plane.view(len(maps), *size)
    shrunk = tuple(map(min, maps.shape[2:], size))
    if shrunk != tuple(maps.shape[2:]):
        maps = _largest(maps, shrunk) if how == "max" else F.interpolate(maps, size=shrunk, mode="area")
    if shrunk != size:
        maps = F.interpolate(maps, size=size, mode=_LINEAR[rank], align_corners=how == "enlarge_aligned")
    return maps.squeeze(1)


def bring_to_size(
    model: Tensor, human: Tensor, known: Tensor | None, sizing: Sizing
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Both maps at one size, and the known share of each cell.

    Unknown pixels take no part in what a cell becomes.

    Args:
        model: (M, \*s).
        human: (M, \*S), of as many axes.
        known: Which pixels of the human map are known, or their weight in [0, 1], (M, \*S); all by default.
        sizing: How.

    Raises:
        ValueError: The sizes differ under ``"same"``, or the maps cannot be resized.

    Example:
        >>> stroke = torch.zeros(1, 4, 4)
        >>> stroke[0, 0] = 1.0
        >>> bring_to_size(torch.rand(1, 2, 2), stroke, None, "area")[1]
        tensor([[[0.5000, 0.5000],
                 [0.0000, 0.0000]]])
    """
    small, large = tuple(model.shape[1:]), tuple(human.shape[1:])
    if small == large:
        return model, human, known
    if sizing == "same":
        raise ValueError(
            f"The model's map has size {small} and the human map {large}, but sizing='same' expects one size; resize "
            "one of them, or choose another sizing."
        )
    size = tuple(map(max, small, large)) if sizing in ("enlarge", "enlarge_aligned") else small
    model = to_size(model, size, sizing)
    if known is None:
        return model, to_size(human, size, sizing), None
    if sizing == "max":
        shrunk = tuple(map(min, large, size))
        peaks = to_size(torch.where(known > 0, human, torch.finfo(human.dtype).min), shrunk, "max")
        known = to_size(known, shrunk, "max")
        human = torch.where(known > 0, peaks, 0.0)
    share = to_size(known, size, sizing)
    mass = to_size(human * known, size, sizing)
    return model, torch.where(share > 0, mass / torch.where(share > 0, share, 1.0), 0.0), share


def _largest(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    pool = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}[len(size)]
    result: Tensor = pool(maps, size)
    return result
