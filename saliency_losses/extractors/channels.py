"""One value per position from the channels of an attribution."""

from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["Reduce", "check_reduce", "reduce_channels"]

Reduce = Literal["abs_max", "abs_mean", "mean", "sum", "l2", "none"]


def reduce_channels(grad: Tensor, reduce: Reduce, channel_axis: int = 1) -> Tensor:
    r"""One value per position from the channels of an attribution.

    Args:
        grad: (B, C, \*s), or with another channel axis.
        reduce: ``"abs_max"`` (Simonyan et al. 2014), ``"abs_mean"``, ``"mean"`` (signed, as Harmonization does),
            ``"sum"`` (signed), ``"l2"``, or ``"none"`` for inputs without a channel axis.
        channel_axis: Where the channels are.

    Example:
        >>> reduce_channels(torch.tensor([[[3.0], [-4.0]]]), "l2")
        tensor([[5.]])
    """
    if reduce == "none":
        return grad
    if reduce in ("mean", "sum"):
        return grad.mean(channel_axis) if reduce == "mean" else grad.sum(channel_axis)
    if reduce == "l2":
        norm: Tensor = torch.linalg.vector_norm(grad, dim=channel_axis)
        return norm
    size = grad.abs()
    return size.amax(channel_axis) if reduce == "abs_max" else size.mean(channel_axis)


def check_reduce(reduce: Reduce) -> Reduce:
    """``reduce`` itself, if it is one.

    Raises:
        ValueError: It is not.
    """
    if reduce not in get_args(Reduce):
        raise ValueError(f"reduce must be one of {', '.join(get_args(Reduce))}, got {reduce!r}.")
    return reduce
