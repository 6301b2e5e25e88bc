"""What the axes of a tensor stand for: batch, channels, or positions of a grid, through reshapes and permutations.

An axis is a tuple of atoms, outermost first, like the nested loops in which memory would be walked through; the product
of their sizes is the size of the axis. Flattening joins the atoms of axes, unflattening parts them.
"""

import math
from itertools import pairwise
from typing import NamedTuple

from saliency_losses.extractors.layout import Layout, Tokens

__all__ = [
    "BATCH",
    "Axes",
    "Axis",
    "Block",
    "Digit",
    "agreed",
    "grid_axes",
    "has_batch_first",
    "has_positions",
    "layout_of",
    "narrowed",
    "other",
    "reshaped",
    "resized",
]

BATCH = -1
_OTHER = -2


class Digit(NamedTuple):
    """A run through (part of) one coordinate.

    Attributes:
        source: The number of a coordinate of the grid, or that this is the batch or something else, as channels are.
        size: How many steps.
        stride: By how many cells of the coordinate each step moves.
        shift: By how many cells the coordinate was rolled.
    """

    source: int
    size: int
    stride: int = 1
    shift: int = 0


class Block(NamedTuple):
    """Positions among other tokens: so many in all, the first position at ``start``."""

    size: int
    start: int
    digits: tuple[Digit, ...]


Axis = tuple[Digit | Block, ...]
Axes = tuple[Axis, ...]


def other(size: int) -> Axis:
    """An axis that is neither batch nor positions."""
    return (Digit(_OTHER, size, 0),)


def grid_axes(shape: tuple[int, ...], channel_axis: int = 1) -> Axes:
    """The axes of a map: batch, channels, and a coordinate each."""
    coordinates = iter(range(len(shape)))
    return tuple(
        (Digit(BATCH, size),)
        if not axis
        else other(size)
        if axis == channel_axis
        else (Digit(next(coordinates), size),)
        for axis, size in enumerate(shape)
    )


def reshaped(axes: Axes, shape: tuple[int, ...]) -> Axes | None:
    """The axes after a reshape to this shape; ``None`` if it cuts across them."""
    atoms = [atom for axis in reversed(axes) for atom in reversed(axis)]
    result: list[Axis] = []
    for size in shape:
        axis: list[Digit | Block] = []
        if size == 1 and atoms and atoms[-1].size == 1:
            axis.append(atoms.pop())
        while size > 1:
            if not atoms:
                return None
            atom = atoms.pop()
            if size % atom.size == 0:
                axis.append(atom)
                size //= atom.size
            elif atom.size % size == 0:
                outer, inner = _parted(atom, size)
                axis.append(outer)
                atoms.append(inner)
                size = 1
            else:
                return None
        result.append(_joined(axis))
    if any(atom.size != 1 for atom in atoms) or not result:
        return None
    result[-1] = _joined([*result[-1], *reversed(atoms)])
    return tuple(result)


def narrowed(axis: Axis, start: int, size: int, step: int = 1) -> Axis:
    """The axis of ``size`` elements from ``start`` on."""
    block = _block(axis)
    if step == 1 and block is not None:
        count, first = math.prod(digit.size for digit in block.digits), block.start - start
        if first >= 0 and first + count <= size:
            return block.digits if count == size else (Block(size, first, block.digits),)
    return resized(axis, size) if size != math.prod(atom.size for atom in axis) else axis


def resized(axis: Axis, size: int) -> Axis:
    """The axis after something that gave it another size: a single coordinate remains one."""
    if math.prod(atom.size for atom in axis) == size:
        return axis
    if len(axis) == 1 and isinstance(axis[0], Digit) and axis[0].source >= 0:
        return (Digit(axis[0].source, size, shift=axis[0].shift),)
    return other(size)


def agreed(one: Axis, two: Axis) -> Axis:
    """What an axis is that is both: what one of them knows, or nothing where they contradict."""
    if not _known(two) or _same(one, two):
        return one
    return other(math.prod(atom.size for atom in two)) if _known(one) else two


def has_positions(axes: Axes) -> bool:
    """Whether any axis holds positions."""
    return any(_digits(atom)[0].source >= 0 for axis in axes for atom in axis if _digits(atom))


