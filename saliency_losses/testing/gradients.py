"""Gradients beside finite differences."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["check_gradients"]


def check_gradients(loss: Callable[[], Tensor], parameters: dict[str, Tensor], *, tolerance: float = 1e-5) -> None:
    """Check that the gradient of ``loss`` with respect to every tensor agrees with central finite differences.

    Each tensor is moved along two random directions, by two step sizes (a fourth-order difference).

    Args:
        loss: A deterministic function of the tensors, in float64.
        parameters: Leaves by name.
        tolerance: Relative to the larger of both derivatives; absolute below 1e-2 of the largest derivative of all.

    Raises:
        AssertionError: A derivative disagrees; the message names the tensor and both numbers.
    """
    names, tensors = list(parameters), list(parameters.values())
    grads = torch.autograd.grad(loss(), tensors, allow_unused=True)
    generator = torch.Generator().manual_seed(0)
    rows: list[tuple[str, float, float]] = []
    for name, tensor, grad in zip(names, tensors, grads, strict=True):
        for _ in range(2):
            direction = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            analytic = 0.0 if grad is None else float((grad * direction).sum())
            rows.append((name, analytic, _difference(loss, tensor, direction)))
    floor = 1e-2 * max((abs(numeric) for _, _, numeric in rows), default=0.0)
    if not floor:
        raise AssertionError("The loss depends on none of the tensors, so nothing was checked.")
    for name, analytic, numeric in rows:
        if abs(analytic - numeric) > tolerance * max(abs(analytic), abs(numeric), floor):
            raise AssertionError(f"The gradient of {name} is {analytic:.10g}, finite differences give {numeric:.10g}.")


@torch.no_grad()
def _difference(loss: Callable[[], Tensor], tensor: Tensor, direction: Tensor, step: float = 1e-7) -> float:
    start = tensor.clone()

    def at(distance: float) -> float:
        tensor.copy_(start + distance * direction)
        with torch.enable_grad():
            return float(loss().detach())

    try:
        near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
    finally:
        tensor.copy_(start)
    return (8.0 * near - far) / (12.0 * step)
