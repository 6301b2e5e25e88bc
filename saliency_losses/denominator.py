"""What a sum over maps is divided by, in one process and in several."""

from math import inf
from typing import Literal

import torch
from torch import Tensor, nn

from saliency_losses.distributed import averaging_group, is_distributed, summed_over_ranks, world_size

__all__ = ["Denominator", "check_denominator", "divisor"]

Denominator = Literal["annotated", "batch", "sum"] | float


def check_denominator(denominator: Denominator) -> Denominator:
    """``denominator`` itself, if it is one.

    Raises:
        ValueError: It is neither a known name nor a positive finite number.
    """
    if isinstance(denominator, str):
        known = denominator in ("annotated", "batch", "sum")
    else:
        known = isinstance(denominator, (int, float)) and not isinstance(denominator, bool) and 0 < denominator < inf
    if not known:
        raise ValueError(
            f"denominator must be 'annotated', 'batch', 'sum' or a positive finite number, got {denominator!r}."
        )
    return denominator


def divisor(
    denominator: Denominator, annotated: Tensor, maps: int, loss: nn.Module, *, together: bool
) -> Tensor | float:
    """What the sum over this process's maps is divided by.

    Wrappers average gradients over processes, so in grad mode what holds for all of them is divided by their number.

    Args:
        denominator: The rule.
        annotated: How many of this process's maps are annotated.
        maps: How many there are.
        loss: The module that wrappers are looked for around and inside.
        together: Whether the processes, if there are several, train one model.
    """
    together = together and torch.is_grad_enabled() and is_distributed()
    group = averaging_group(loss) if together else None
    ranks = world_size(group) if together else 1
    if not isinstance(denominator, str):
        return denominator / ranks
    if denominator == "sum":
        return 1.0 / ranks
    count = annotated.float() if denominator == "annotated" else torch.full_like(annotated, maps, dtype=torch.float32)
    return (summed_over_ranks(count, group) if together else count).clamp_min(1.0) / ranks
