"""Forward of few long rows, each of several programs, in stages that follow each other.

Every program of the first stage leaves the statistics of one chunk of a row, as if that were a row. Each of the
following merges those of its row, and leaves what its own chunk adds up to: the sums of a softmax, then those of the
comparison. Stages that a plan does not need are left out. The last stage has one program per row. All numbers of a
chunk lie (B, S) apart, S being the chunks of a row.
"""

import triton
import triton.language as tl

from saliency_losses.kernels.comparisons import MOMENTS, sums_by_visit, sums_from_moments
from saliency_losses.kernels.kept import conclude, store_all
from saliency_losses.kernels.normalizers import HUMAN, MODEL, affine, field, mass_by_visit, with_mass
from saliency_losses.kernels.statistics import merged, rows_by_visits

__all__ = ["OF_CHUNK", "OF_CHUNK_AND_PART", "chunk_masses", "chunk_statistics", "chunk_sums", "split_rows_forward"]

OF_CHUNK = tl.constexpr(19)  # both sides' statistics, and what they have in common
OF_CHUNK_AND_PART = tl.constexpr(11)  # two sums for each side's softmax, seven of the comparison


@triton.jit
def _own_chunk(count, chunk, WIDE: tl.constexpr):
    """Where this program's chunk begins and how many cells it has; with WIDE a multiple of 16."""
    begin = tl.program_id(1) * chunk
    own = tl.minimum(count - begin, chunk)
    if WIDE:
        own = tl.multiple_of(own, 16)
    return begin, own


@triton.jit
def _states(
    chunk_ptr, stride, splits, x_statistics, h_statistics, count, PARTS: tl.constexpr, P: tl.constexpr, S: tl.constexpr
):
    """Both normalisers' states, from the sums of all chunks."""
    each = tl.arange(0, S)[None, :]
    there = each < splits
    chunk_ptr += (OF_CHUNK + P * OF_CHUNK_AND_PART) * stride + each
    sums = ()
    for index in tl.static_range(4):
        sums = sums + (tl.sum(tl.load(chunk_ptr + index * stride, there, 0.0), 1),)
    x_state = affine(x_statistics, count, PARTS, P, MODEL)
    h_state = affine(h_statistics, count, PARTS, P, HUMAN)
    x_state = with_mass(x_state, sums[0], sums[1], count, PARTS, P, MODEL)
    return x_state, with_mass(h_state, sums[2], sums[3], count, PARTS, P, HUMAN)


@triton.jit(do_not_specialize=["batch"])
def chunk_statistics(
    x_ptr,  # (B, N), rows x_stride apart
    h_ptr,  # (B, N), rows h_stride apart
    chunks_ptr,  # (OF_CHUNK + P * OF_CHUNK_AND_PART, B, S), written
    batch,
    count,
    chunk,
    x_stride,
    h_stride,
    LOGS: tl.constexpr,
    WIDE: tl.constexpr,
    C: tl.constexpr,
):
    """First stage: the statistics of chunks."""
    row = tl.program_id(0).to(tl.int64)
    begin, own = _own_chunk(count, chunk, WIDE)
    x_row = x_ptr + row * x_stride + begin
    h_row = h_ptr + row * h_stride + begin
    stride = batch.to(tl.int64) * tl.num_programs(1)
    x_statistics, h_statistics, common, logs, used = rows_by_visits(x_row, h_row, own, LOGS, (), C)
    numbers = x_statistics + h_statistics + (common, logs, used)
    store_all(numbers, chunks_ptr + row * tl.num_programs(1) + tl.program_id(1), stride)


@triton.jit(do_not_specialize=["batch"])
def chunk_masses(
    x_ptr,  # (B, N), rows x_stride apart
    h_ptr,  # (B, N), rows h_stride apart
    chunks_ptr,  # (OF_CHUNK + P * OF_CHUNK_AND_PART, B, S), read and written
    batch,
    count,
    chunk,
    x_stride,
    h_stride,
    PARTS: tl.constexpr,
    WIDE: tl.constexpr,
    S: tl.constexpr,
    C: tl.constexpr,
):
    """Second stage, where there is a softmax: its sums over chunks."""
    row = tl.program_id(0).to(tl.int64)
    begin, own = _own_chunk(count, chunk, WIDE)
    splits = tl.num_programs(1)
    stride = batch.to(tl.int64) * splits
    chunks_ptr += row * splits
    x_statistics, h_statistics, _, _, _ = merged(chunks_ptr, stride, splits, count, chunk, False, S)
    for part in tl.static_range(len(PARTS)):
        x_state = affine(x_statistics, count, PARTS, part, MODEL)
        h_state = affine(h_statistics, count, PARTS, part, HUMAN)
        x_row = x_ptr + row * x_stride + begin
        h_row = h_ptr + row * h_stride + begin
        masses = mass_by_visit(x_row, x_statistics, x_state, own, PARTS, part, MODEL, (), C)
        masses += mass_by_visit(h_row, h_statistics, h_state, own, PARTS, part, HUMAN, (), C)
        own_ptr = chunks_ptr + (OF_CHUNK + part * OF_CHUNK_AND_PART) * stride
        store_all(masses, own_ptr + tl.program_id(1), stride)


