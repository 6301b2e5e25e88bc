"""Divergences under the transforms of ``torch.func``."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from saliency_losses.divergences.base import Divergence
from saliency_losses.testing.requirement import require

__all__ = ["check_transforms"]


def check_transforms(divergence: Divergence, model: Tensor, human: Tensor | None) -> None:
    """Check that ``grad``, ``jvp`` and ``vmap`` of ``torch.func`` give what autograd gives, or raise.

    Raises:
        AssertionError: One gives something else; the message names it.
    """
    leaf = model.clone().requires_grad_()
    value = divergence(leaf, human)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    value, direction = value.detach(), torch.randn_like(model)

    def total(maps: Tensor) -> Tensor:
        result: Tensor = divergence(maps, human).sum()
        return result

    def one(maps: Tensor, target: Tensor | None) -> Tensor:
        result: Tensor = divergence(maps.unsqueeze(0), None if target is None else target.unsqueeze(0))[0]
        return result

    def forward_mode() -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own, when forward mode is first used
            tangent: Tensor = torch.func.jvp(total, (model,), (direction,))[1]
        return tangent

    def vectorised() -> Tensor:
        result: Tensor = torch.func.vmap(one, in_dims=(0, None if human is None else 0))(model, human)
        return result

    cases: list[tuple[str, Callable[[], Tensor], Tensor]] = [
        ("torch.func.grad", lambda: torch.func.grad(total)(model), grad),
        ("torch.func.jvp", forward_mode, (grad * direction).sum()),
    ]
    if divergence.scope == "sample":
        cases.append(("torch.func.vmap", vectorised, value))
    for name, compute, expected in cases:
        try:
            result = compute()
        except (RuntimeError, ValueError, TypeError):  # it says that it does not go
            continue
        require(torch.allclose(result, expected, rtol=1e-6, atol=1e-9), f"must be right or raise under {name}")
