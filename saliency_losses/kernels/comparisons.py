"""Comparisons of normalised maps, each written once: what is summed over cells, its value, and its slope.

A comparison sums up to three terms over the cells, from which its value follows, and its derivative by a cell of the
model's map is ``a * first + b * second``: two factors per row, two terms per cell.
"""

import triton
import triton.language as tl

from saliency_losses.kernels.normalizers import (
    HUMAN,
    MINIMUM,
    MODEL,
    TEMPERATURE,
    chain,
    field,
    log_normalized,
    normalized,
    standard,
)
from saliency_losses.kernels.plan import Part
from saliency_losses.kernels.resize import load_cells, stages
from saliency_losses.kernels.statistics import TINY, anchor

__all__ = ["MOMENTS", "finish", "slope_of_cells", "sums_by_visit", "sums_from_moments", "sums_of_cells"]

NUMBER, MOMENTS = tl.constexpr(Part._fields.index("number")), tl.constexpr(Part._fields.index("moments"))


@triton.jit
def _clamped(x):
    return tl.where(x < 0.0, 0.0, tl.where(x > 1.0, 1.0, x))


@triton.jit
def _cells(x, h, x_statistics, h_statistics, x_state, h_state, PARTS: tl.constexpr, P: tl.constexpr):
    """What a comparison sees of raw cells (R, C).

    Returns:
        z of the model's side and its chain factor; three terms of the value; two of the slope.
    """
    KIND: tl.constexpr = field(PARTS, P, 0)
    LOGS: tl.constexpr = KIND == "kl" or KIND == "kl_model_human" or KIND == "js"
    z = standard(x, x_statistics, x_state)
    h = normalized(standard(h, h_statistics, h_state), h_state, PARTS, P, HUMAN)
    zero = tl.zeros(z.shape, tl.float32)
    if LOGS:
        m = log_normalized(z, x_state, PARTS, P)
        factor = chain(z, z, LOGS, PARTS, P)
    else:
        m = normalized(z, x_state, PARTS, P, MODEL)
        factor = chain(z, m, LOGS, PARTS, P)
    one, two, three, first, second = zero, zero, zero, zero, zero
    if KIND == "mse":
        first = m - h
        one = first * first
    if KIND == "mae":
        first = tl.where(m > h, 1.0, tl.where(m < h, -1.0, 0.0))
        one = tl.abs(m - h)
    if KIND == "correlation":
        first = h
        one = m * h
    if KIND == "cosine":
        first, second = h, m
        one, two, three = m * h, m * m, h * h
    if KIND == "energy":
        second = tl.where(m > 0.0, 1.0, 0.0)
        first = second * h
        two = tl.where(m < 0.0, 0.0, m)
        one = two * h
    if KIND == "right_reasons" or KIND == "never_here":
        forbidden = _clamped(h if KIND == "never_here" else 1.0 - h)
        first = forbidden * forbidden * m
        one = first * m
    if KIND == "dice" or KIND == "dice_unsquared" or KIND == "soft_iou":
        NORM: tl.constexpr = field(PARTS, P, MODEL)
        SHARE: tl.constexpr = NORM == "softmax" or (NORM == "sum" and field(PARTS, P, MODEL + MINIMUM) >= 0.0)
        IN_UNIT: tl.constexpr = SHARE or NORM == "minmax" or NORM == "max_abs_relu"
        h = _clamped(h)
        second = zero + 1.0
        if not IN_UNIT:
            second = tl.where((m >= 0.0) & (m <= 1.0), 1.0, 0.0)
            m = _clamped(m)
        if KIND == "soft_iou":
            first = second * tl.where(m < h, 1.0, tl.where(m > h, 0.0, 0.5))
            one, two, three = tl.minimum(m, h), m, h
        else:
            first = second * h
            one, two, three = m * h, m, h
            if KIND == "dice":
                second = second * m
                two, three = m * m, h * h
    if KIND == "kl":
        first = tl.where(h <= 0.0, 0.0, -h)
        one = h * (tl.log(tl.maximum(h, TINY)) - tl.where(h <= 0.0, 0.0, m))
    if KIND == "kl_model_human":
        share = tl.exp(m)
        one = share * (m - tl.log(h + field(PARTS, P, NUMBER)))
        first = one + share
    if KIND == "js":
        share = tl.exp(m)
        both = tl.log(tl.maximum(0.5 * (share + h), TINY))
        first = 0.5 * share * (m - both)
        one = first + 0.5 * h * (tl.log(tl.maximum(h, TINY)) - both)
    return z, factor, one, two, three, first, second


