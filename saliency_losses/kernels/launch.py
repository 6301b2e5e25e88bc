"""Launching the kernels: shapes of programs, and the memory that they write."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from saliency_losses.kernels.kept import OF_PART, OF_ROW
from saliency_losses.kernels.plan import Part, Plan
from saliency_losses.kernels.rows import enlarged_rows_backward, long_rows_backward, long_rows_forward, short_rows
from saliency_losses.kernels.split_rows import (
    OF_CHUNK,
    OF_CHUNK_AND_PART,
    chunk_masses,
    chunk_statistics,
    chunk_sums,
    split_rows_forward,
)
from saliency_losses.kernels.support import LONGEST_SHORT_ROW

__all__ = ["Launch", "backward", "backward_launch", "empty_forward", "forward", "forward_launches"]

_SHORT_PROGRAM = 256  # cells of several short rows that one program takes
_FEWEST_PROGRAMS = 512  # that keep a GPU busy: fewer long rows are split
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


def forward(model: Tensor, human: Tensor, weights: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum for each row, (B,), the value of each part, (P, B), and what a backward pass of long rows needs.

    Args:
        model: (B, n), cells side by side.
        human: (B, N), cells side by side; N = n unless the plan says that the model's maps are enlarged.
        weights: (P, B), float32, dense.
        plan: What is evaluated.
    """
    written = empty_forward(model, weights, plan)
    for launch in forward_launches(model, human, weights, *written, plan):
        _run(launch, model)
    return written


