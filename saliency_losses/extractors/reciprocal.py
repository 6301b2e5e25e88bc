"""One over a number that may vanish."""

import torch
from torch import Tensor

__all__ = ["reciprocal"]


def reciprocal(x: Tensor, floor: Tensor | float) -> Tensor:
    r""":math:`1/x` as long as :math:`|x|` is at least ``floor``, and from there straight through zero.

    .. math:: \frac{x}{\max(|x|, f)^2}

    Exact outside, continuous and finite everywhere, zero at zero, also where ``floor`` is zero.

    Args:
        x: Any shape.
        floor: Not negative, of a shape that broadcasts.

    Example:
        >>> reciprocal(torch.tensor([-4.0, 0.0, 0.05, 0.1]), 0.1)
        tensor([-0.2500,  0.0000,  5.0000, 10.0000])
    """
    size = torch.maximum(x.abs(), torch.as_tensor(floor, dtype=x.dtype, device=x.device))
    size = torch.where(size == 0, 1.0, size)
    return x / size / size
