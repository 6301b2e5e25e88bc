"""Launching the kernels: shapes of programs, and the memory that they write."""

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
from torch import Tensor

from saliency_losses.kernels.plan import Part
from saliency_losses.kernels.rows import OF_PART, OF_ROW, long_rows_backward, long_rows_forward, short_rows
from saliency_losses.kernels.support import LONGEST_SHORT_ROW

__all__ = ["backward", "empty_forward", "forward"]

_SHORT_PROGRAM = 512  # cells of several short rows that one program takes
_LONG_VISIT = 8192  # cells of a long row that one program takes in backward
_FUSION = {"enable_fp_fusion": True}


def forward(model: Tensor, human: Tensor, weights: Tensor, plan: tuple[Part, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum for each row, (B,), the value of each part, (P, B), and what a backward pass of long rows needs.

    Args:
        model: (B, N), cells side by side.
        human: (B, N), cells side by side.
        weights: (P, B), float32, dense.
        plan: The parts.
    """
    batch, count = model.shape
    total, values, kept = empty_forward(model, weights, plan)
    parts = tuple(map(tuple, plan))
    strides = model.stride(0), human.stride(0)
    with _device_of(model):
        if count <= LONGEST_SHORT_ROW:
            rows, cells, warps = _short(count)
            short_rows[(triton.cdiv(batch, rows),)](
                model, human, weights, total, values, total, total, batch, count, *strides, 0,
                PARTS=parts, GRADIENT=False, R=rows, C=cells, num_warps=warps, **_FUSION,
            )  # fmt: skip
        else:
            logs = any(part.kind == "kl" and part.moments for part in plan)
            long_rows_forward[(batch,)](
                model, human, weights, total, values, kept, batch, count, *strides,
                PARTS=parts, LOGS=logs, C=2048, num_warps=16, **_FUSION,
            )  # fmt: skip
    return total, values, kept


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
    batch, count = model.shape
    gradient = torch.empty((batch, count), dtype=model.dtype, device=model.device)
    parts = tuple(map(tuple, plan))
    strides = model.stride(0), human.stride(0), upstream.stride(0)
    with _device_of(model):
        if count <= LONGEST_SHORT_ROW:
            rows, cells, warps = _short(count)
            short_rows[(triton.cdiv(batch, rows),)](
                model, human, weights, weights, weights, upstream, gradient, batch, count, *strides,
                PARTS=parts, GRADIENT=True, R=rows, C=cells, num_warps=warps, **_FUSION,
            )  # fmt: skip
        else:
            long_rows_backward[(batch, triton.cdiv(count, _LONG_VISIT))](
                model, human, weights, kept, upstream, gradient, batch, count, *strides,
                PARTS=parts, VISIT=_LONG_VISIT, C=1024, num_warps=8, **_FUSION,
            )  # fmt: skip
    return gradient


def _device_of(maps: Tensor) -> AbstractContextManager[object]:
    """Kernels are launched on the current device, which need not be that of the maps."""
    return torch.cuda.device(maps.device) if maps.is_cuda else nullcontext()


def _short(count: int) -> tuple[int, int, int]:
    """Rows and cells of a program, and its warps."""
    cells = max(16, triton.next_power_of_2(count))
    rows = max(1, _SHORT_PROGRAM // cells)
    return rows, cells, max(4, min(16, rows * cells // 256))
