"""Statistics of rows: what normalisers and comparisons need to know of a map before they visit its cells.

A side's statistics are a tuple of (R,) tensors: ``scale``, the power of two that brings the largest magnitude to
[1, 2), so that nothing overflows or vanishes when squared, and that is exact to multiply by; then, of the scaled map,
``size`` (the largest magnitude, 1 for an empty map), smallest and largest value, how often each occurs, how far
the mean is above the anchor, and the sum of squares about the mean. The anchor is zero, or the smallest value where all
are on one side of zero, so that the mean of a map of low contrast is not rounded to its level.
"""

import triton
import triton.language as tl

from saliency_losses.kernels.resize import load_cells, stages

__all__ = ["TINY", "anchor", "merged", "rows_at_once", "rows_by_visits"]

TINY = tl.constexpr(2.0**-126)


@triton.jit
def _unit(low, high):
    """The power of two that brings the larger magnitude to [1, 2), and what that is then; both 1 for an empty map."""
    size = tl.maximum(tl.abs(low), tl.abs(high))
    exponent = (size.to(tl.int32, bitcast=True) >> 23) & 255
    inverse = tl.minimum(tl.maximum(254 - exponent, 1), 254)
    empty = size < TINY
    scale = tl.where(empty, 1.0, (inverse << 23).to(tl.float32, bitcast=True))
    return scale, tl.where(empty, 1.0, size * scale)


@triton.jit
def anchor(low, high):
    """What means are told from: the smallest value where all are on one side of zero, else zero."""
    return tl.where((low > 0.0) | (high < 0.0), low, 0.0)


@triton.jit
def rows_at_once(x, inside, count):
    """The statistics of rows (R, C) that are on chip, zeros outside."""
    low = tl.min(tl.where(inside, x, float("inf")), 1)
    high = tl.max(tl.where(inside, x, float("-inf")), 1)
    scale, size = _unit(low, high)
    x = x * scale[:, None]
    low = low * scale
    high = high * scale
    lows = tl.sum((inside & (x == low[:, None])).to(tl.float32), 1)
    highs = tl.sum((inside & (x == high[:, None])).to(tl.float32), 1)
    moved = tl.where(inside, x - anchor(low, high)[:, None], 0.0)
    rise = tl.sum(moved, 1) / count
    centred = tl.where(inside, moved - rise[:, None], 0.0)
    return scale, size, low, high, lows, highs, rise, tl.sum(centred * centred, 1)


@triton.jit
def _visit(
    x_row,
    h_row,
    count,
    x_scale,
    x_origin,
    h_scale,
    h_origin,
    h_shift,
    LOGS: tl.constexpr,
    SIZES: tl.constexpr,
    C: tl.constexpr,
):
    """One visit of a row of both maps, each lane on its own until the end.

    Returns:
        Of the model's map as it is: smallest and largest value and how often each occurs; of the human map: smallest
        and largest value; of the scaled maps about their origins, x and h: the sums of x, x², h, h² and x h; with
        ``LOGS`` the sum of q log q, where q is the scaled human map plus ``h_shift``.
    """
    cells = tl.arange(0, C)[None, :]
    zero = tl.zeros((1, C), tl.float32)
    inf = zero + float("inf")
    x_low, x_high, h_low, h_high = inf, -inf, inf, -inf
    x_lows, x_highs, x_sum, h_sum, xx, hh, xh, logs = zero, zero, zero, zero, zero, zero, zero, zero
    for start in tl.range(0, count, C, num_stages=stages(SIZES)):
        inside = start + cells < count
        x = load_cells(x_row, start + cells, inside, SIZES)
        h = tl.load(h_row + start + cells, inside, 0.0).to(tl.float32)
        lower = inside & (x < x_low)
        higher = inside & (x > x_high)
        x_lows = tl.where(lower, 1.0, x_lows + (inside & (x == x_low)).to(tl.float32))
        x_highs = tl.where(higher, 1.0, x_highs + (inside & (x == x_high)).to(tl.float32))
        x_low = tl.where(lower, x, x_low)
        x_high = tl.where(higher, x, x_high)
        h_low = tl.minimum(h_low, tl.where(inside, h, float("inf")))
        h_high = tl.maximum(h_high, tl.where(inside, h, float("-inf")))
        x = tl.where(inside, x * x_scale[:, None] - x_origin[:, None], 0.0)
        if LOGS:
            mass = tl.where(inside, h * h_scale[:, None] + h_shift[:, None], 0.0)
            logs += mass * tl.log(tl.maximum(mass, TINY))
        h = tl.where(inside, h * h_scale[:, None] - h_origin[:, None], 0.0)
        x_sum += x
        h_sum += h
        xx += x * x
        hh += h * h
        xh += x * h
    low = tl.min(x_low, 1)
    high = tl.max(x_high, 1)
    lows = tl.sum(tl.where(x_low == low[:, None], x_lows, 0.0), 1)
    highs = tl.sum(tl.where(x_high == high[:, None], x_highs, 0.0), 1)
    sums = (tl.sum(x_sum, 1), tl.sum(xx, 1), tl.sum(h_sum, 1), tl.sum(hh, 1), tl.sum(xh, 1), tl.sum(logs, 1))
    return (low, high, lows, highs, tl.min(h_low, 1), tl.max(h_high, 1)) + sums


