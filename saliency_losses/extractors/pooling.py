"""Seeing global average pooling as it happens, be it a module or a function call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Pool", "PoolWatch", "version"]

# Operations that move or scale a pooled vector as a whole: what they return is followed as the same vector.
_KEEPS = frozenset(
    (
        *("flatten", "reshape", "reshape_as", "view", "view_as", "unflatten", "squeeze", "unsqueeze", "__getitem__"),
        *("permute", "transpose", "contiguous", "clone", "to", "type", "float", "double", "half", "bfloat16"),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"),
    )
)
_DROPOUTS = frozenset(["dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"])
_POOLS = frozenset(
    ["avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"]
)
# Operations that reduce positions, or their layout, without touching batch and channels.
_MERGES = frozenset(["flatten", "reshape", "view", "mean"])


def version(tensor: Tensor) -> int:
    """How often the tensor was changed in place; inference tensors and compiled graphs do not count."""
    return 0 if torch.compiler.is_compiling() or tensor.is_inference() else tensor._version


@dataclass(frozen=True, eq=False)
class Pool:
    """One global average pooling.

    Attributes:
        source: What was pooled: a batch first, channels at ``channel_axis``, positions elsewhere.
        channel_axis: Where the channels of ``source`` are.
        index: How many poolings came before it since the watch (re)started.
    """

    source: Tensor
    channel_axis: int
    index: int


class PoolWatch(TorchFunctionMode):
    """While active, reports each global average pooling and follows tagged tensors.

    Attributes:
        dropped: Identities of tagged values whose tensor went through dropout in train mode.

    Args:
        on_pool: Called with each :class:`Pool`; a tensor that it returns is pooled in the source's place.
    """

    def __init__(self, on_pool: Callable[[Pool], Tensor | None]) -> None:
        super().__init__()
        self._on_pool = on_pool
        self._count = 0
        self._tags: dict[int, tuple[Tensor, int, Any]] = {}
        self._merged: dict[int, tuple[Tensor, Tensor]] = {}
        self.dropped: set[int] = set()

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
        self._tags[id(tensor)] = tensor, version(tensor), value

    def tag_of(self, tensor: Any) -> Any:
        """What was remembered for the tensor, or ``None``; a tensor changed in place since is another one."""
        known, then, value = self._tags.get(id(tensor), (None, 0, None))
        return value if known is not None and version(known) == then else None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        source = args[0] if args else kwargs.get("input")
        value = self.tag_of(source)
        result = func(*args, **kwargs)
        if not isinstance(source, Tensor) or not isinstance(result, Tensor):
            return result
        name = getattr(func, "__name__", "")
        axis = None
        if name == "mean":
            axis = _axis_left_by_mean(source, args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis")))
        elif name in _POOLS and source.ndim > 2 and result.shape[2:].numel() == 1:
            axis = 1
        index = self._count
        self._count += axis is not None
        if value is not None:
            if name in _DROPOUTS and (args[2] if len(args) > 2 else kwargs.get("training", True)):
                self.dropped.add(id(value))
            if (name in _KEEPS and _keeps_order(name, args, result)) or (axis and result.numel() == source.numel()):
                self.tag(result, value)
            return result
        if name in _MERGES and 2 < result.ndim < source.ndim and result.shape[:2] == source.shape[:2]:
            self._merged[id(result)] = result, self._merged.get(id(source), (None, source))[1]
        if axis is not None:
            whole = self._merged.get(id(source), (None, source))[1] if axis == 1 else source
            pool = Pool(whole, axis, index)
            replacement = self._on_pool(pool)
            if replacement is not None and args and whole is source:
                result = func(replacement, *args[1:], **kwargs)
            self.tag(result, pool)
        return result


def _keeps_order(name: str, args: Any, result: Tensor) -> bool:
    """Whether an operation neither chose nor reordered samples or channels; indexing may."""
    if name != "__getitem__":
        return True
    source, index = args
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
