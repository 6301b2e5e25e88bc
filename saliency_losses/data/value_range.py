"""What rounding in resampling must not do to a map's values."""

from torch import Tensor

__all__ = ["within_range"]


def within_range(moved: Tensor, maps: Tensor) -> Tensor:
    r"""The resampled maps, clamped to :math:`[\min(0, \min s), \max(0, \max s)]` of the maps :math:`s` they are from.

    Bilinear weights sum to one but for rounding, which lifts a map's largest value above one; 0 is what is outside.

    Args:
        moved: Resampled maps, of any shape.
        maps: The maps before resampling, of any shape.

    Returns:
        Maps of the shape of ``moved``.

    Example:
        >>> import torch
        >>> within_range(torch.tensor([1.0000001, -0.5]), torch.tensor([0.2, 1.0]))
        tensor([1., 0.])
    """
    if maps.numel() == 0:
        return moved
    low, high = maps.detach().nan_to_num(0.0).aminmax()
    return moved.clamp(low.clamp(max=0), high.clamp(min=0))