@triton.jit
def sums_of_cells(x, h, inside, x_statistics, h_statistics, x_state, h_state, PARTS: tl.constexpr, P: tl.constexpr):
    """The seven terms that are summed, (R, C) each.

    Three of the value; the two of the slope; and these two times z.
    """
    found = _cells(x, h, x_statistics, h_statistics, x_state, h_state, PARTS, P)
    z, factor, one, two, three, first, second = found
    first = tl.where(inside, first * factor, 0.0)
    second = tl.where(inside, second * factor, 0.0)
    one = tl.where(inside, one, 0.0)
    two = tl.where(inside, two, 0.0)
    three = tl.where(inside, three, 0.0)
    return one, two, three, first, second, first * z, second * z


@triton.jit
def sums_by_visit(
    x_row,
    h_row,
    count,
    x_statistics,
    h_statistics,
    x_state,
    h_state,
    PARTS: tl.constexpr,
    P: tl.constexpr,
    SIZES: tl.constexpr,
    C: tl.constexpr,
):
    """The sums over cells that are visited."""
    cells = tl.arange(0, C)[None, :]
    zero = tl.zeros((1, C), tl.float32)
    one, two, three, first, second, first_z, second_z = zero, zero, zero, zero, zero, zero, zero
    for start in tl.range(0, count, C, num_stages=stages(SIZES)):
        inside = start + cells < count
        x = load_cells(x_row, start + cells, inside, SIZES)
        h = tl.load(h_row + start + cells, inside, 0.0).to(tl.float32)
        terms = sums_of_cells(x, h, inside, x_statistics, h_statistics, x_state, h_state, PARTS, P)
        one += terms[0]
        two += terms[1]
        three += terms[2]
        first += terms[3]
        second += terms[4]
        first_z += terms[5]
        second_z += terms[6]
    sums = (tl.sum(one, 1), tl.sum(two, 1), tl.sum(three, 1))
    return sums + (tl.sum(first, 1), tl.sum(second, 1), tl.sum(first_z, 1), tl.sum(second_z, 1))


@triton.jit
def slope_of_cells(x, h, a, b, x_statistics, h_statistics, x_state, h_state, PARTS: tl.constexpr, P: tl.constexpr):
    """Z and the derivative of the value by it (by the logarithm of a softmax), statistics held, (R, C)."""
    found = _cells(x, h, x_statistics, h_statistics, x_state, h_state, PARTS, P)
    z, factor, _, _, _, first, second = found
    slope = a[:, None] * first
    KIND: tl.constexpr = field(PARTS, P, 0)
    if KIND == "cosine" or KIND == "energy" or KIND == "dice" or KIND == "dice_unsquared" or KIND == "soft_iou":
        slope += b[:, None] * second
    return z, slope * factor


