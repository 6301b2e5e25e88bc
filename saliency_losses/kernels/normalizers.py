"""Normalisers of rows: from statistics to a map of the cells, and back to the gradient of the raw map.

Every normaliser is an affine map of the scaled cells, ``z = (x - origin) / span + offset``, and for some a function
of it. A normaliser's state is a tuple of (R,) tensors: origin, span, offset, then for a softmax, whose z is zero at the
largest cell, the logarithms of the sum and of the mean of its exponentials, and the mean of z under the distribution.
"""

import torch
import triton
import triton.language as tl

from saliency_losses.kernels.plan import Part
from saliency_losses.kernels.resize import load_cells, stages
from saliency_losses.kernels.statistics import TINY, anchor

__all__ = [
    "HUMAN",
    "MINIMUM",
    "MODEL",
    "affine",
    "chain",
    "field",
    "log_normalized",
    "mass_by_visit",
    "normalized",
    "raw_gradient",
    "standard",
    "state_at_once",
    "with_mass",
]

MODEL = tl.constexpr(Part._fields.index("norm"))
HUMAN = tl.constexpr(Part._fields.index("human_norm"))
_EPS, _FLOOR, MINIMUM, TEMPERATURE, _LOG_FLOOR, _HELD = (tl.constexpr(number) for number in range(1, 7))

_LEAST = tl.constexpr(torch.finfo(torch.float32).min)


@triton.constexpr_function
def field(parts, part, index):
    """A field of the plan."""
    return parts[part][index]


@triton.jit
def affine(statistics, count, PARTS: tl.constexpr, P: tl.constexpr, SIDE: tl.constexpr):
    """Origin, span and offset of a row; a flat or empty one has span infinity."""
    scale, size, low, high, _, _, rise, squares = statistics
    mean = anchor(low, high) + rise
    zero = tl.zeros_like(scale)
    inf = zero + float("inf")
    number = mean == mean
    nothing = 0.0 * mean  # or NaN, which extremes do not show
    NORM: tl.constexpr = field(PARTS, P, SIDE)
    EPS: tl.constexpr = field(PARTS, P, SIDE + _EPS)
    floor = field(PARTS, P, SIDE + _FLOOR) * scale
    origin, span, offset = zero, zero + 1.0, zero
    if NORM == "none" or NORM == "softmax_raw":
        span = scale
    if NORM == "softmax_raw":
        origin = high
    if NORM == "minmax":
        origin = low
        span = tl.where((high - low <= EPS * size) & number, inf, high - low + floor) + nothing
    if NORM == "max_abs":
        largest = tl.maximum(tl.abs(low), tl.abs(high))
        span = tl.where((largest <= 1e-6) & number, inf, largest + floor) + nothing
    if NORM == "max_abs_relu":
        span = tl.where((high < scale * TINY) & number, inf, high + floor) + nothing
    if NORM == "l2":
        norm = tl.sqrt_rn(squares + count * mean * mean)
        span = tl.where(norm == 0.0, inf, norm + floor)
    if NORM == "zscore" or NORM == "zscore_relu" or NORM == "softmax":
        variance = squares / count
        origin = mean
        span = tl.where((variance <= (EPS * size) * (EPS * size)) & number, inf, tl.sqrt_rn(variance) + floor)
        if NORM == "softmax":
            origin = high
        else:  # the mean is rounded, which matters where a map is nearly flat
            offset = (mean - anchor(low, high) - rise) / span
    if NORM == "sum":
        shift = tl.maximum(tl.minimum(field(PARTS, P, SIDE + MINIMUM) * scale, 1e20 * size) - low, 0.0)
        empty = (high + shift <= EPS * size) & number
        total = count * (anchor(low, high) + shift + rise)
        origin = -shift
        span = tl.where(empty, inf, tl.where(total == 0.0, 1.0, total))
        offset = tl.where(empty, 1.0 / count, 0.0)
    return origin, span, offset