@triton.jit
def _doubtful(low, high, total, squares, count):
    """Whether sums of an unscaled map about a guessed mean may have lost digits."""
    size = tl.maximum(tl.abs(low), tl.abs(high))
    far = (size > 1e9) | ((size < 1e-9) & (size > 0.0))
    return far | (total * total > 0.9375 * squares * count)


@triton.jit
def _within(x, low, high):
    """``x`` within bounds, whatever it was."""
    return tl.minimum(tl.maximum(x, low), high)


@triton.jit
def rows_by_visits(x_row, h_row, count, LOGS: tl.constexpr, SIZES: tl.constexpr, C: tl.constexpr):
    """The statistics of both sides of a row too long for the chip, and what both have in common.

    One visit does for ordinary maps. A second one follows where a magnitude is extreme, where the mean of the first
    cells was a poor guess of the whole mean, or where a human map under the logarithm has negative values.

    Returns:
        The model's statistics; the human map's (how often extremes occur is not counted); the sum of x h about the
        means; the sum of q log q, where q is the human map times the number that follows, shifted to zero if it has
        negative values; that number.
    """
    cells = tl.arange(0, C)[None, :]
    first = cells < count
    x_origin = tl.sum(load_cells(x_row, cells, first, SIZES), 1) / tl.minimum(count, C)
    h_origin = tl.sum(tl.load(h_row + cells, first, 0.0).to(tl.float32), 1) / tl.minimum(count, C)
    one = tl.full((1,), 1.0, tl.float32)
    found = _visit(x_row, h_row, count, one, x_origin, one, h_origin, 0.0 * one, LOGS, SIZES, C)
    low, high, lows, highs, h_low, h_high, x_sum, xx, h_sum, hh, xh, logs = found
    doubtful = _doubtful(low, high, x_sum, xx, count) | _doubtful(h_low, h_high, h_sum, hh, count)
    if LOGS:
        doubtful = doubtful | (h_low < 0.0)
    scale, size = _unit(low, high)
    h_scale, h_size = _unit(h_low, h_high)
    used, h_used = one, one
    if tl.max(doubtful.to(tl.int32), 0) > 0:
        used, h_used = scale, h_scale
        x_origin = _within((x_origin + x_sum / count) * scale, low * scale, high * scale)
        h_origin = _within((h_origin + h_sum / count) * h_scale, h_low * h_scale, h_high * h_scale)
        shift = tl.maximum(-h_low * h_scale, 0.0)
        again = _visit(x_row, h_row, count, scale, x_origin, h_scale, h_origin, shift, LOGS, SIZES, C)
        _, _, _, _, _, _, x_sum, xx, h_sum, hh, xh, logs = again
    to_unit = scale / used
    h_to_unit = h_scale / h_used
    rise = (x_origin - anchor(low, high) * used + x_sum / count) * to_unit
    h_rise = (h_origin - anchor(h_low, h_high) * h_used + h_sum / count) * h_to_unit
    squares = tl.maximum(xx - x_sum * x_sum / count, 0.0) * to_unit * to_unit
    h_squares = tl.maximum(hh - h_sum * h_sum / count, 0.0) * h_to_unit * h_to_unit
    common = (xh - x_sum * h_sum / count) * to_unit * h_to_unit
    x_side = (scale, size, low * scale, high * scale, lows, highs, rise, squares)
    h_side = (h_scale, h_size, h_low * h_scale, h_high * h_scale, one, one, h_rise, h_squares)
    return x_side, h_side, common, logs, h_used


