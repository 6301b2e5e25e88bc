"""The threshold that separates best what should be high from what should be low."""

import torch
from torch import Tensor

__all__ = ["best_threshold"]

_ABOVE = 1e-4  # how far above a cell that should be low its candidate threshold lies


def best_threshold(model: Tensor, signed: Tensor, known: Tensor | None = None) -> Tensor:
    r"""The threshold that separates best what a person marked positive from what she marked negative, per row.

    .. math:: \arg\max_a \frac{|\{i : F_i < 0, m_i < a\}|}{|\{i : F_i < 0\}|}
        + \frac{|\{i : F_i > 0, m_i \ge a\}|}{|\{i : F_i > 0\}|}

    Candidates are the values of the positive cells, and 1e-4 more than those of the negative ones. Of equally good ones
    the first wins, negative cells before positive ones, each in the order of the map; a row without either gives 0.

    Args:
        model: m, (B, N).
        signed: F, (B, N).
        known: Weights of the cells, (B, N).

    Returns:
        (B, 1), differentiable in the cell that it was taken from.

    Example:
        >>> best_threshold(torch.tensor([[0.1, 0.9, 0.4, 0.6, 0.2]]), torch.tensor([[-1.0, 1.0, 0.0, 1.0, -1.0]]))
        tensor([[0.2001]])
    """
    candidates = torch.cat([model + _ABOVE, model], 1)
    with torch.no_grad():
        weight = torch.ones_like(model) if known is None else known
        low, high = weight * (signed < 0), weight * (signed > 0)
        total_low, total_high = low.sum(1, keepdim=True), high.sum(1, keepdim=True)
        right = _weight_below(model, low, candidates) * torch.where(total_high > 0, total_high, 1.0)
        right += (total_high - _weight_below(model, high, candidates)) * torch.where(total_low > 0, total_low, 1.0)
        best = torch.where(torch.cat([low, high], 1) > 0, right, -1.0).argmax(1, keepdim=True)
    return torch.where(total_low + total_high > 0, candidates.gather(1, best), 0.0)


def _weight_below(model: Tensor, weight: Tensor, limits: Tensor) -> Tensor:
    """The weight of the cells of each row whose value is below each limit."""
    values, order = torch.where(weight > 0, model, float("inf")).sort(1)
    sums = torch.nn.functional.pad(weight.gather(1, order).cumsum(1), (1, 0))
    return sums.gather(1, torch.searchsorted(values, limits.contiguous()))
