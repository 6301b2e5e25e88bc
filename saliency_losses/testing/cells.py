"""Human maps of another size, and cells of which nothing is known."""

import torch
from torch import Tensor

from saliency_losses.divergences.base import Divergence
from saliency_losses.testing.probes import draw_human, other_sizes, refuses_sizes
from saliency_losses.testing.requirement import require

__all__ = ["check_sizes", "check_unknown"]


def check_sizes(divergence: Divergence, model: Tensor, size: tuple[int, ...]) -> None:
    """Check that human maps of another size are taken, unless the divergence asks for one size.

    Raises:
        AssertionError: They are refused, or taken where they should not be.
    """
    for other in other_sizes(size):
        human = draw_human(divergence, other)
        if human is None:
            return
        known = torch.ones_like(human)
        known[:, human.shape[1] // 2 :] = 0.0
        try:
            value = divergence(model, human, known)
            unread = divergence(model, torch.where(known > 0, human, float("nan")), known)
        except ValueError:
            require(refuses_sizes(divergence), f"must take human maps of {other} for model maps of {size}")
        else:
            refused = refuses_sizes(divergence)
            require(not refused, "must refuse human maps of another size under sizing='same'")
            require(bool(value.isfinite().all()), "must be finite for human maps of another size")
            require(torch.equal(unread, value), "unknown pixels of human maps of another size must take no part")


def check_unknown(divergence: Divergence, model: Tensor, human: Tensor) -> None:
    """Check that cells and maps of which nothing is known take no part, and may hold anything.

    Raises:
        AssertionError: They take part.
    """
    alone = all(part.reads != "nothing" for _, part in divergence.terms())
    same = torch.allclose(divergence(model, human, torch.ones_like(human)), divergence(model, human))
    require(same, "must give the same value where all cells are known")
    none = torch.ones_like(human)
    none[1] = 0.0
    leaf = model.clone().requires_grad_()
    value = divergence(leaf, torch.where(none > 0, human, float("nan")), none)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    require(bool(value.isfinite().all() and grad.isfinite().all()), "must be finite where a map has no known cell")
    if alone:
        require(not value[1].any(), "a map without a known cell must give zero")
        require(not grad[1].any(), "a map without a known cell must send no gradient")
    if divergence.scope == "sample":
        kept = torch.tensor([0, 2, 3, 4])
        require(torch.allclose(value[kept], divergence(model, human)[kept]), "maps must not depend on each other")
    half = torch.ones_like(human)
    half[:, half.shape[1] // 2 :] = 0.0
    value = divergence(model, human, half)
    unread = divergence(model, torch.where(half > 0, human, float("nan")), half)
    require(torch.equal(unread, value), "unknown cells of the human map must take no part")
    if not alone:
        return
    leaf = torch.where(half > 0, model, 9.0).requires_grad_()
    changed = divergence(leaf, human, half)
    (grad,) = torch.autograd.grad(changed.sum(), leaf)
    require(torch.allclose(changed, value), "unknown cells of the model's map must take no part")
    require(not grad[half == 0].any(), "unknown cells of the model's map must get no gradient")
    if not any(part.spatial for _, part in divergence.terms()):
        rows = half.shape[1] // 2
        cut = divergence(model[:, :rows].contiguous(), human[:, :rows].contiguous())
        require(torch.allclose(value, cut), "unknown cells must count as if they were not there")
