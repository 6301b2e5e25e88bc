"""Several annotators' maps as one, and how far they agree."""

from typing import Literal

import torch
from torch import Tensor

from saliency_losses.divergences.normalize import standardize
from saliency_losses.maps.reading import check_numbers, full_precision, read_maps

__all__ = ["annotator_agreement", "combine_annotators"]


def combine_annotators(
    maps: Tensor,
    how: Literal["mean", "union", "majority", "share"] = "mean",
    *,
    present: Tensor | None = None,
    at_least: float = 0.5,
    threshold: float = 0.0,
) -> Tensor:
    """One map per sample from the maps of its annotators.

    Args:
        maps: (B, A, H, W), or (A, H, W) for one sample.
        how: ``"mean"`` of the maps; ``"union"``, their pixel-wise maximum; ``"majority"``, 1 where more than half of
            the annotators mark a pixel; ``"share"``, 1 where at least the share ``at_least`` of them does.
        present: Whether there is a map, (B, A) bool, or (A,); the others may hold anything. A sample without any
            gives zeros: tell the guided loss by ``annotated=present.any(1)``.
        at_least: Between 0 and 1, for ``"share"``.
        threshold: An annotator marks the pixels above it, for ``"majority"`` and ``"share"``.

    Returns:
        (B, H, W), or (H, W).

    Raises:
        ValueError: A shape or option that does not fit.
        TypeError: A dtype that does not fit.

    Example:
        >>> three = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 0.0]]])
        >>> combine_annotators(three, "majority"), combine_annotators(three, "union")
        (tensor([[1., 0.]]), tensor([[1., 1.]]))
    """
    if how not in ("mean", "union", "majority", "share"):
        raise ValueError(f"how must be 'mean', 'union', 'majority' or 'share', got {how!r}.")
    if not 0 < at_least <= 1:
        raise ValueError(f"at_least must be a share in (0, 1], got {at_least}.")
    maps, here = _read(maps, present)
    count = here.sum(-3)
    if how == "mean":
        return maps.sum(-3) / count.clamp_min(1)
    if how == "union":
        largest = torch.where(here, maps, float("-inf")).amax(-3)
        return torch.where(count > 0, largest, 0.0)
    marks = ((maps > threshold) & here).sum(-3).to(maps.dtype)
    enough = marks > 0.5 * count if how == "majority" else marks >= at_least * count - 1e-5
    return (enough & (marks > 0)).to(maps.dtype)


def annotator_agreement(
    maps: Tensor,
    how: Literal["iou", "correlation"] = "iou",
    *,
    present: Tensor | None = None,
    threshold: float = 0.0,
) -> Tensor:
    """How far the annotators of a sample agree: the mean over all pairs of them.

    Args:
        maps: (B, A, H, W), or (A, H, W) for one sample.
        how: ``"iou"``, intersection over union of what two annotators mark, 1 where both mark nothing;
            ``"correlation"``, Pearson's, 0 where a map is flat.
        present: As for :func:`combine_annotators`.
        threshold: An annotator marks the pixels above it, for ``"iou"``.

    Returns:
        (B,), or a scalar; 1 for a sample with fewer than two annotators, where nobody disagrees.

    Raises:
        ValueError: A shape or option that does not fit.
        TypeError: A dtype that does not fit.

    Example:
        >>> annotator_agreement(torch.tensor([[[1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]]))
        tensor(0.5000)
    """
    if how not in ("iou", "correlation"):
        raise ValueError(f"how must be 'iou' or 'correlation', got {how!r}.")
    maps, here = _read(maps, present)
    maps = maps.flatten(-2)
    with full_precision(maps.device):
        if how == "iou":
            marked = (maps > threshold).to(maps.dtype)
            both = marked @ marked.mT
            area = marked.sum(-1)
            either = area.unsqueeze(-1) + area.unsqueeze(-2) - both
            pairs = torch.where(either > 0, both / torch.where(either > 0, either, 1.0), 1.0)
        else:
            scores = standardize(maps.flatten(0, -2)).view_as(maps)
            pairs = scores @ scores.mT / maps.shape[-1]
    here = here.flatten(-3)
    other = torch.eye(here.shape[-1], device=here.device) == 0
    counted = here.unsqueeze(-1) & here.unsqueeze(-2) & other
    number = counted.sum((-2, -1))
    mean = torch.where(counted, pairs, 0.0).sum((-2, -1)) / number.clamp_min(1)
    return torch.where(number > 0, mean, 1.0)


def _read(maps: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """The maps, zero where there is none, and whether there is one, (B, A, 1, 1) or (A, 1, 1)."""
    maps = read_maps(maps, "maps", numbers=False)
    if maps.ndim not in (3, 4):
        raise ValueError(f"maps must have shape (A, H, W) or (B, A, H, W), got {tuple(maps.shape)}.")
    lead = maps.shape[:-2]
    if present is None:
        present = torch.ones(lead, dtype=torch.bool, device=maps.device)
    if present.shape != lead or present.dtype != torch.bool:
        raise ValueError(
            f"present must be bool of shape {tuple(lead)}, a value per annotator, got {present.dtype} of shape "
            f"{tuple(present.shape)}."
        )
    here = present[..., None, None]
    maps = torch.where(here, maps, 0.0)
    check_numbers(maps, "maps")
    return maps, here