@triton.jit
def standard(x, statistics, state):
    """Z of cells (R, C)."""
    moved = x * statistics[0][:, None] - state[0][:, None]
    return tl.div_rn(moved, tl.broadcast_to(state[1][:, None], x.shape)) + state[2][:, None]


@triton.jit
def _shares(x, inside, statistics, state, PARTS: tl.constexpr, P: tl.constexpr, SIDE: tl.constexpr):
    """Exponentials of a softmax, one at the peak, and these times z."""
    COOLING: tl.constexpr = 1.0 / field(PARTS, P, SIDE + TEMPERATURE)
    z = standard(x, statistics, state)
    share = tl.where(inside, tl.exp(z * COOLING), 0.0)
    return share, share * z


@triton.jit
def mass_by_visit(
    row,
    statistics,
    state,
    count,
    PARTS: tl.constexpr,
    P: tl.constexpr,
    SIDE: tl.constexpr,
    SIZES: tl.constexpr,
    C: tl.constexpr,
):
    """The sums of the exponentials of a softmax, and of these times z, over cells that are visited; else zeros."""
    total = tl.zeros((1, C), tl.float32)
    weighted = tl.zeros((1, C), tl.float32)
    if field(PARTS, P, SIDE) == "softmax" or field(PARTS, P, SIDE) == "softmax_raw":
        cells = tl.arange(0, C)[None, :]
        for start in tl.range(0, count, C, num_stages=stages(SIZES)):
            inside = start + cells < count
            x = load_cells(row, start + cells, inside, SIZES)
            share, times_z = _shares(x, inside, statistics, state, PARTS, P, SIDE)
            total += share
            weighted += times_z
    return tl.sum(total, 1), tl.sum(weighted, 1)


@triton.jit
def with_mass(state, total, weighted, count, PARTS: tl.constexpr, P: tl.constexpr, SIDE: tl.constexpr):
    """A normaliser's state, from its affine part and the sums of a softmax."""
    log_total, log_mean, mean = tl.zeros_like(total), tl.zeros_like(total), tl.zeros_like(total)
    if field(PARTS, P, SIDE) == "softmax" or field(PARTS, P, SIDE) == "softmax_raw":
        log_total = tl.log(total)
        log_mean = tl.log(total / count)
        mean = weighted / total
    return state[0], state[1], state[2], log_total, log_mean, mean


@triton.jit
def state_at_once(x, inside, statistics, count, PARTS: tl.constexpr, P: tl.constexpr, SIDE: tl.constexpr):
    """A normaliser's state for rows that are on chip."""
    state = affine(statistics, count, PARTS, P, SIDE)
    total, weighted = tl.zeros_like(state[0]), tl.zeros_like(state[0])
    if field(PARTS, P, SIDE) == "softmax" or field(PARTS, P, SIDE) == "softmax_raw":
        share, times_z = _shares(x, inside, statistics, state, PARTS, P, SIDE)
        total = tl.sum(share, 1)
        weighted = tl.sum(times_z, 1)
    return with_mass(state, total, weighted, count, PARTS, P, SIDE)


@triton.jit
def normalized(z, state, PARTS: tl.constexpr, P: tl.constexpr, SIDE: tl.constexpr):
    """The normalised map."""
    NORM: tl.constexpr = field(PARTS, P, SIDE)
    if NORM == "softmax" or NORM == "softmax_raw":
        return tl.exp(z * (1.0 / field(PARTS, P, SIDE + TEMPERATURE)) - state[3][:, None])
    if NORM == "zscore_relu" or NORM == "max_abs_relu":
        return tl.where(z < 0.0, 0.0, z)
    return z


@triton.jit
def log_normalized(z, state, PARTS: tl.constexpr, P: tl.constexpr):
    """The logarithm of the model's map as a distribution."""
    if field(PARTS, P, MODEL) == "sum":
        return tl.log(z + tl.maximum(field(PARTS, P, MODEL + _LOG_FLOOR), TINY))
    logs = z * (1.0 / field(PARTS, P, MODEL + TEMPERATURE)) - state[3][:, None]
    return tl.where(logs < _LEAST, _LEAST, logs) if field(PARTS, P, MODEL) == "softmax_raw" else logs


