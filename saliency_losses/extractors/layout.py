"""How a layer's output is read as a map: where its channels are, and which of its tokens are patches of which grid."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Layout", "Reshape", "Tokens", "check_reshape", "layout_from", "square_tokens"]

Reshape = Callable[[Tensor], Tensor] | str | tuple[int, ...] | None
r"""How to read a layer's output as (B, C, \*s).

``None`` finds out by itself; ``"channels_first"``, ``"channels_last"`` and ``"tokens"`` name a layout; a tuple is the
grid of the last tokens, as in ``(14, 14)``; a callable does it.
"""

_NAMES = ("channels_first", "channels_last", "tokens")
# Class, register and distillation tokens: so many may stand before the patches where nothing but their number tells.
_MOST_PREFIX_TOKENS = 5


@dataclass(frozen=True)
class Tokens:
    """Which tokens are patches, and where each belongs.

    Attributes:
        grid: Of the map.
        start: How many tokens come before the patches; ``None`` where the patches are the last ones.
        sizes: The sizes of nested loops in which the tokens go through the grid, outermost first; the grid where the
            tokens go row by row.
        order: Which loops make each axis of the grid, joined; ascending where the tokens go row by row.
    """

    grid: tuple[int, ...]
    start: int | None = None
    sizes: tuple[int, ...] = ()
    order: tuple[int, ...] = ()

    def unfold(self, tensor: Tensor) -> Tensor:
        r"""(B, C, N) as (B, C, \*grid).

        Raises:
            ValueError: There are too few tokens.
        """
        count, patches = tensor.shape[2], math.prod(self.grid)
        start = count - patches if self.start is None else self.start
        if start < 0 or start + patches > count:
            raise ValueError(
                f"Expected at least {patches + (self.start or 0)} tokens for the grid {self.grid}, got {count}; give "
                "the grid of this layer: reshape=(height, width)."
            )
        shape = *tensor.shape[:2], *(self.sizes or self.grid)
        loops = tensor.narrow(2, start, patches).reshape(shape)
        if self.order:
            loops = loops.permute(0, 1, *(2 + number for number in self.order))
        return loops.reshape(*tensor.shape[:2], *self.grid)


@dataclass(frozen=True)
class Layout:
    r"""How to read a tensor as (B, C, \*s).

    Attributes:
        channel_axis: Where the channels are: 1 for convolutions, the last one for tokens and channels-last layers.
        tokens: How the one other axis holds a grid; ``None`` where each other axis is an axis of the map.
        function: What reads the tensor instead of all that.
    """

    channel_axis: int = 1
    tokens: Tokens | None = None
    function: Callable[[Tensor], Tensor] | None = None

    def read(self, tensor: Tensor) -> Tensor:
        r"""The tensor as (B, C, \*s).

        Raises:
            ValueError: It has no positions, or not the tokens that were expected.

        Example:
            >>> import torch
            >>> Layout(channel_axis=2, tokens=Tokens(grid=(2, 3), start=1)).read(torch.zeros(4, 7, 8)).shape
            torch.Size([4, 8, 2, 3])
        """
        if self.function is not None:
            result = self.function(tensor)
        elif tensor.ndim < 3 or (self.tokens is not None and tensor.ndim != 3):
            wanted = "(B, C, *positions)" if self.tokens is None else "(B, tokens, C)"
            raise ValueError(f"A layer's output has shape {tuple(tensor.shape)}, expected {wanted}.")
        else:
            result = tensor.movedim(self.channel_axis, 1)
            result = result if self.tokens is None else self.tokens.unfold(result)
        if not isinstance(result, Tensor) or result.ndim < 3 or len(result) != len(tensor):
            got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(
                f"reshape= turned a layer's output of shape {tuple(tensor.shape)} into {got}, expected "
                "(B, C, *positions) with the same B."
            )
        return result

    def positions(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the map of a tensor of this shape."""
        if self.tokens is not None:
            return self.tokens.grid
        axis = self.channel_axis % len(shape)
        return tuple(size for number, size in enumerate(shape) if number not in (0, axis))


def check_reshape(reshape: Reshape) -> Any:
    """``reshape`` itself, if it is one.

    Raises:
        ValueError: It is an unknown name or no grid.
        TypeError: It is something else.
    """
    if isinstance(reshape, str) and reshape not in _NAMES:
        raise ValueError(
            f"reshape must be one of {', '.join(map(repr, _NAMES))}, a grid or a callable, got {reshape!r}."
        )
    if isinstance(reshape, (tuple, list)):
        whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in reshape)
        if not reshape or not whole:
            raise ValueError(f"reshape must be a grid of positive integers such as (14, 14), got {reshape!r}.")
        return tuple(reshape)
    if reshape is None or isinstance(reshape, str) or callable(reshape):
        return reshape
    raise TypeError(
        f"reshape must be None, one of {', '.join(map(repr, _NAMES))}, a grid such as (14, 14) or a callable "
        f"(B, ...) -> (B, C, *s), got {type(reshape).__name__}."
    )


def layout_from(reshape: Reshape) -> Layout | None:
    """The layout that the option says; ``None`` where it must be found out (``None`` and ``"tokens"``).

    Example:
        >>> layout_from((14, 14)).tokens.grid
        (14, 14)
    """
    reshape = check_reshape(reshape)
    if isinstance(reshape, str):
        return {"channels_first": Layout(1), "channels_last": Layout(-1)}.get(reshape)
    if isinstance(reshape, tuple):
        return Layout(-1, Tokens(reshape))
    return None if reshape is None else Layout(function=reshape)


def square_tokens(shape: tuple[int, ...], what: str) -> Layout:
    """Tokens (B, N, C) as a square grid behind a few others, where only one number of others leaves a square.

    Raises:
        ValueError: There is no such grid, or more than one.

    Example:
        >>> square_tokens((2, 197, 8), "the layer").tokens
        Tokens(grid=(14, 14), start=1, sizes=(), order=())
    """
    starts = range(_MOST_PREFIX_TOKENS + 1) if len(shape) == 3 else ()
    fits = [start for start in starts if shape[1] - start > 3 and math.isqrt(shape[1] - start) ** 2 == shape[1] - start]
    if len(fits) != 1:
        raise ValueError(
            f"Nothing tells the grid of the tokens of {what}, whose output has shape {tuple(shape)}. Give it: "
            "reshape=(height, width) for the last height * width tokens, or a callable to (B, C, height, width)."
        )
    side = math.isqrt(shape[1] - fits[0])
    return Layout(2, Tokens((side, side), fits[0]))
