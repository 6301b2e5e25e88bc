"""A map enlarged on the fly: the cells of a small map as they lie in a large one, and the adjoint of that.

Sizes are a tuple ``(height, width, HEIGHT, WIDTH, aligned)``, ``aligned`` saying whether the centres of the corner
pixels of both coincide (``align_corners``), or empty where both maps are of one size.
"""

import triton
import triton.language as tl

__all__ = ["lines_of", "load_cells", "load_lines", "share_of", "size", "stages"]


@triton.constexpr_function
def size(sizes, index):
    """A number of the sizes."""
    return sizes[index]


@triton.constexpr_function
def stages(sizes):
    """How many steps of a loop over cells are in flight: gathering the cells of an enlarged map leaves room for one."""
    return 1 if sizes else 3


@triton.constexpr_function
def _step(small, large, aligned):
    """Pixels of the small axis per pixel of the large one."""
    return (small - 1) / max(large - 1, 1) if aligned else small / large


@triton.jit
def _between(position, SMALL: tl.constexpr, LARGE: tl.constexpr, ALIGNED: tl.constexpr):
    """The two pixels of the small axis that one of the large axis lies between, and the share of the second."""
    STEP: tl.constexpr = _step(SMALL, LARGE, ALIGNED)
    if ALIGNED:
        at = position.to(tl.float32) * STEP
    else:
        at = tl.maximum((position.to(tl.float32) + 0.5) * STEP - 0.5, 0.0)
    first = tl.minimum(at.to(tl.int32), SMALL - 1)
    return first, tl.minimum(first + 1, SMALL - 1), at - first.to(tl.float32)


@triton.jit
def load_lines(row, lines, columns, inside, SIZES: tl.constexpr):
    """The enlarged map at these lines and columns, which broadcast against each other; zero outside."""
    WIDTH: tl.constexpr = size(SIZES, 1)
    top, bottom, down = _between(lines, size(SIZES, 0), size(SIZES, 2), size(SIZES, 4))
    left, right, along = _between(columns, size(SIZES, 1), size(SIZES, 3), size(SIZES, 4))
    upper_left = tl.load(row + top * WIDTH + left, inside, 0.0).to(tl.float32)
    upper_right = tl.load(row + top * WIDTH + right, inside, 0.0).to(tl.float32)
    lower_left = tl.load(row + bottom * WIDTH + left, inside, 0.0).to(tl.float32)
    lower_right = tl.load(row + bottom * WIDTH + right, inside, 0.0).to(tl.float32)
    upper = upper_left * (1.0 - along) + upper_right * along
    lower = lower_left * (1.0 - along) + lower_right * along
    return upper * (1.0 - down) + lower * down


@triton.jit
def load_cells(row, cells, inside, SIZES: tl.constexpr):
    """The model's map at these cells of the human map; zero outside."""
    if len(SIZES) == 0:
        return tl.load(row + cells, inside, 0.0).to(tl.float32)
    else:
        BREADTH: tl.constexpr = size(SIZES, 3)
        return load_lines(row, cells // BREADTH, cells % BREADTH, inside, SIZES)


@triton.jit
def share_of(pixel, positions, SMALL: tl.constexpr, LARGE: tl.constexpr, ALIGNED: tl.constexpr):
    """How much of one pixel of the small axis is in each of these of the large one."""
    first, second, share = _between(positions, SMALL, LARGE, ALIGNED)
    return tl.where(first == pixel, 1.0 - share, 0.0) + tl.where(second == pixel, share, 0.0)


@triton.constexpr_function
def _pitch(small, large, aligned):
    """Pixels of the large axis per pixel of the small one."""
    return (large - 1) / (small - 1) if aligned and small > 1 else large / small


@triton.jit
def lines_of(pixel, SMALL: tl.constexpr, LARGE: tl.constexpr, ALIGNED: tl.constexpr):
    """Where the positions of the large axis that hold a share of a pixel of the small one begin and end, at most."""
    PITCH: tl.constexpr = _pitch(SMALL, LARGE, ALIGNED)
    at = (pixel + (0.0 if ALIGNED else 0.5)) * PITCH
    begin = tl.maximum(tl.floor(at - PITCH).to(tl.int32) - 1, 0)
    return begin, tl.minimum(tl.ceil(at + PITCH).to(tl.int32) + 1, LARGE)