@triton.jit
def chain(z, normal, LOGS: tl.constexpr, PARTS: tl.constexpr, P: tl.constexpr):
    """The derivative of what is compared by what the model's side is differentiated in.

    That is z, and for a softmax the logarithm of the distribution.
    """
    NORM: tl.constexpr = field(PARTS, P, MODEL)
    if NORM == "softmax" or NORM == "softmax_raw":
        if LOGS:
            return tl.full(z.shape, 1.0, tl.float32)
        return normal
    if NORM == "sum" and LOGS:
        return 1.0 / (z + tl.maximum(field(PARTS, P, MODEL + _LOG_FLOOR), TINY))
    if NORM == "zscore_relu" or NORM == "max_abs_relu":
        return tl.where(z > 0.0, 1.0, 0.0)
    return tl.full(z.shape, 1.0, tl.float32)


@triton.jit
def raw_gradient(slope, x, z, statistics, state, first, second, count, PARTS: tl.constexpr, P: tl.constexpr):
    """The gradient of the raw map (R, C).

    Args:
        slope: The derivative by z, or by the logarithm of a softmax, statistics held.
        x: The raw map.
        z: Its standard form.
        statistics: The model's.
        state: The normaliser's.
        first: The sum of ``slope`` over the row.
        second: The sum of ``slope * z``.
        count: Of cells.
        PARTS: All divergences.
        P: Which.
    """
    NORM: tl.constexpr = field(PARTS, P, MODEL)
    scale, _, low, high, lows, highs, rise, squares = statistics
    mean = anchor(low, high) + rise
    span = state[1]
    if NORM == "softmax" or NORM == "softmax_raw":
        COOLING: tl.constexpr = 1.0 / field(PARTS, P, MODEL + TEMPERATURE)
        share = normalized(z, state, PARTS, P, MODEL)
        slope = (slope - share * first[:, None]) * COOLING
        second = (second - first * state[5]) * COOLING
    result = slope
    if not field(PARTS, P, MODEL + _HELD):
        scaled = x * scale[:, None]
        if NORM == "softmax":
            bend = second / count
            result = slope - z * bend[:, None] - (bend * ((high - anchor(low, high) - rise) / span))[:, None]
        if NORM == "zscore" or NORM == "zscore_relu":
            deviation = tl.sqrt_rn(squares / count)
            bend = tl.where(deviation > 0.0, second / count * (span / deviation), 0.0)
            bend = tl.where(span == float("inf"), 0.0, bend)
            result = slope - (first / count)[:, None] - z * bend[:, None]
        if NORM == "l2":
            norm = tl.sqrt_rn(squares + count * mean * mean)
            bend = tl.where(norm > 0.0, second * (span / norm), 0.0)
            bend = tl.where(span == float("inf"), 0.0, bend)
            result = slope - z * bend[:, None]
        if NORM == "minmax":
            result = slope + tl.where(scaled == low[:, None], ((second - first) / lows)[:, None], 0.0)
            result -= tl.where(scaled == high[:, None], (second / highs)[:, None], 0.0)
        if NORM == "max_abs":
            largest = tl.maximum(high, -low)
            times = tl.where(high == largest, highs, 0.0) + tl.where(-low == largest, lows, 0.0)
            pull = (second / times)[:, None]
            result = slope - tl.where(scaled == largest[:, None], pull, 0.0)
            result += tl.where(scaled == -largest[:, None], pull, 0.0)
        if NORM == "max_abs_relu":
            result = slope - tl.where((scaled == high[:, None]) & (scaled > 0.0), (second / highs)[:, None], 0.0)
        if NORM == "sum":
            shifted = state[0] < 0.0
            pull = tl.where(shifted, (first - count * second) / lows, 0.0)
            result = slope - second[:, None] - tl.where(scaled == low[:, None], pull[:, None], 0.0)
    return result * tl.div_rn(scale, span)[:, None]
