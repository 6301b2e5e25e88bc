"""The kernels: forward and backward of a weighted sum of divergences, for short rows and for long ones.

Short rows are on chip whole, several to a program, and backward starts anew from the maps. A long row has a program of
its own, which visits it once or twice (the second time from the cache) and leaves its statistics for a backward pass
that visits it once, in several programs.
"""

import triton
import triton.language as tl

from saliency_losses.kernels.comparisons import (
    MOMENTS,
    finish,
    slope_of_cells,
    sums_by_visit,
    sums_from_moments,
    sums_of_cells,
)
from saliency_losses.kernels.kept import OF_PART, OF_ROW, conclude, load_all, store_all
from saliency_losses.kernels.normalizers import (
    HUMAN,
    MODEL,
    affine,
    field,
    mass_by_visit,
    raw_gradient,
    state_at_once,
    with_mass,
)
from saliency_losses.kernels.resize import lines_of, load_lines, share_of, size
from saliency_losses.kernels.statistics import rows_at_once, rows_by_visits

__all__ = ["enlarged_rows_backward", "long_rows_backward", "long_rows_forward", "short_rows"]


@triton.jit(do_not_specialize=["batch"])
def short_rows(
    x_ptr,  # (B, N), rows x_stride apart
    h_ptr,  # (B, N), rows h_stride apart
    weights_ptr,  # (P, B)
    total_ptr,  # (B,), written unless GRADIENT
    values_ptr,  # (P, B), written unless GRADIENT
    upstream_ptr,  # (B,), upstream_stride apart, read if GRADIENT
    gradient_ptr,  # (B, N) dense, written if GRADIENT
    batch,
    count,
    x_stride,
    h_stride,
    upstream_stride,
    PARTS: tl.constexpr,
    GRADIENT: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    """Forward or backward of rows of at most C cells, R to a program."""
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    cells = tl.arange(0, C)[None, :]
    there = rows < batch
    inside = there[:, None] & (cells < count)
    x = tl.load(x_ptr + rows[:, None] * x_stride + cells, inside, 0.0).to(tl.float32)
    h = tl.load(h_ptr + rows[:, None] * h_stride + cells, inside, 0.0).to(tl.float32)
    x_statistics = rows_at_once(x, inside, count)
    h_statistics = rows_at_once(h, inside, count)
    total = tl.zeros((R,), tl.float32)
    gradient = tl.zeros((R, C), tl.float32)
    for part in tl.static_range(len(PARTS)):
        x_state = state_at_once(x, inside, x_statistics, count, PARTS, part, MODEL)
        h_state = state_at_once(h, inside, h_statistics, count, PARTS, part, HUMAN)
        terms = sums_of_cells(x, h, inside, x_statistics, h_statistics, x_state, h_state, PARTS, part)
        one, two, three, first, second, first_z, second_z = terms
        sums = (tl.sum(one, 1), tl.sum(two, 1), tl.sum(three, 1))
        sums += (tl.sum(first, 1), tl.sum(second, 1), tl.sum(first_z, 1), tl.sum(second_z, 1))
        value, a, b, _, _ = finish(sums, x_statistics, x_state, count, PARTS, part)
        weight = tl.load(weights_ptr + part * batch.to(tl.int64) + rows, there, 0.0)
        if GRADIENT:
            z, slope = slope_of_cells(x, h, a, b, x_statistics, h_statistics, x_state, h_state, PARTS, part)
            slope = tl.where(inside, slope, 0.0)
            slopes, slopes_z = tl.sum(slope, 1), tl.sum(slope * z, 1)  # no digits cancel, as in sums of the two terms
            own = raw_gradient(slope, x, z, x_statistics, x_state, slopes, slopes_z, count, PARTS, part)
            gradient += tl.where(weight[:, None] != 0.0, weight[:, None] * own, 0.0)
        else:
            tl.store(values_ptr + part * batch.to(tl.int64) + rows, value, there)
            total += tl.where(weight != 0.0, weight * value, 0.0)
    if GRADIENT:
        gradient *= tl.load(upstream_ptr + rows * upstream_stride, there, 0.0)[:, None]
        tl.store(gradient_ptr + rows[:, None] * count + cells, gradient, inside)
    else:
        tl.store(total_ptr + rows, total, there)


@triton.jit(do_not_specialize=["batch"])
def long_rows_forward(
    x_ptr,  # (B, N), rows x_stride apart
    h_ptr,  # (B, N), rows h_stride apart
    weights_ptr,  # (P, B)
    total_ptr,  # (B,), written
    values_ptr,  # (P, B), written
    kept_ptr,  # (OF_ROW + P * OF_PART, B), written
    batch,
    count,
    x_stride,
    h_stride,
    PARTS: tl.constexpr,
    LOGS: tl.constexpr,
    SIZES: tl.constexpr,
    C: tl.constexpr,
):
    """Forward of rows of any length, one to a program."""
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_stride
    h_row = h_ptr + row * h_stride
    stride = batch.to(tl.int64)
    x_statistics, h_statistics, common, logs, used = rows_by_visits(x_row, h_row, count, LOGS, SIZES, C)
    store_all(x_statistics + h_statistics, kept_ptr + row, stride)
    total = tl.zeros((1,), tl.float32)
    for part in tl.static_range(len(PARTS)):
        x_state = affine(x_statistics, count, PARTS, part, MODEL)
        mass, weighted = mass_by_visit(x_row, x_statistics, x_state, count, PARTS, part, MODEL, SIZES, C)
        x_state = with_mass(x_state, mass, weighted, count, PARTS, part, MODEL)
        h_state = affine(h_statistics, count, PARTS, part, HUMAN)
        mass, weighted = mass_by_visit(h_row, h_statistics, h_state, count, PARTS, part, HUMAN, (), C)
        h_state = with_mass(h_state, mass, weighted, count, PARTS, part, HUMAN)
        if field(PARTS, part, MOMENTS):
            sums, lost = sums_from_moments(
                x_statistics, h_statistics, common, logs, used, x_state, h_state, count, PARTS, part
            )
            if field(PARTS, part, 0) == "mse":
                if tl.max(lost.to(tl.int32), 0) > 0:
                    sums = sums_by_visit(
                        x_row, h_row, count, x_statistics, h_statistics, x_state, h_state, PARTS, part, SIZES, C
                    )
        else:
            sums = sums_by_visit(
                x_row, h_row, count, x_statistics, h_statistics, x_state, h_state, PARTS, part, SIZES, C
            )
        total += conclude(
            sums,
            x_statistics,
            x_state,
            h_state,
            count,
            weights_ptr + row,
            values_ptr + row,
            kept_ptr + row,
            stride,
            PARTS,
            part,
        )
    tl.store(total_ptr + row + tl.arange(0, 1), total)


@triton.jit
def _gradient(x, h, kept, weights, count, PARTS: tl.constexpr):
    """The gradient of the weighted sum by the cells (R, C) of one row."""
    x_statistics, h_statistics = kept[:8], kept[8:OF_ROW]
    gradient = tl.zeros(x.shape, tl.float32)
    for part in tl.static_range(len(PARTS)):
        own = kept[OF_ROW + part * OF_PART : OF_ROW + (part + 1) * OF_PART]
        x_state, h_state = own[:6], own[6:12]
        z, slope = slope_of_cells(x, h, own[12], own[13], x_statistics, h_statistics, x_state, h_state, PARTS, part)
        slope = raw_gradient(slope, x, z, x_statistics, x_state, own[14], own[15], count, PARTS, part)
        weight = weights[part][:, None]
        gradient += tl.where(weight != 0.0, weight * slope, 0.0)
    return gradient


@triton.jit(do_not_specialize=["batch"])
def long_rows_backward(
    x_ptr,  # (B, N), rows x_stride apart
    h_ptr,  # (B, N), rows h_stride apart
    weights_ptr,  # (P, B)
    kept_ptr,  # (OF_ROW + P * OF_PART, B)
    upstream_ptr,  # (B,), upstream_stride apart
    gradient_ptr,  # (B, N) dense, written
    batch,
    count,
    x_stride,
    h_stride,
    upstream_stride,
    PARTS: tl.constexpr,
    VISIT: tl.constexpr,  # cells per program
    C: tl.constexpr,
):
    """Backward of rows of any length, each in several programs."""
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_stride
    h_row = h_ptr + row * h_stride
    stride = batch.to(tl.int64)
    cells = tl.arange(0, C)[None, :]
    kept = load_all(kept_ptr + row, stride, OF_ROW + len(PARTS) * OF_PART)
    weights = load_all(weights_ptr + row, stride, len(PARTS))
    upstream = tl.load(upstream_ptr + row * upstream_stride + tl.arange(0, 1))
    begin = tl.program_id(1) * VISIT
    for start in tl.range(begin, tl.minimum(begin + VISIT, count), C, num_stages=3):
        inside = start + cells < count
        x = tl.load(x_row + start + cells, inside, 0.0).to(tl.float32)
        h = tl.load(h_row + start + cells, inside, 0.0).to(tl.float32)
        gradient = upstream[:, None] * _gradient(x, h, kept, weights, count, PARTS)
        tl.store(gradient_ptr + row * count + start + cells, gradient, inside)


@triton.jit(do_not_specialize=["batch"])
def enlarged_rows_backward(
    x_ptr,  # (B, height * width), rows x_stride apart
    h_ptr,  # (B, HEIGHT * WIDTH), rows h_stride apart
    weights_ptr,  # (P, B)
    kept_ptr,  # (OF_ROW + P * OF_PART, B)
    upstream_ptr,  # (B,), upstream_stride apart
    gradient_ptr,  # (B, height * width) dense, written
    batch,
    x_stride,
    h_stride,
    upstream_stride,
    PARTS: tl.constexpr,
    SIZES: tl.constexpr,
    LINES: tl.constexpr,
    C: tl.constexpr,
):
    """Backward where the model's map is enlarged on the fly: one line of its gradient to a program."""
    HEIGHT: tl.constexpr = size(SIZES, 0)
    WIDTH: tl.constexpr = size(SIZES, 1)
    TALL: tl.constexpr = size(SIZES, 2)
    BROAD: tl.constexpr = size(SIZES, 3)
    row = tl.program_id(0).to(tl.int64)
    line = tl.program_id(1)
    x_row = x_ptr + row * x_stride
    h_row = h_ptr + row * h_stride
    stride = batch.to(tl.int64)
    columns = tl.arange(0, C)[None, :]
    upstream = tl.load(upstream_ptr + row * upstream_stride + tl.arange(0, 1))
    kept = load_all(kept_ptr + row, stride, OF_ROW + len(PARTS) * OF_PART)
    weights = load_all(weights_ptr + row, stride, len(PARTS))
    band = tl.zeros((LINES, C), tl.float32)
    begin, end = lines_of(line, HEIGHT, TALL, size(SIZES, 4))
    for start in range(begin, end, LINES):
        lines = start + tl.arange(0, LINES)[:, None]
        inside = (lines < end) & (columns < BROAD)
        x = load_lines(x_row, lines, columns, inside, SIZES)
        h = tl.load(h_row + lines * BROAD + columns, inside, 0.0).to(tl.float32)
        gradient = _gradient(x, h, kept, weights, TALL * BROAD, PARTS)
        share = share_of(line, lines, HEIGHT, TALL, size(SIZES, 4))
        band += tl.where(inside, gradient * share, 0.0)
    band = tl.sum(band, 0)[None, :] * upstream[:, None]
    target = gradient_ptr + row * (HEIGHT * WIDTH) + line * WIDTH
    for column in range(WIDTH):
        share = share_of(column, columns, WIDTH, BROAD, size(SIZES, 4))
        tl.store(target + column + tl.arange(0, 1), tl.sum(band * share, 1))
