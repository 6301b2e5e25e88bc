"""What metrics read off the order of a map's values."""

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["area_at_fixations", "average_ranks", "mann_whitney"]


def average_ranks(x: Tensor) -> Tensor:
    """The rank of each value in its row, from 1; equal values share the mean of their ranks.

    Example:
        >>> average_ranks(torch.tensor([[3.0, 7.0, 3.0, 1.0]]))
        tensor([[2.5000, 4.0000, 2.5000, 1.0000]])
    """
    left, right = _places(x.sort(1).values, x.contiguous())
    return (left + right + 1).to(x.dtype) / 2.0


def mann_whitney(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    r"""The probability that a positive draw from a row is above a negative one, equal ones counting one half.

    .. math:: \frac{\sum_{i, j} p_i n_j \left([x_i > x_j] + \frac12 [x_i = x_j]\right)}{\sum_i p_i \sum_j n_j}

    Args:
        x: (B, N).
        positive: How often each value is drawn, (B, N).
        negative: Likewise.

    Returns:
        (B,); NaN where a row has no positive or no negative draw.

    Example:
        >>> positive, negative = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 1.0]])
        >>> mann_whitney(torch.tensor([[1.0, 2.0, 2.0]]), positive, negative)
        tensor([0.7500])

    Reference:
        Mann and Whitney, On a test of whether one of two random variables is stochastically larger than the other,
        Annals of Mathematical Statistics 1947.
    """
    ordered, order = x.sort(1)
    below = _sums(negative.gather(1, order))
    left, right = _places(ordered, x.contiguous())
    wins = 0.5 * (below.gather(1, left) + below.gather(1, right))
    return (positive * wins).sum(1) / (positive.sum(1) * negative.sum(1))


def area_at_fixations(x: Tensor, fixations: Tensor) -> Tensor:
    """The area under the curve of hits over false alarms of each row, with thresholds at fixated values alone.

    Args:
        x: (B, N).
        fixations: How often each pixel was fixated, (B, N); those that never were are the negatives.

    Returns:
        (B,); NaN where nothing or everything is fixated.

    Example:
        >>> area_at_fixations(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
        tensor([1.])
    """
    ordered, order = x.sort(1)
    counts = fixations.gather(1, order)
    left, right = _places(ordered, ordered)
    up_to = _sums(counts)
    total = up_to[:, -1:]
    place = torch.arange(x.shape[1], device=x.device).expand_as(order)
    threshold = torch.where(counts > 0, place, 0).cummax(1).values.gather(1, right - 1)  # the fixated value below, or 0
    missed = up_to.gather(1, left.gather(1, threshold))
    hits = total - 0.5 * (up_to.gather(1, right) + missed)
    negative = (counts == 0).to(x.dtype)
    return (hits * negative).sum(1) / (total.squeeze(1) * negative.sum(1))


def _sums(x: Tensor) -> Tensor:
    """The sums of the first 0, 1, ..., N entries of each row."""
    return pad(x.cumsum(1), (1, 0))


def _places(ordered: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """How many values of each ordered row are below, and how many are not above, each value of ``x``."""
    return torch.searchsorted(ordered, x), torch.searchsorted(ordered, x, right=True)
