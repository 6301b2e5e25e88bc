"""What functions do to the axes of tensors; the results of functions without a rule here are unknown."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saliency_losses.extractors.axes import (
    Axes,
    Axis,
    Digit,
    agreed,
    grid_axes,
    has_positions,
    narrowed,
    other,
    reshaped,
    resized,
)

__all__ = ["RULES", "Call", "Rule", "starts_a_grid", "tensors_in"]

# Sizes of a trial tensor, all different, so that axes can be told apart.
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


@dataclass
class Call:
    """A function call: its arguments, what is known of those that are tensors, and one of its results."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    known: dict[int, Axes]
    results: tuple[Tensor, ...]
    number: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        return tuple(self.results[self.number].shape)

    @property
    def name(self) -> str:
        """Of the function."""
        return str(getattr(self.function, "__name__", ""))

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """By position or name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def axes(self, value: Any) -> Axes | None:
        """What is known of an argument."""
        return self.known.get(id(value))

    @property
    def source(self) -> Any:
        """The first argument."""
        return self.argument(0, "input")


Rule = Callable[[Call], Axes | None]


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors among arguments."""
    return (leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))


def _pointwise(call: Call) -> Axes | None:
    """Each position by itself: what any argument of the size of the result knows."""
    result = tuple(other(size) for size in call.shape)
    for tensor in tensors_in((call.args, call.kwargs)):
        axes = call.axes(tensor)
        if axes is None or tensor.ndim > len(result):
            continue
        ahead = len(result) - tensor.ndim
        result = (
            *result[:ahead],
            *(
                agreed(old, new) if old_size == size else old
                for old, new, old_size, size in zip(result[ahead:], axes, call.shape[ahead:], tensor.shape, strict=True)
            ),
        )
    return result


def _reshape(call: Call) -> Axes | None:
    axes = call.axes(call.source)
    return None if axes is None else reshaped(axes, call.shape)


def _moved(call: Call) -> Axes | None:
    """Axes that move or go, whatever their sizes: told by what the function does to sizes that all differ."""
    axes = call.axes(call.source)
    if axes is None or len(axes) > len(_PRIMES):
        return None
    trial = torch.empty(_PRIMES[: len(axes)], device="meta")
    options = {name: value for name, value in call.kwargs.items() if name not in ("input", "out")}
    moved = call.function(trial, *call.args[1:], **options)
    return tuple(axes[_PRIMES.index(size)] if size in _PRIMES else other(1) for size in moved.shape)


def _spatial(call: Call) -> Axes | None:
    """Convolutions and windows: channels first, then coordinates, each by itself."""
    axes, shape = call.axes(call.source), call.shape
    rank = call.name.rstrip("d")[-1:]
    if rank.isdigit() and len(shape) != int(rank) + 2:
        return None
    if axes is None or not has_positions(axes):
        return grid_axes(shape)
    if len(axes) != len(shape):
        return None
    mixes = "conv" in call.name
    return tuple(
        other(size) if mixes and number == 1 else resized(axis, size)
        for number, (axis, size) in enumerate(zip(axes, shape, strict=True))
    )


def starts_a_grid(rule: Rule) -> bool:
    """Whether the results of such functions have positions whatever their arguments are."""
    return rule is _spatial


def _resized(call: Call) -> Axes | None:
    axes = call.axes(call.source)
    return None if axes is None else tuple(map(resized, axes, call.shape))


def _linear(call: Call) -> Axes | None:
    """The last axis mixed, the others by themselves."""
    axes = call.axes(call.source)
    return None if axes is None else (*axes[:-1], other(call.shape[-1]))


def _attention(call: Call) -> Axes | None:
    """As many results as queries; the first result of several."""
    axes = call.axes(call.argument(0, "query"))
    return None if axes is None or call.number else (*axes[:-1], other(call.shape[-1]))


def _matmul(call: Call) -> Axes | None:
    """Rows of the first, columns of the second."""
    one, two = call.source, call.argument(1, "other", call.kwargs.get("mat2"))
    if call.name == "__rmatmul__":
        one, two = two, one
    if not isinstance(one, Tensor) or not isinstance(two, Tensor) or min(one.ndim, two.ndim) < 2:
        return None
    result = [other(size) for size in call.shape]
    for tensor, keeps in ((one, -2), (two, -1)):
        axes = call.axes(tensor)
        if axes is None:
            continue
        for back in [keeps, *range(-tensor.ndim, -2)]:
            if tensor.shape[back] == call.shape[back]:
                result[back] = agreed(result[back], axes[back])
    return tuple(result)


def _cat(call: Call) -> Axes | None:
    """Positions among others, where only one part has positions along that axis."""
    parts, dim = call.kwargs.get("tensors", call.source), call.argument(1, "dim", call.kwargs.get("axis", 0))
    dim %= len(call.shape)
    before, found, result = 0, [], [other(size) for size in call.shape]
    for part in parts:
        axes = call.axes(part)
        if axes is not None:
            result = [
                agreed(old, new) if axis != dim else old
                for axis, (old, new) in enumerate(zip(result, axes, strict=True))
            ]
            if has_positions((axes[dim],)):
                found.append(narrowed(axes[dim], -before, call.shape[dim]))
        before += part.shape[dim]
    if len(found) == 1:
        result[dim] = found[0]
    return tuple(result)


def _stack(call: Call) -> Axes | None:
    parts, dim = call.kwargs.get("tensors", call.source), call.argument(1, "dim", 0) % len(call.shape)
    known = [axes for part in parts if (axes := call.axes(part)) is not None]
    result = known[0]
    for axes in known[1:]:
        result = tuple(map(agreed, result, axes))
    return (*result[:dim], other(call.shape[dim]), *result[dim:])


