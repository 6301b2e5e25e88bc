"""The layers of a model as one forward pass shows them: which have positions, and where their channels are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from saliency_losses.extractors.axes import Axes, has_positions, layout_of
from saliency_losses.extractors.layout import Layout
from saliency_losses.extractors.pooling import version

__all__ = ["Layer", "Record", "last_layer", "layout_of_tensor", "read_layers"]

# These only move or drop what another layer computed, so a map of them is better taken one layer before.
_LAYOUT_ONLY = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
)
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.LPPool1d,
    nn.LPPool2d,
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
    nn.Upsample,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.Dropout2d,
    nn.Dropout3d,
)


class Layer(NamedTuple):
    """A layer whose output has positions.

    Attributes:
        name: Dotted, as extractors take it.
        shape: Of its output.
        layout: How that is read as a map.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout

    @property
    def channel_axis(self) -> int:
        """The axis of the channels, 1 for convolutions, the last one for tokens."""
        return self.layout.channel_axis

    @property
    def positions(self) -> tuple[int, ...]:
        """The shape of a map of this layer."""
        return self.layout.positions(self.shape)


@dataclass(eq=False)
class Record:
    """One call of a module that returned a tensor with more than two axes, alone or as the first of several.

    Attributes:
        name: Of the module.
        module: The module.
        tensor: What it returned.
        version: How often that had been changed in place when it was returned.
        axes: What its axes stand for, followed from the image on; ``None`` if they could not be followed.
        axis: Where its channels are, judged by modules; ``None`` if nothing tells.
    """

    name: str
    module: nn.Module
    tensor: Tensor
    version: int
    axes: Axes | None = None
    axis: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output."""
        return tuple(self.tensor.shape)


def read_layers(records: list[Record], calls: dict[str, int], *, grid: bool) -> Iterator[Layer]:
    """The layers called once whose outputs can be read as maps, in the order in which they finished.

    Args:
        records: Of all calls, in order; their ``axis`` is filled in.
        calls: How often each module was called.
        grid: Whether there was a grid of several axes, so that tokens that could not be followed may belong to one.
    """
    for number, record in enumerate(records):
        record.axis = _channel_axis(records[:number], record)
        layout = layout_of_tensor(record.shape, record.axes, record.axis, grid=grid)
        if layout is not None and calls[record.name] == 1:
            yield Layer(record.name, record.shape, layout)


def layout_of_tensor(shape: tuple[int, ...], axes: Axes | None, axis: int | None, *, grid: bool) -> Layout | None:
    """The layout that the followed axes show, else what modules tell of the channels; ``None`` if that is too little.

    Args:
        shape: Of the tensor.
        axes: What is known of its axes.
        axis: Where its channels are, judged by modules.
        grid: See :func:`read_layers`.
    """
    if axes is not None and has_positions(axes):
        return layout_of(axes)
    if axis is None or (grid and len(shape) == 3):
        return None
    return Layout(axis)


def last_layer(records: list[Record], layers: tuple[Layer, ...]) -> tuple[Layer, Tensor] | None:
    """The last layer that computes channels at several positions, unless tokens follow, and its output."""
    by_name = {layer.name: layer for layer in layers}
    for record in reversed(records):
        if isinstance(record.module, _LAYOUT_ONLY):
            continue
        layer = by_name.get(record.name)
        tokens = len(record.shape) == 3 and (record.axis == 2 if layer is None else layer.channel_axis == 2)
        if tokens or (layer is not None and layer.layout.tokens is not None):
            return None
        if layer is None or layer.shape[layer.channel_axis] == 1 or set(layer.positions) == {1}:
            continue
        if version(record.tensor) == record.version:
            return layer, record.tensor
    return None


def _channel_axis(before: list[Record], record: Record) -> int | None:
    """Where the channels of a layer's output are.

    What tells is, in this order: the layer's own type; the last module inside it that works at the same positions; that
    the output is a view of an earlier one; the last module before it that works at the same positions, or on as many
    channels.
    """
    own = _own_channel_axis(record.module, record.shape)
    if own is not None:
        return own
    inside = [other for other in before if other.name.startswith(f"{record.name}.")]
    found = [other.axis for other in reversed(inside) if _at_same_positions(other, record)]
    ambiguous = len(set(record.shape[1:])) == 1  # as many channels as positions along each axis: sizes tell nothing
    if found and not ambiguous:
        return found[0]
    for other in reversed(before):
        axis = _axis_in_view(other, record)
        if axis is not None:
            return axis
    if ambiguous:
        return None
    same = next((other.axis for other in reversed(before) if _at_same_positions(other, record)), None)
    return same if same is not None else _axis_of_same_count(before, record)


def _axis_of_same_count(before: list[Record], record: Record) -> int | None:
    """The axis that is as long as the channels were last, if no other is: behind a pooling that was not a module."""
    last = next((o for o in reversed(before) if o.axis is not None and len(o.shape) == len(record.shape)), None)
    if last is None or last.axis is None:
        return None
    count = last.shape[last.axis]
    return last.axis if record.shape[last.axis] == count and record.shape[1:].count(count) == 1 else None


def _at_same_positions(other: Record, record: Record) -> bool:
    if other.axis is None or len(other.shape) != len(record.shape):
        return False
    return _without(other.shape, other.axis) == _without(record.shape, other.axis)


def _axis_in_view(other: Record, record: Record) -> int | None:
    """Where the channels of ``other`` are in ``record``, a view of the same memory with its axes permuted."""
    if other.axis is None or other.tensor.data_ptr() != record.tensor.data_ptr() or other.shape == record.shape:
        return None
    channels = other.shape[other.axis], other.tensor.stride(other.axis)
    axes = list(zip(record.shape, record.tensor.stride(), strict=True))
    return axes.index(channels) if axes.count(channels) == 1 else None


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(size for number, size in enumerate(shape) if number not in (0, axis))


def _own_channel_axis(module: nn.Module, shape: tuple[int, ...]) -> int | None:
    forward = type(module).forward  # a subclass with one of its own may do anything
    if forward is nn.Linear.forward:
        return len(shape) - 1
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and forward in (nn.LayerNorm.forward, nn.RMSNorm.forward):
        return len(shape) - 1 if tuple(module.normalized_shape) == shape[-1:] else None
    return 1 if isinstance(module, _CHANNELS_FIRST) else None