def has_batch_first(axes: Axes) -> bool:
    """Whether the first axis is the batch and nothing else."""
    return all(isinstance(atom, Digit) and (atom.source == BATCH or atom.size == 1) for atom in axes[0])


def layout_of(axes: Axes) -> Layout | None:
    """How to read a tensor with these axes as (B, C, *s); ``None`` if it is not such a thing."""
    channels = [number for number, axis in enumerate(axes) if number and _holds_others(axis)]
    if len(channels) != 1 or not has_batch_first(axes):
        return None
    blocks = [_block(axis) for number, axis in enumerate(axes) if number and number != channels[0]]
    digits = [digit for block in blocks if block is not None for digit in block.digits]
    if None in blocks or not digits or any(digit.shift or digit.source < 0 for digit in digits):
        return None
    order = sorted(range(len(digits)), key=lambda number: (digits[number].source, -digits[number].stride))
    for left, right in pairwise(digits[number] for number in order):
        if left.source == right.source and left.stride != right.stride * right.size:
            return None
    grid = tuple(
        math.prod(digit.size for digit in digits if digit.source == source)
        for source in sorted({digit.source for digit in digits})
    )
    plain = order == sorted(order) and len(grid) == len(digits)
    if plain and all(block is not None and block.start == 0 and len(block.digits) == 1 for block in blocks):
        whole = all(
            not isinstance(axis[0], Block) for number, axis in enumerate(axes) if number not in (0, channels[0])
        )
        if whole:
            return Layout(channels[0])
    if len(blocks) != 1 or blocks[0] is None:
        return None
    if plain:
        return Layout(channels[0], Tokens(grid, blocks[0].start))
    return Layout(channels[0], Tokens(grid, blocks[0].start, tuple(digit.size for digit in digits), tuple(order)))


def _parted(atom: Digit | Block, size: int) -> tuple[Digit, Digit]:
    inner = atom.size // size
    if isinstance(atom, Block):
        return Digit(_OTHER, size, 0), Digit(_OTHER, inner, 0)
    return atom._replace(size=size, stride=atom.stride * inner), atom._replace(size=inner)


def _joined(axis: list[Digit | Block]) -> Axis:
    """The same atoms, with those joined that had been parted, without other things of size one."""
    result: list[Digit | Block] = []
    for atom in axis:
        if len(axis) > 1 and atom.size == 1 and isinstance(atom, Digit) and atom.source < 0:
            continue
        last = result[-1] if result else None
        if isinstance(last, Digit) and isinstance(atom, Digit) and _continues(last, atom):
            result[-1] = atom._replace(size=last.size * atom.size)
            continue
        result.append(atom)
    return tuple(result)


def _continues(outer: Digit, inner: Digit) -> bool:
    same = outer.source == inner.source and outer.shift == inner.shift
    return same and (outer.source == _OTHER or outer.stride == inner.stride * inner.size)


def _block(axis: Axis) -> Block | None:
    """The positions on the axis, if it holds positions and other tokens but nothing else."""
    if len(axis) == 1 and isinstance(axis[0], Block):
        return axis[0]
    digits = tuple(atom for atom in axis if isinstance(atom, Digit) and atom.source >= 0)
    return Block(math.prod(digit.size for digit in digits), 0, digits) if digits and len(digits) == len(axis) else None


def _digits(atom: Digit | Block) -> tuple[Digit, ...]:
    return atom.digits if isinstance(atom, Block) else (atom,)


def _holds_others(axis: Axis) -> bool:
    return any(isinstance(atom, Digit) and atom.source < 0 for atom in axis)


def _known(axis: Axis) -> bool:
    return any(isinstance(atom, Block) or atom.source != _OTHER for atom in axis)


def _same(one: Axis, two: Axis) -> bool:
    def kind(axis: Axis) -> list[tuple[int, ...]]:
        return [
            (digit.source, digit.size, digit.shift, atom.start if isinstance(atom, Block) else 0)
            for atom in axis
            for digit in _digits(atom)
        ]

    return kind(one) == kind(two)