def empty_forward(model: Tensor, weights: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`forward` fills; nothing is kept of short rows."""
    batch = model.shape[0]  # len() would fix it while a compiler traces
    kept = 0 if _is_short(model, plan) else OF_ROW.value + len(plan.parts) * OF_PART.value
    return weights.new_empty(batch), torch.empty_like(weights), weights.new_empty(kept, batch)


def backward(model: Tensor, human: Tensor, weights: Tensor, kept: Tensor, upstream: Tensor, plan: Plan) -> Tensor:
    """The gradient of the model's maps, (B, n), in their dtype.

    Args:
        model: See :func:`forward`.
        human: See :func:`forward`.
        weights: See :func:`forward`.
        kept: What forward left.
        upstream: The gradient of the weighted sum, (B,).
        plan: What is evaluated.
    """
    gradient = torch.empty(model.shape, dtype=model.dtype, device=model.device)
    _run(backward_launch(model, human, weights, kept, upstream, gradient, plan), model)
    return gradient


def forward_launches(
    model: Tensor,
    human: Tensor,
    weights: Tensor,
    total: Tensor,
    values: Tensor,
    kept: Tensor,
    plan: Plan,
) -> list[Launch]:
    """What :func:`forward` launches, one after the other, to fill ``total``, ``values`` and ``kept``."""
    batch, count = human.shape
    if _is_short(model, plan):
        return [_short_launch((model, human, weights, total, values, total, total), 0, plan, gradient=False)]
    splits = min(_FEWEST_PROGRAMS // batch, triton.cdiv(count, LONGEST_SHORT_ROW))
    if splits > 1 and not plan.sizes:
        return _split_launches(model, human, weights, total, values, kept, plan, splits)
    logs = _needs_logs(plan)
    arguments = model, human, weights, total, values, kept, batch, count, model.stride(0), human.stride(0)
    warps = 16 if plan.sizes or (len(plan.parts) == 1 and _visits_again(plan.parts[0])) else 8
    options = _options(plan, warps, LOGS=logs, SIZES=plan.sizes, C=128 * warps)
    return [Launch(long_rows_forward, (batch,), arguments, options)]


def _split_launches(
    model: Tensor, human: Tensor, weights: Tensor, total: Tensor, values: Tensor, kept: Tensor, plan: Plan, splits: int
) -> list[Launch]:
    batch, count = human.shape
    chunk = triton.cdiv(triton.cdiv(count, splits), 1024) * 1024
    splits = triton.cdiv(count, chunk)
    chunks = weights.new_empty(OF_CHUNK.value + len(plan.parts) * OF_CHUNK_AND_PART.value, batch, splits)
    maps, grid = (model, human, chunks), (batch, splits)
    strides = model.stride(0), human.stride(0)
    wide, padded, logs = count % 16 == 0, triton.next_power_of_2(splits), _needs_logs(plan)
    cells = 1024 if wide else 512  # what is not aligned is loaded number by number, which takes more registers
    options = _options(plan, 8, WIDE=wide, S=padded, C=cells)
    first = {key: option for key, option in options.items() if key not in ("PARTS", "S")}
    launches = [Launch(chunk_statistics, grid, (*maps, batch, count, chunk, *strides), first | {"LOGS": logs})]
    if any("softmax" in norm for part in plan.parts for norm in (part.norm, part.human_norm)):
        launches.append(Launch(chunk_masses, grid, (*maps, batch, count, chunk, *strides), options))
    if not all(part.moments for part in plan.parts):
        launches.append(Launch(chunk_sums, grid, (*maps, batch, count, chunk, *strides), options))
    arguments = *maps, weights, total, values, kept, batch, count, chunk, splits, *strides
    launches.append(Launch(split_rows_forward, (batch,), arguments, _options(plan, 8, LOGS=logs, S=padded, C=cells)))
    return launches


def _needs_logs(plan: Plan) -> bool:
    return any(part.kind == "kl" and part.moments for part in plan.parts)


def backward_launch(
    model: Tensor,
    human: Tensor,
    weights: Tensor,
    kept: Tensor,
    upstream: Tensor,
    gradient: Tensor,
    plan: Plan,
) -> Launch:
    """What :func:`backward` launches to fill ``gradient``."""
    batch, count = human.shape
    if _is_short(model, plan):
        short = model, human, weights, weights, weights, upstream, gradient
        return _short_launch(short, upstream.stride(0), plan, gradient=True)
    strides = model.stride(0), human.stride(0), upstream.stride(0)
    maps = model, human, weights, kept, upstream, gradient
    if plan.sizes:
        height, _, _, breadth, _ = plan.sizes
        cells = triton.next_power_of_2(breadth)
        options = _options(plan, 4, SIZES=plan.sizes, LINES=max(1, 512 // cells), C=cells)
        return Launch(enlarged_rows_backward, (batch, height), (*maps, batch, *strides), options)
    arguments = *maps, batch, count, *strides
    grid = batch, triton.cdiv(count, _LONG_VISIT)
    return Launch(long_rows_backward, grid, arguments, _options(plan, 8, VISIT=_LONG_VISIT, C=1024))


def _short_launch(maps: tuple[Tensor, ...], upstream_stride: int, plan: Plan, *, gradient: bool) -> Launch:
    model, human, *_ = maps
    batch, count = model.shape
    cells = max(16, triton.next_power_of_2(count))
    rows = max(1, _SHORT_PROGRAM // cells)
    warps = max(4, min(16 if len(plan.parts) <= 2 else 8, rows * cells // 256))
    integers = batch, count, model.stride(0), human.stride(0), upstream_stride
    options = _options(plan, warps, GRADIENT=gradient, R=rows, C=cells)
    return Launch(short_rows, (triton.cdiv(batch, rows),), (*maps, *integers), options)


def _visits_again(part: Part) -> bool:
    """Whether a long row is read twice: one row to a multiprocessor then, so that all in flight stay in the cache.

    Else two, one of which loads while the other adds up.
    """
    return not part.moments or "softmax" in part.norm


def _is_short(model: Tensor, plan: Plan) -> bool:
    return not plan.sizes and model.shape[1] <= LONGEST_SHORT_ROW


def _options(plan: Plan, warps: int, **constants: Any) -> dict[str, Any]:
    """Cells that are interpolated must round alike in forward and backward, which fused operations need not."""
    parts = tuple(map(tuple, plan.parts))
    return {"PARTS": parts, **constants, "num_warps": warps, "enable_fp_fusion": not plan.sizes}


def _run(launch: Launch, maps: Tensor) -> None:
    """Launch on the device of the maps, which need not be the current one."""
    with torch.cuda.device(maps.device) if maps.is_cuda else nullcontext():
        launch.kernel[launch.grid](*launch.arguments, **launch.options)
