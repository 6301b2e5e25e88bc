"""The layers of a model as one forward pass shows them: which have positions, and where their channels are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["Layer", "Record", "last_layer", "spatial_layers"]

# These only move or drop what another layer computed, so a map of them is better taken one layer before.
_LAYOUT_ONLY = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
)
_CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)


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


@dataclass(eq=False)
class Record:
    """One call of a module that returned a tensor with more than two axes.

    Attributes:
        name: Of the module.
        module: The module.
        calls: How often the module was called in all.
        tensor: What it returned.
        version: How often that had been changed in place when it was returned.
    """

    name: str
    module: nn.Module
    calls: int
    tensor: Tensor
    version: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output."""
        return tuple(self.tensor.shape)


def version(tensor: Tensor) -> int:
    """How often the tensor was changed in place; inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version


def spatial_layers(records: list[Record]) -> Iterator[Layer]:
    """The layers called once whose output has positions, in the order in which they finished."""
    for number, record in enumerate(records):
        if record.calls == 1 and record.shape[1:] and record.tensor[0].numel() > max(record.shape[1:]):
            yield Layer(record.name, record.shape, _channel_axis(records[: number + 1]))


def last_layer(records: list[Record], layers: tuple[Layer, ...]) -> tuple[Layer, Tensor] | None:
    """The last layer that computes something on positions, unless tokens follow; and its output as it still is."""
    by_name = {record.name: record for record in records}
    for layer in reversed(layers):
        record = by_name[layer.name]
        if isinstance(record.module, _LAYOUT_ONLY):
            continue
        if len(layer.shape) == 3 and layer.channel_axis == 2:
            return None
        if version(record.tensor) == record.version:
            return layer, record.tensor
    return None


def _channel_axis(records: list[Record]) -> int:
    """That of the last module inside the last layer whose type tells, and whose output has the layer's shape."""
    layer = records[-1]
    for inner in reversed(records):
        if inner.shape == layer.shape and f"{inner.name}.".startswith(f"{layer.name}."):
            axis = _own_channel_axis(inner.module, layer.shape)
            if axis is not None:
                return axis
    return 1


def _own_channel_axis(module: nn.Module, shape: tuple[int, ...]) -> int | None:
    if isinstance(module, nn.Linear):
        return len(shape) - 1
    if isinstance(module, nn.LayerNorm):
        normalised = tuple(module.normalized_shape)
        return len(shape) - 1 if normalised == shape[-len(normalised) :] else 1
    return 1 if isinstance(module, _CHANNELS_FIRST) else None