@triton.jit
def _merged_side(chunk_ptr, stride, there, cells, count):
    """The statistics of a row from those of its chunks; what scales these to it; by how much their means differ."""
    scales = tl.load(chunk_ptr, there, 1.0)
    lowest = tl.load(chunk_ptr + 2 * stride, there, float("inf")) / scales
    highest = tl.load(chunk_ptr + 3 * stride, there, float("-inf")) / scales
    low = tl.min(lowest, 1)
    high = tl.max(highest, 1)
    lows = tl.sum(tl.where(lowest == low[:, None], tl.load(chunk_ptr + 4 * stride, there, 0.0), 0.0), 1)
    highs = tl.sum(tl.where(highest == high[:, None], tl.load(chunk_ptr + 5 * stride, there, 0.0), 0.0), 1)
    scale, size = _unit(low, high)
    ratios = scale[:, None] / scales
    anchors = tl.where(there, anchor(lowest, highest) - anchor(low, high)[:, None], 0.0) * scale[:, None]
    rises = anchors + tl.load(chunk_ptr + 6 * stride, there, 0.0) * ratios
    rise = tl.sum(cells * rises, 1) / count
    gaps = rises - rise[:, None]
    squares = tl.load(chunk_ptr + 7 * stride, there, 0.0) * ratios * ratios + cells * gaps * gaps
    statistics = (scale, size, low * scale, high * scale, lows, highs, rise, tl.sum(squares, 1))
    return statistics, ratios, gaps


@triton.jit
def merged(chunk_ptr, stride, splits, count, chunk, LOGS: tl.constexpr, S: tl.constexpr):
    """What :func:`rows_by_visits` returns, from what it returned for the chunks of a row, ``stride`` apart.

    The sum of q log q holds for human maps without negative values.
    """
    each = tl.arange(0, S)[None, :]
    there = each < splits
    cells = tl.where(there, tl.minimum(count - each * chunk, chunk), 0).to(tl.float32)
    chunk_ptr += each
    x_side, x_ratios, x_gaps = _merged_side(chunk_ptr, stride, there, cells, count)
    h_side, h_ratios, h_gaps = _merged_side(chunk_ptr + 8 * stride, stride, there, cells, count)
    common = tl.load(chunk_ptr + 16 * stride, there, 0.0) * x_ratios * h_ratios + cells * x_gaps * h_gaps
    logs = tl.zeros((1,), tl.float32)
    if LOGS:
        scales = tl.load(chunk_ptr + 8 * stride, there, 1.0)
        used = tl.load(chunk_ptr + 18 * stride, there, 1.0)
        lowest = tl.load(chunk_ptr + 10 * stride, there, 0.0)
        means = anchor(lowest, tl.load(chunk_ptr + 11 * stride, there, 0.0)) + tl.load(
            chunk_ptr + 14 * stride, there, 0.0
        )
        totals = cells * means * (used / scales)
        factors = h_side[0][:, None] / used
        each_logs = tl.load(chunk_ptr + 17 * stride, there, 0.0) + tl.log(tl.maximum(factors, TINY)) * totals
        logs = tl.sum(factors * each_logs, 1)
    return x_side, h_side, tl.sum(common, 1), logs, h_side[0]
