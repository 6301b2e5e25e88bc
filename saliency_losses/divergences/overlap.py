"""What measures of overlap have in common."""

import torch
from torch import Tensor

from saliency_losses.divergences.normalize import FLAT

__all__ = ["one_minus_share"]


def one_minus_share(part: Tensor, whole: Tensor, *, eps: float = FLAT) -> Tensor:
    """One minus ``part / whole``; zero, without a gradient, where the whole is at most ``eps``.

    Example:
        >>> one_minus_share(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 0.0]))
        tensor([0.7500, 0.0000])
    """
    empty = whole <= eps
    return torch.where(empty, 0.0, 1.0 - part / torch.where(empty, 1.0, whole))
