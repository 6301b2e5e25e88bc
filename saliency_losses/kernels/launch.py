"""Launching the kernels: shapes of programs, and the memory that they write."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from saliency_losses.kernels.plan import Part
from saliency_losses.kernels.rows import OF_PART, OF_ROW, long_rows_backward, long_rows_forward, short_rows
from saliency_losses.kernels.support import LONGEST_SHORT_ROW

__all__ = ["Launch", "backward", "backward_launch", "empty_forward", "forward", "forward_launch"]

_SHORT_PROGRAM = 512  # cells of several short rows that one program takes
_LONG_VISIT = 8192  # cells of a long row that one program takes in backward


class Launch(NamedTuple):
    """A kernel and all that it is launched with.

    Attributes:
        kernel: Compiled for the types of the arguments and for the options.
        grid: Programs.
        arguments: By position.
        options: The kernel's constants, its warps, and what Triton is told.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Tensor | int, ...]
    options: dict[str, Any]


def forward(model: Tensor, human: Tensor, weights: Tensor, plan: tuple[Part, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum for each row, (B,), the value of each part, (P, B), and what a backward pass of long rows needs.

    Args:
        model: (B, N), cells side by side.
        human: (B, N), cells side by side.
        weights: (P, B), float32, dense.
        plan: The parts.
    """
    written = empty_forward(model, weights, plan)
    _run(forward_launch(model, human, weights, *written, plan), model)
    return written


def empty_forward(model: Tensor, weights: Tensor, plan: tuple[Part, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`forward` fills; nothing is kept of short rows."""
    batch, count = model.shape
    kept = 0 if count <= LONGEST_SHORT_ROW else OF_ROW.value + len(plan) * OF_PART.value
    return weights.new_empty(batch), torch.empty_like(weights), weights.new_empty(kept, batch)


def backward(
    model: Tensor, human: Tensor, weights: Tensor, kept: Tensor, upstream: Tensor, plan: tuple[Part, ...]
) -> Tensor:
    """The gradient of the model's maps, (B, N), in their dtype.

    Args:
        model: See :func:`forward`.
        human: See :func:`forward`.
        weights: See :func:`forward`.
        kept: What forward left.
        upstream: The gradient of the weighted sum, (B,).
        plan: The parts.
    """
    gradient = torch.empty(model.shape, dtype=model.dtype, device=model.device)
    _run(backward_launch(model, human, weights, kept, upstream, gradient, plan), model)
    return gradient


def forward_launch(
    model: Tensor,
    human: Tensor,
    weights: Tensor,
    total: Tensor,
    values: Tensor,
    kept: Tensor,
    plan: tuple[Part, ...],
) -> Launch:
    """What :func:`forward` launches to fill ``total``, ``values`` and ``kept``."""
    batch, count = model.shape
    if count <= LONGEST_SHORT_ROW:
        return _short_launch((model, human, weights, total, values, total, total), 0, plan, gradient=False)
    arguments = model, human, weights, total, values, kept, batch, count, model.stride(0), human.stride(0)
    logs = any(part.kind == "kl" and part.moments for part in plan)
    return Launch(long_rows_forward, (batch,), arguments, _options(plan, 16, LOGS=logs, C=2048))


def backward_launch(
    model: Tensor,
    human: Tensor,
    weights: Tensor,
    kept: Tensor,
    upstream: Tensor,
    gradient: Tensor,
    plan: tuple[Part, ...],
) -> Launch:
    """What :func:`backward` launches to fill ``gradient``."""
    batch, count = model.shape
    if count <= LONGEST_SHORT_ROW:
        maps = model, human, weights, weights, weights, upstream, gradient
        return _short_launch(maps, upstream.stride(0), plan, gradient=True)
    strides = model.stride(0), human.stride(0), upstream.stride(0)
    arguments = model, human, weights, kept, upstream, gradient, batch, count, *strides
    grid = batch, triton.cdiv(count, _LONG_VISIT)
    return Launch(long_rows_backward, grid, arguments, _options(plan, 8, VISIT=_LONG_VISIT, C=1024))


def _short_launch(maps: tuple[Tensor, ...], upstream_stride: int, plan: tuple[Part, ...], *, gradient: bool) -> Launch:
    model, human, *_ = maps
    batch, count = model.shape
    cells = max(16, triton.next_power_of_2(count))
    rows = max(1, _SHORT_PROGRAM // cells)
    warps = max(4, min(16, rows * cells // 256))
    integers = batch, count, model.stride(0), human.stride(0), upstream_stride
    options = _options(plan, warps, GRADIENT=gradient, R=rows, C=cells)
    return Launch(short_rows, (triton.cdiv(batch, rows),), (*maps, *integers), options)


def _options(plan: tuple[Part, ...], warps: int, **constants: int) -> dict[str, Any]:
    return {"PARTS": tuple(map(tuple, plan)), **constants, "num_warps": warps, "enable_fp_fusion": True}


def _run(launch: Launch, maps: Tensor) -> None:
    """Launch on the device of the maps, which need not be the current one."""
    with torch.cuda.device(maps.device) if maps.is_cuda else nullcontext():
        launch.kernel[launch.grid](*launch.arguments, **launch.options)