def _split(call: Call) -> Axes | None:
    """Parts of one axis, one after the other."""
    axes = call.axes(call.source)
    if axes is None:
        return None
    dim = call.argument(2, "dim", 0) % len(axes)
    start = sum(part.shape[dim] for part in call.results[: call.number])
    return (*axes[:dim], narrowed(axes[dim], start, call.shape[dim]), *axes[dim + 1 :])


def _unbind(call: Call) -> Axes | None:
    axes = call.axes(call.source)
    if axes is None:
        return None
    dim = call.argument(1, "dim", 0) % len(axes)
    return (*axes[:dim], *axes[dim + 1 :])


def _select(call: Call) -> Axes | None:
    """Indexing by integers, slices, None and Ellipsis; anything else may reorder."""
    axes, index = call.axes(call.source), call.args[1]
    index = index if isinstance(index, tuple) else (index,)
    plain = (int, slice, type(None), type(Ellipsis))
    if axes is None or not all(isinstance(part, plain) and not isinstance(part, bool) for part in index):
        return None
    rest = [slice(None)] * (len(axes) - sum(isinstance(part, (int, slice)) for part in index))
    where = next((number for number, part in enumerate(index) if part is Ellipsis), len(index))
    result: list[Axis] = []
    todo = list(zip(axes, call.source.shape, strict=True))
    for part in (*index[:where], *rest, *index[where + 1 :]):
        if part is None:
            result.append(other(1))
            continue
        axis, size = todo.pop(0)
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            result.append(narrowed(axis, start, len(range(start, stop, step)), step))
    return tuple(result)


def _narrow(call: Call) -> Axes | None:
    axes, dim = call.axes(call.source), call.argument(1, "dim")
    start = call.argument(2, "start")
    if axes is None or not isinstance(start, int):
        return None
    dim, size = dim % len(axes), call.source.shape[dim]
    return (*axes[:dim], narrowed(axes[dim], start % size, call.shape[dim]), *axes[dim + 1 :])


def _roll(call: Call) -> Axes | None:
    """A coordinate that was rolled is another one until it is rolled back."""
    axes, shifts, dims = call.axes(call.source), call.argument(1, "shifts"), call.argument(2, "dims", ())
    if axes is None or dims in ((), None):
        return None
    result = list(axes)
    for shift, dim in zip(*((value,) if isinstance(value, int) else value for value in (shifts, dims)), strict=True):
        digit = result[dim][0] if len(result[dim]) == 1 else None
        if isinstance(digit, Digit) and digit.source >= 0:
            result[dim] = (digit._replace(shift=digit.shift + shift),)
        else:
            result[dim] = other(call.shape[dim])
    return tuple(result)


def _einsum(call: Call) -> Axes | None:
    equation, operands = call.args[0], list(call.args[1:])
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return None
    given, wanted = equation.replace(" ", "").split("->")
    found: dict[str, Any] = {}
    for letters, operand in zip(given.split(","), operands, strict=True):
        for letter, axis in zip(letters, call.axes(operand) or (), strict=False):
            found[letter] = agreed(found[letter], axis) if letter in found else axis
    return tuple(found.get(letter, other(size)) for letter, size in zip(wanted, call.shape, strict=True))


# The functions that each rule is for, by name.
_ARITHMETIC = ("add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow")
_WINDOWS = ("conv", "conv_transpose", "max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool")
_DIMS = ("1d", "2d", "3d")
_NAMES: dict[Rule, str] = {
    _pointwise: """
        subtract multiply divide true_divide rsub neg negative __neg__ abs absolute __abs__ square sqrt rsqrt exp log
        log1p sin cos tanh sigmoid erf reciprocal clamp clamp_ clip maximum minimum where lerp addcmul nan_to_num
        relu relu_ relu6 gelu silu silu_ mish elu elu_ selu celu leaky_relu leaky_relu_ prelu rrelu hardswish
        hardsigmoid hardtanh softplus softsign logsigmoid threshold softmax log_softmax masked_fill
        layer_norm rms_norm group_norm batch_norm instance_norm normalize local_response_norm
        dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout
        to type type_as float double half bfloat16 contiguous clone detach requires_grad_ cpu cuda
        expand expand_as broadcast_to
    """,
    _reshape: "flatten reshape reshape_as view view_as unflatten squeeze unsqueeze ravel",
    _moved: "permute transpose swapaxes swapdims movedim moveaxis mean sum amax amin std var logsumexp",
    _spatial: "interpolate upsample pixel_shuffle pixel_unshuffle",
    _resized: "pad",
    _linear: "linear",
    _attention: "scaled_dot_product_attention multi_head_attention_forward",
    _matmul: "matmul bmm __matmul__ __rmatmul__",
    _cat: "cat concat concatenate",
    _stack: "stack",
    _split: "split chunk tensor_split split_with_sizes",
    _unbind: "unbind",
    _select: "__getitem__",
    _narrow: "narrow",
    _roll: "roll",
    _einsum: "einsum",
}
_FAMILIES: dict[Rule, tuple[str, ...]] = {
    _pointwise: (
        *_ARITHMETIC,
        *(f"{name}_" for name in _ARITHMETIC),
        *(f"__{kind}{name}__" for name in _ARITHMETIC for kind in ("", "r", "i")),
    ),
    _spatial: tuple(f"{name}{dims}" for name in _WINDOWS for dims in _DIMS),
}
RULES: dict[str, Rule] = {name: rule for rule, names in _NAMES.items() for name in names.split()}
RULES.update((name, rule) for rule, names in _FAMILIES.items() for name in names)
