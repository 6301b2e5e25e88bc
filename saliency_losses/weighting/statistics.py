"""What adaptive weightings measure, in one process and in several."""

import torch
from torch import Tensor, nn

from saliency_losses.distributed import averaging_group, is_distributed, summed_over_ranks

__all__ = ["level", "levels", "summed"]


def level(term: Tensor) -> Tensor:
    """The size of a term, in float32 at least: a scalar itself, else the mean of the values that are not zero.

    Example:
        >>> level(torch.tensor([0.0, 1.0, 3.0]))
        tensor(2.)
    """
    total, count = _total_and_count(term)
    return total / count.clamp_min(1.0)


def levels(task: Tensor, saliency: Tensor, model: nn.Module | None, *, together: bool) -> Tensor:
    """The magnitudes of both terms' levels, (2,), off the graph; over all processes in a step that trains together.

    Args:
        task: The task's term.
        saliency: The saliency's.
        model: In a guided step, the model.
        together: Whether processes, if there are several, train one model.
    """
    with torch.no_grad():
        found = torch.stack([torch.stack(_total_and_count(term)) for term in (task, saliency)])
    total, count = summed(found, model, together=together).unbind(1)
    return (total / count.clamp_min(1.0)).abs()


def summed(statistics: Tensor, model: nn.Module | None, *, together: bool) -> Tensor:
    """The sum over the processes that train together, in grad mode; each of them must call this.

    Args:
        statistics: Off the graph; overwritten.
        model: In a guided step, the model; ``None`` outside, where every process is alone.
        together: Whether they train one model.
    """
    if model is not None and together and torch.is_grad_enabled() and is_distributed():
        return summed_over_ranks(statistics, averaging_group(model))
    return statistics


def _total_and_count(term: Tensor) -> tuple[Tensor, Tensor]:
    values = term.to(torch.promote_types(term.dtype, torch.float32))
    if values.ndim == 0:
        return values, torch.ones_like(values)
    return values.sum(), (values != 0).sum().to(values.dtype)
