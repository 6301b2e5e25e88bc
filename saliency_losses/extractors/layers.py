"""The layers of a model as one forward pass shows them: which have positions, and where their channels are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from saliency_losses.extractors.pooling import version

__all__ = ["Layer", "Record", "last_layer", "read_layers"]

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
        channel_axis: Which axis holds channels: 1 for convolutions, the last one for tokens.
    """

    name: str
    shape: tuple[int, ...]
    channel_axis: int

    @property
    def positions(self) -> tuple[int, ...]:
        """The shape of a map of this layer."""
        return _without(self.shape, self.channel_axis)


@dataclass(eq=False)
class Record:
    """One call of a module that returned a tensor with more than two axes.

    Attributes:
        name: Of the module.
        module: The module.
        tensor: What it returned.
        version: How often that had been changed in place when it was returned.
        axis: Where its channels are; ``None`` if nothing tells.
    """

    name: str
    module: nn.Module
    tensor: Tensor
    version: int
    axis: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output."""
        return tuple(self.tensor.shape)


def read_layers(records: list[Record], calls: dict[str, int]) -> Iterator[Layer]:
    """The layers called once of which something tells where the channels are, in the order in which they finished.

    Args:
        records: Of all calls, in order; their ``axis`` is filled in.
        calls: How often each module was called.
    """
    for number, record in enumerate(records):
        record.axis = _channel_axis(records[:number], record)
        if record.axis is not None and calls[record.name] == 1:
            yield Layer(record.name, record.shape, record.axis)


def last_layer(records: list[Record], layers: tuple[Layer, ...]) -> tuple[Layer, Tensor] | None:
    """The last layer that computes channels at several positions, unless tokens follow, and its output."""
    by_name = {record.name: record for record in records}
    for layer in reversed(layers):
        record = by_name[layer.name]
        if isinstance(record.module, _LAYOUT_ONLY) or layer.shape[layer.channel_axis] == 1:
            continue
        if set(layer.positions) == {1}:
            continue
        if len(layer.shape) == 3 and layer.channel_axis == 2:
            return None
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
    if found:
        ambiguous = len(set(record.shape[1:])) == 1 and len(set(found)) > 1
        return None if ambiguous else found[0]
    for other in reversed(before):
        axis = _axis_in_view(other, record)
        if axis is not None:
            return axis
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