@triton.jit(do_not_specialize=["batch"])
def chunk_sums(
    x_ptr,  # (B, N), rows x_stride apart
    h_ptr,  # (B, N), rows h_stride apart
    chunks_ptr,  # (OF_CHUNK + P * OF_CHUNK_AND_PART, B, S), read and written
    batch,
    count,
    chunk,
    x_stride,
    h_stride,
    PARTS: tl.constexpr,
    WIDE: tl.constexpr,
    S: tl.constexpr,
    C: tl.constexpr,
):
    """Third stage, where moments do not do: the sums of the comparison over chunks."""
    row = tl.program_id(0).to(tl.int64)
    begin, own = _own_chunk(count, chunk, WIDE)
    splits = tl.num_programs(1)
    stride = batch.to(tl.int64) * splits
    chunks_ptr += row * splits
    x_statistics, h_statistics, _, _, _ = merged(chunks_ptr, stride, splits, count, chunk, False, S)
    for part in tl.static_range(len(PARTS)):
        if not field(PARTS, part, MOMENTS):
            x_state, h_state = _states(chunks_ptr, stride, splits, x_statistics, h_statistics, count, PARTS, part, S)
            x_row = x_ptr + row * x_stride + begin
            h_row = h_ptr + row * h_stride + begin
            sums = sums_by_visit(x_row, h_row, own, x_statistics, h_statistics, x_state, h_state, PARTS, part, (), C)
            own_ptr = chunks_ptr + (OF_CHUNK + part * OF_CHUNK_AND_PART + 4) * stride
            store_all(sums, own_ptr + tl.program_id(1), stride)


@triton.jit(do_not_specialize=["batch"])
def split_rows_forward(
    x_ptr,  # (B, N), rows x_stride apart
    h_ptr,  # (B, N), rows h_stride apart
    chunks_ptr,  # (OF_CHUNK + P * OF_CHUNK_AND_PART, B, S)
    weights_ptr,  # (P, B)
    total_ptr,  # (B,), written
    values_ptr,  # (P, B), written
    kept_ptr,  # (OF_ROW + P * OF_PART, B), written
    batch,
    count,
    chunk,
    splits,
    x_stride,
    h_stride,
    PARTS: tl.constexpr,
    LOGS: tl.constexpr,
    S: tl.constexpr,
    C: tl.constexpr,
):
    """Last stage: values, and what backward needs. A row whose moments lost digits is visited by one program."""
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_stride
    h_row = h_ptr + row * h_stride
    rows = batch.to(tl.int64)
    stride = rows * splits
    chunks_ptr += row * splits
    x_statistics, h_statistics, common, logs, used = merged(chunks_ptr, stride, splits, count, chunk, LOGS, S)
    store_all(x_statistics + h_statistics, kept_ptr + row, rows)
    total = tl.zeros((1,), tl.float32)
    each = tl.arange(0, S)[None, :]
    for part in tl.static_range(len(PARTS)):
        x_state, h_state = _states(chunks_ptr, stride, splits, x_statistics, h_statistics, count, PARTS, part, S)
        if field(PARTS, part, MOMENTS):
            sums, lost = sums_from_moments(
                x_statistics, h_statistics, common, logs, used, x_state, h_state, count, PARTS, part
            )
            if field(PARTS, part, 0) == "kl":
                lost = h_statistics[2] < 0.0
            if field(PARTS, part, 0) == "mse" or field(PARTS, part, 0) == "kl":
                if tl.max(lost.to(tl.int32), 0) > 0:
                    sums = sums_by_visit(
                        x_row, h_row, count, x_statistics, h_statistics, x_state, h_state, PARTS, part, (), C
                    )
        else:
            own_ptr = chunks_ptr + (OF_CHUNK + part * OF_CHUNK_AND_PART + 4) * stride + each
            sums = ()
            for index in tl.static_range(7):
                sums = sums + (tl.sum(tl.load(own_ptr + index * stride, each < splits, 0.0), 1),)
        total += conclude(
            sums,
            x_statistics,
            x_state,
            h_state,
            count,
            weights_ptr + row,
            values_ptr + row,
            kept_ptr + row,
            rows,
            PARTS,
            part,
        )
    tl.store(total_ptr + row + tl.arange(0, 1), total)
