"""What the forward pass of a long row leaves for the backward pass."""

import triton
import triton.language as tl

from saliency_losses.kernels.comparisons import finish

__all__ = ["OF_PART", "OF_ROW", "conclude", "load_all", "store_all"]

OF_ROW = tl.constexpr(16)  # both sides' statistics
OF_PART = tl.constexpr(16)  # and for each divergence: both normalisers' state, factors and sums of the slope


@triton.jit
def store_all(numbers, start_ptr, stride):
    """Store the numbers of one row, ``stride`` apart."""
    for index in tl.static_range(len(numbers)):
        tl.store(start_ptr + index * stride + tl.arange(0, 1), numbers[index])


@triton.jit
def load_all(start_ptr, stride, COUNT: tl.constexpr):
    """The numbers of one row, ``stride`` apart."""
    numbers = ()
    for index in tl.static_range(COUNT):
        numbers = numbers + (tl.load(start_ptr + index * stride + tl.arange(0, 1)),)
    return numbers


@triton.jit
def conclude(
    sums,
    x_statistics,
    x_state,
    h_state,
    count,
    weights_ptr,
    values_ptr,
    kept_ptr,
    stride,
    PARTS: tl.constexpr,
    P: tl.constexpr,
):
    """Store a divergence's value for a row and what backward needs; its share of the weighted sum."""
    value, a, b, slopes, slopes_z = finish(sums, x_statistics, x_state, count, PARTS, P)
    store_all(x_state + h_state + (a, b, slopes, slopes_z), kept_ptr + (OF_ROW + P * OF_PART) * stride, stride)
    tl.store(values_ptr + P * stride + tl.arange(0, 1), value)
    weight = tl.load(weights_ptr + P * stride + tl.arange(0, 1))
    return tl.where(weight != 0.0, weight * value, 0.0)
