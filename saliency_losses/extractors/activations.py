"""What extractors of a layer's activation share: reading layers as channels and positions, and fusing their maps."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_losses.divergences.normalize import minmax
from saliency_losses.extractors.base import Explanation, LayerExplanation, Run, SaliencyExtractor, full_precision
from saliency_losses.extractors.layout import Reshape, check_reshape
from saliency_losses.extractors.modules import check_layer
from saliency_losses.extractors.probe import probe

__all__ = [
    "ActivationExtractor",
    "Fuse",
    "Layers",
    "check_fuse",
    "check_layers",
    "explained",
    "fuse_maps",
    "layer_names",
]

Fuse = Literal["mean", "max", "each"]
Layers = str | Sequence[str] | None

_INTERPOLATE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def check_fuse(fuse: Fuse) -> Fuse:
    """``fuse`` itself, if it is a way to fuse maps.

    Raises:
        ValueError: It is not.
    """
    if fuse not in get_args(Fuse):
        raise ValueError(f"fuse must be one of {', '.join(get_args(Fuse))}, got {fuse!r}.")
    return fuse


def check_layers(layer: Layers) -> Layers:
    """``layer`` itself, if it is a name, several, or ``None``.

    Raises:
        TypeError: It is neither.
        ValueError: It names no layer, or one twice.
    """
    if layer is None or isinstance(layer, str) or not isinstance(layer, Sequence):
        return check_layer(layer)
    for name in layer:
        check_layer(name)
    if not layer or len(set(layer)) < len(layer):
        raise ValueError(f"layer must name one layer or several different ones, got {list(layer)}.")
    return list(layer)


def layer_names(layer: Layers) -> list[str | None]:
    """The layers one by one; ``None`` is the automatic one."""
    return [layer] if layer is None or isinstance(layer, str) else list(layer)


def fuse_maps(maps: Sequence[Tensor], fuse: Fuse, lead: int = 1) -> Tensor:
    r"""One map from those of several layers, each scaled to [0, 1] first, at the size of the largest.

    Args:
        maps: Each (B, \*s) or (B, K, \*s), with as many positions axes.
        fuse: By ``"mean"`` or ``"max"``; ``"each"`` is compared one by one, and shown as the mean.
        lead: How many axes come before the positions.

    Returns:
        The fused map; of one map the map itself.

    Raises:
        ValueError: The maps differ in their number of axes.

    Example:
        >>> fuse_maps([torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 0.0]])], "mean")
        tensor([[0.5000, 0.5000]])
    """
    if len(maps) == 1:
        return maps[0]
    if len({saliency.ndim for saliency in maps}) > 1:
        shapes = ", ".join(str(tuple(saliency.shape[lead:])) for saliency in maps)
        raise ValueError(f"Maps of sizes {shapes} cannot be fused; choose layers with equally many axes.")
    size = max((saliency.shape[lead:] for saliency in maps), key=lambda shape: shape.numel())
    scaled = []
    for saliency in maps:
        flat = saliency.flatten(0, lead - 1)
        unit = minmax(flat.flatten(1)).view_as(flat)
        if unit.shape[1:] != size:
            mode = _INTERPOLATE[len(size)]
            unit = F.interpolate(unit.unsqueeze(1), size=tuple(size), mode=mode, align_corners=False).squeeze(1)
        scaled.append(unit.view(*saliency.shape[:lead], *size))
    together = torch.stack(scaled)
    return together.amax(0) if fuse == "max" else together.mean(0)


def explained(output: Any, maps: Sequence[Tensor], fuse: Fuse, lead: int) -> Explanation:
    """The explanation that the maps of several layers make; see :func:`fuse_maps`."""
    fused = fuse_maps(maps, fuse, lead)
    return LayerExplanation.of(output, fused, maps) if fuse == "each" else Explanation(output, fused)


class ActivationExtractor(SaliencyExtractor, ABC):
    r"""An extractor that reads where a model looks off a layer's activation alone.

    Implement :meth:`read`.

    Args:
        layer: Dotted name, or several, whose maps are fused. By default what feeds global pooling, else the last layer
            with several channels and positions that the score depends on.
        reshape: How to read the layer's output, where that cannot be told; see
            :data:`~saliency_losses.extractors.layout.Reshape`.
        fuse: How the maps of several layers become one: ``"mean"`` or ``"max"`` after scaling each to [0, 1], or
            ``"each"`` to have the loss compare all of them.

    Raises:
        ValueError: On a call: the layer does not exist, is not called or called twice, or has no positions.
    """

    order = 1
    needs = "activations"
    compiles = True

    def __init__(self, *, layer: Layers = None, reshape: Reshape = None, fuse: Fuse = "mean") -> None:
        super().__init__()
        self.layer = check_layers(layer)
        self.reshape = check_reshape(reshape)
        self.fuse = check_fuse(fuse)

    @abstractmethod
    def read(self, activation: Tensor) -> Tensor:
        """The map.

        Args:
            activation: (B, C, N), in at least float32.

        Returns:
            (B, N).
        """

    def forward(self, model: nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        tapped = probe(model, inputs, run, layer_names(self.layer), reshape=self.reshape)
        maps = []
        for tensor, layout in zip(tapped.tensors, tapped.layouts, strict=True):
            activation = layout.read(tensor)
            with full_precision(activation) as (activation,):
                saliency = self.read(activation.flatten(2)).view(len(activation), *activation.shape[2:])
            if isinstance(classes, Tensor) and classes.ndim == 2 and not classes.is_floating_point():
                saliency = saliency.unsqueeze(1).expand(-1, classes.shape[1], *saliency.shape[1:])
            maps.append(saliency)
        lead = maps[0].ndim - activation.ndim + 2
        return explained(tapped.output, maps, self.fuse, lead)
