"""Positive and negative annotations as one signed map."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from saliency_losses.maps.reading import read_maps

__all__ = ["TriState", "tri_state"]


class TriState(NamedTuple):
    r"""A signed annotation.

    Attributes:
        maps: 1 where to look, -1 where never to look, 0 where nothing is said, (\*, H, W).
        known: Which pixels are known, (\*, H, W) bool: the guided loss's ``annotated``.
    """

    maps: Tensor
    known: Tensor


def tri_state(
    positive: Tensor,
    negative: Tensor,
    *,
    unknown: Tensor | None = None,
    conflict: Literal["zero", "positive", "negative", "unknown"] = "zero",
    threshold: float = 0.0,
) -> TriState:
    r"""A map in {-1, 0, 1} from what an annotator marked as important and as misleading.

    Args:
        positive: (\*, H, W), float, uint8 (0..255) or bool.
        negative: Likewise.
        unknown: Pixels of which nothing is known, (\*, H, W) bool: 0 in the map, false in ``known``.
        conflict: What pixels are that both mark: ``"zero"``, the difference of both masks as RES takes it, or as one
            of them says, or ``"unknown"``.
        threshold: Pixels above it are marked.

    Raises:
        ValueError: Shapes differ, or an option that does not exist.
        TypeError: A dtype that does not fit.

    Example:
        >>> tri_state(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 1.0, 0.0]])).maps
        tensor([[ 1.,  0., -1.,  0.]])

    Reference:
        Gao et al., RES: A Robust Framework for Guiding Visual Explanation, KDD 2022.
    """
    if conflict not in ("zero", "positive", "negative", "unknown"):
        raise ValueError(f"conflict must be 'zero', 'positive', 'negative' or 'unknown', got {conflict!r}.")
    positive, negative = read_maps(positive, "positive"), read_maps(negative, "negative")
    for name, other in (("negative", negative), ("unknown", unknown)):
        if other is not None and other.shape != positive.shape:
            raise ValueError(
                f"positive has shape {tuple(positive.shape)} and {name} {tuple(other.shape)}; they must be the same."
            )
    look, avoid = positive > threshold, negative > threshold
    both = look & avoid
    known = torch.ones_like(look) if unknown is None else ~unknown.bool()
    if conflict == "unknown":
        known = known & ~both
    look, avoid = look & (~both | (conflict == "positive")), avoid & (~both | (conflict == "negative"))
    dtype = torch.promote_types(positive.dtype, negative.dtype)
    return TriState(torch.where(known, look.to(dtype) - avoid.to(dtype), 0.0), known)
