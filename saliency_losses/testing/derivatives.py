"""First and second derivatives of a divergence beside finite differences."""

import torch
from torch import Tensor

from saliency_losses.divergences.base import Divergence
from saliency_losses.testing.gradients import check_gradients
from saliency_losses.testing.probes import Probe, draw_human, other_sizes, refuses_sizes

__all__ = ["check_derivatives"]


def check_derivatives(divergence: Divergence, probe: Probe, size: tuple[int, ...]) -> None:
    """Check both derivatives, also of maps that are known in part, and beside human maps of another size.

    Raises:
        AssertionError: A derivative is wrong; the message says which.
    """
    weights = torch.rand(5, dtype=torch.float64)
    leaf = probe.model.clone().requires_grad_()
    cases: list[tuple[str, Tensor | None, Tensor | None]] = [("the model's map", probe.human, None)]
    if probe.human is not None:
        share = torch.rand_like(probe.human).round(decimals=1)
        cases += [("the partly known map", probe.human, share), ("the half known map", probe.human, share.round())]
        for other in other_sizes(size):
            human = draw_human(divergence, other)
            share = torch.rand(5, *other, dtype=torch.float64).round(decimals=1)
            cases += [(f"the model's map for human maps {other}", human, known) for known in (None, share.round())]
    for name, human, known in cases:
        if human is None or human.shape[1:] == leaf.shape[1:] or not refuses_sizes(divergence):
            _check(divergence, leaf, human, known, weights, name)


def _check(
    divergence: Divergence, leaf: Tensor, human: Tensor | None, known: Tensor | None, weights: Tensor, name: str
) -> None:
    def loss() -> Tensor:
        total: Tensor = (divergence(leaf, human, known) * weights).sum()
        return total

    check_gradients(loss, {name: leaf})
    probe = torch.rand_like(leaf)
    try:
        (first,) = torch.autograd.grad(loss(), leaf, create_graph=True)
        size = float(first.detach().abs().max())
        if first.requires_grad:
            torch.autograd.grad((first * probe).sum(), leaf, allow_unused=True)
    except RuntimeError:  # it says that it has no second derivative
        return

    def slope() -> Tensor:
        (grad,) = torch.autograd.grad(loss(), leaf, create_graph=True)
        total: Tensor = (grad * probe).sum() + size * leaf.sum()
        return total

    check_gradients(slope, {f"the gradient of {name}": leaf}, tolerance=1e-3)
