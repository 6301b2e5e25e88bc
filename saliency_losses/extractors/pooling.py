"""Seeing global average pooling as it happens, be it a module or a function call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Pool", "PoolWatch"]

# Operations that move or scale a pooled vector as a whole: what they return is followed as the same vector.
_KEEPS = frozenset(
    (
        *("flatten", "reshape", "reshape_as", "view", "view_as", "unflatten", "squeeze", "unsqueeze", "__getitem__"),
        *("permute", "transpose", "contiguous", "clone", "to", "type", "float", "double", "half", "bfloat16"),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"),
    )
)
_POOLS = frozenset(
    ["avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"]
)
_REDUCES = _POOLS | {"mean"}
# Operations that reduce positions, or their layout, without touching batch and channels.
_MERGES = frozenset(["flatten", "reshape", "view", "mean"])


@dataclass(frozen=True)
class Pool:
    """One global average pooling.

    Attributes:
        source: What was pooled: a batch first, channels at ``channel_axis``, positions elsewhere.
        pooled: What came out, channels flattened to (B, C).
        channel_axis: Where the channels of ``source`` are.
        index: How many poolings came before it since the watch (re)started.
    """

    source: Tensor
    pooled: Tensor
    channel_axis: int
    index: int


class PoolWatch(TorchFunctionMode):
    """While active, records each global average pooling and follows the pooled vectors.

    Args:
        on_pool: Called with each :class:`Pool`; a tensor that it returns is pooled in the source's place.
    """

    def __init__(self, on_pool: Callable[[Pool], Tensor | None]) -> None:
        super().__init__()
        self._on_pool = on_pool
        self._count = 0
        self._tags: dict[int, tuple[Tensor, Any]] = {}
        self._merged: dict[int, tuple[Tensor, Tensor]] = {}

    def restart(self) -> None:
        """Count poolings from zero again; tags stay."""
        self._count = 0
        self._merged.clear()

    def forget(self) -> None:
        """Let go of everything that was seen."""
        self._merged.clear()
        self._tags.clear()

    def tag(self, tensor: Tensor, value: Any) -> None:
        """Remember ``value`` for this tensor and for whatever is only a reshaped, cast or dropped-out copy of it."""
        self._tags[id(tensor)] = (tensor, value)

    def tag_of(self, tensor: Any) -> Any:
        """What was remembered for the tensor, or ``None``."""
        return self._tags.get(id(tensor), (None, None))[1]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        source = args[0] if args else kwargs.get("input")
        if not isinstance(source, Tensor) or not isinstance(result, Tensor):
            return result
        name = getattr(func, "__name__", "")
        value = self.tag_of(source)
        if name == "__getitem__" and not _keeps_order(args[1], source, result):
            value = None
        if value is not None and (name in _KEEPS or (result.numel() == source.numel() and name in _REDUCES)):
            self.tag(result, value)
            return result
        if name in _MERGES and 2 < result.ndim < source.ndim and result.shape[:2] == source.shape[:2]:
            self._merged[id(result)] = (result, self._merged.get(id(source), (None, source))[1])
        axis = None
        if name == "mean":
            axis = _axis_left_by_mean(source, args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis")))
        elif name in _POOLS and source.ndim > 2 and result.shape[2:].numel() == 1:
            axis = 1
        if axis is not None:
            if axis == 1:
                source = self._merged.get(id(source), (None, source))[1]
            pool = Pool(source, result.reshape(source.shape[0], source.shape[axis]), axis, self._count)
            self._count += 1
            replacement = self._on_pool(pool)
            if replacement is not None and args and pool.source is args[0]:
                result = func(replacement, *args[1:], **kwargs)
            self.tag(result, pool)
        return result


def _keeps_order(index: Any, source: Tensor, result: Tensor) -> bool:
    """Whether indexing only dropped axes of size one, and neither chose nor reordered samples or channels."""
    parts = index if isinstance(index, tuple) else (index,)
    plain = all(isinstance(part, (int, slice, type(None), type(Ellipsis))) for part in parts)
    return plain and result.numel() == source.numel() and len(result) == len(source)


def _axis_left_by_mean(source: Tensor, dim: Any) -> int | None:
    """The one axis besides the batch that a mean over ``dim`` leaves, if it leaves exactly one."""
    if dim is None or source.ndim < 3:
        return None
    dims = {d % source.ndim for d in ((dim,) if isinstance(dim, int) else dim)}
    left = [axis for axis in range(1, source.ndim) if axis not in dims]
    return left[0] if len(left) == 1 and 0 not in dims else None