@triton.jit
def sums_from_moments(
    x_statistics, h_statistics, common, logs, used, x_state, h_state, count, PARTS: tl.constexpr, P: tl.constexpr
):
    """What :func:`sums_of_cells` adds up to, without visiting the cells, and whether digits were lost.

    Args:
        x_statistics: The model's.
        h_statistics: The human map's.
        common: The sum of products about the means.
        logs: The sum of q log q, where q is the human map times ``used``, shifted to zero if it has negative values.
        used: See there.
        x_state: The model's normaliser's.
        h_state: The human map's.
        count: Of cells.
        PARTS: All divergences.
        P: Which.
    """
    KIND: tl.constexpr = field(PARTS, P, 0)
    zero = tl.zeros_like(common)
    span, h_span = x_state[1], h_state[1]
    z_mean = (anchor(x_statistics[2], x_statistics[3]) - x_state[0] + x_statistics[6]) / span + x_state[2]
    h_mean = (anchor(h_statistics[2], h_statistics[3]) - h_state[0] + h_statistics[6]) / h_span + h_state[2]
    zz = x_statistics[7] / span / span
    hh = h_statistics[7] / h_span / h_span
    zh = common / span / h_span
    lost = zero > 1.0
    one, two, three, first, second, first_z, second_z = zero, zero, zero, zero, zero, zero, zero
    if KIND == "mse":
        gap = z_mean - h_mean
        one = zz - 2.0 * zh + hh + count * gap * gap
        first = count * gap
        first_z = zz - zh + count * gap * z_mean
        lost = one < 0.0625 * (zz + hh + count * (z_mean * z_mean + h_mean * h_mean))
    if KIND == "correlation" or KIND == "cosine":
        one = zh + count * (z_mean * h_mean)
        first = count * h_mean
        first_z = one
    if KIND == "cosine":
        two = zz + count * z_mean * z_mean
        three = hh + count * h_mean * h_mean
        second = count * z_mean
        second_z = two
    if KIND == "kl":
        COOLING: tl.constexpr = 1.0 / field(PARTS, P, MODEL + TEMPERATURE)
        mean = zh + count * (z_mean * h_mean)
        total = h_span / h_statistics[0] * used
        # The logarithms of both distributions are taken over the uniform one's, so that they are small.
        gain = tl.where(h_span == float("inf"), 0.0, logs / total - tl.log(total / count))
        one = gain - mean * COOLING + x_state[4]
        first = zero - 1.0
        first_z = -mean
    return (one, two, three, first, second, first_z, second_z), lost


@triton.jit
def finish(sums, x_statistics, x_state, count, PARTS: tl.constexpr, P: tl.constexpr):
    """The value of a row; the two factors of its slope; the sums of the slope and of the slope times z."""
    KIND: tl.constexpr = field(PARTS, P, 0)
    one, two, three, first, second, first_z, second_z = sums
    zero = tl.where(one == one, 0.0, one)
    value, a, b = one, zero + 1.0, zero
    if KIND == "mse":
        value, a = one / count, a * (2.0 / count)
    if KIND == "mae":
        value, a = one / count, a / count
    if KIND == "correlation":
        value, a = 1.0 - one / count, -a / count
    if KIND == "cosine":
        norms = tl.sqrt_rn(two) * tl.sqrt_rn(three)
        empty = (two == 0.0) | (three == 0.0)
        norms = tl.where(empty, float("inf"), norms)
        value = 1.0 - one / norms
        a = -1.0 / norms
        b = one / (norms * tl.where(empty, 1.0, two))
    if KIND == "energy":
        if field(PARTS, P, MODEL) == "softmax" or field(PARTS, P, MODEL) == "softmax_raw":
            size = tl.exp(-x_state[3])
        else:
            low = (x_statistics[2] - x_state[0]) / x_state[1] + x_state[2]
            high = (x_statistics[3] - x_state[0]) / x_state[1] + x_state[2]
            size = tl.maximum(tl.abs(high), tl.abs(normalized(low, x_state, PARTS, P, MODEL)))
            size = tl.where(size < TINY, 1.0, size)
        total = tl.where(two <= field(PARTS, P, NUMBER) * size, float("inf"), two) + 0.0 * size
        value = 1.0 - one / total
        a = -1.0 / total
        b = one / total / total
    if KIND == "right_reasons" or KIND == "never_here":
        a = a * 2.0
    if KIND == "dice" or KIND == "dice_unsquared":
        EPS: tl.constexpr = 1e-12 if KIND == "dice" else 1e-6
        empty = two + three <= EPS
        whole = tl.where(empty, 1.0, two + three)
        value = tl.where(empty, 0.0, 1.0 - 2.0 * one / whole)
        a = tl.where(empty, 0.0, -2.0 / whole)
        b = tl.where(empty, 0.0, (4.0 if KIND == "dice" else 2.0) * one / whole / whole)
    if KIND == "soft_iou":
        empty = two + three - one <= 1e-6
        whole = tl.where(empty, 1.0, two + three - one)
        value = tl.where(empty, 0.0, 1.0 - one / whole)
        b = tl.where(empty, 0.0, one / whole / whole)
        a = tl.where(empty, 0.0, -1.0 / whole) - b
    return value, a, b, a * first + b * second, a * first_z + b * second_z
