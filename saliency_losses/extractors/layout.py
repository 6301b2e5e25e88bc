"""How to read a layer's output as channels and positions."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where the channels of a layer are, or a function that brings them first."""

    channel_axis: int | None
    reshape: Callable[[Tensor], Tensor] | None = None
    name: str | None = None

    def read(self, tensor: Tensor) -> Tensor:
        r"""The layer's output, or its gradient, as (B, C, \*s)."""
        axis = self.channel_axis
        if self.reshape is not None:
            tensor = self.reshape(tensor)
        elif tensor.ndim > 2 and axis is None:
            raise ValueError(
                f"Nothing tells where the channels of layer {self.name!r} are, whose output has shape "
                f"{tuple(tensor.shape)}. Say so: GradCAM(layer=..., reshape=lambda t: ...) to (B, C, *positions)."
            )
        elif axis is not None:
            tensor = tensor.movedim(axis, 1)
        if tensor.ndim < 3:
            raise ValueError(
                f"Layer {self.name!r} gives shape {tuple(tensor.shape)}, expected (B, C, *positions); choose a layer "
                "with positions (list_layers(model, images)) or bring reshape=."
            )
        return tensor
