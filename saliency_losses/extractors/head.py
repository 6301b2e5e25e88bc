"""The classifier behind global average pooling, applied to every position instead of to the mean."""

from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_losses.extractors.capture import Tap

__all__ = ["Head", "class_maps", "why_not_linear"]


@dataclass(frozen=True)
class Head:
    """Global average pooling and what turns the pooled vector into logits.

    Attributes:
        tap: Where the tensor that is pooled can be had.
        channel_axis: Where that tensor has its channels.
        classifier: Name of the linear module behind the pooling; ``None`` where the pooled vector is the logits.
        rank: Number of dimensions of what the classifier takes: 2, or the map's own for a 1x1 convolution.
        leaf: Which tensor of the model's output, in pytree order, holds these logits; ``None`` if not known.
    """

    tap: Tap
    channel_axis: int
    classifier: str | None
    rank: int
    leaf: int | None


def class_maps(features: Tensor, channel_axis: int, classifier: nn.Module | None, rank: int = 2) -> Tensor:
    r"""What the classifier says at each position, without its bias.

    A plain linear layer is applied without its bias; anything else is called, never read, so that sharded, low-rank and
    parametrised weights work, and what it says of zero is taken off. Under autocast the computation stays in float32.

    Args:
        features: The tensor that is pooled.
        channel_axis: Where it has its channels.
        classifier: Linear, or ``None`` for the identity.
        rank: Of the classifier's input.

    Returns:
        (B, \*s, C); the mean over positions plus the bias is the logit.
    """
    if classifier is None:
        return features.movedim(channel_axis, -1)
    device = features.device.type
    if torch.is_autocast_enabled(device):
        features = features.float()
    with torch.autocast(device, enabled=False):
        if _is_plain(classifier):
            return F.linear(features.movedim(channel_axis, -1), classifier.weight)
        return _apply(classifier, features, channel_axis, rank) - _bias(classifier, features, channel_axis, rank)


@torch.no_grad()
def why_not_linear(
    features: Tensor, pooled: Tensor, channel_axis: int, classifier: nn.Module | None, rank: int
) -> str | None:
    """Why the identity behind CAM does not hold, or ``None``: the mean of the maps plus the bias is the logit.

    It is tested on the pooled vector, before any dropout. Modules that would change by being called, or draw random
    numbers, are refused without calling them.
    """
    if classifier is None:
        return None
    between = "what stands between the pooling and the logits"
    parts = [module for module in classifier.modules() if not list(module.children())]
    if len(parts) > 1:
        between += f" ({', '.join(type(part).__name__ for part in parts)})"
    changing = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    if any(isinstance(part, changing) and getattr(part, "p", 1) > 0 for part in parts):
        return f"{between} is not one linear layer"
    channels = features.shape[channel_axis]
    if torch.is_autocast_enabled(features.device.type):
        features = features.float()
    with torch.autocast(features.device.type, enabled=False):
        try:
            maps = class_maps(features, channel_axis, classifier, rank)
            vector = pooled.to(features.dtype).reshape(-1, channels, *[1] * (rank - 2))
            expected = _apply(classifier, vector, 1, rank).reshape(len(maps), -1)
            bias = _bias(classifier, features, channel_axis, rank)
        except (RuntimeError, ValueError, TypeError) as error:
            return f"{between} does not work at single positions: {error}"
    got = maps.mean(tuple(range(1, maps.ndim - 1))) + bias
    tolerance = {torch.float64: 1e-8, torch.float32: 1e-4}.get(pooled.dtype, 3e-2)
    miss = float((got - expected).abs().max() / (maps.abs().amax() + bias.abs().amax()).clamp_min(1e-30))
    if miss <= tolerance:
        return None
    return f"{between} is not linear: the map's mean plus the bias misses the logit by {miss:.1%} of its range"


def _is_plain(classifier: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether this is a linear layer and nothing else: not sharded, quantised, parametrised or adapted."""
    if type(classifier) is not nn.Linear:
        return False
    whole = tuple(classifier.weight.shape) == (classifier.out_features, classifier.in_features)
    return type(classifier.weight) is nn.Parameter and type(classifier.weight.data) is Tensor and whole


def _apply(classifier: nn.Module, features: Tensor, channel_axis: int, rank: int) -> Tensor:
    """The classifier at each position, channels last."""
    result: Tensor
    if rank > 2:
        result = classifier(features.movedim(channel_axis, 1))
        return result.movedim(1, -1)
    rows = features.movedim(channel_axis, -1)
    result = classifier(rows.reshape(-1, rows.shape[-1]))
    return result.reshape(*rows.shape[:-1], -1)


def _bias(classifier: nn.Module, features: Tensor, channel_axis: int, rank: int) -> Tensor:
    nothing = features.new_zeros(1, features.shape[channel_axis], *[1] * (rank - 2))
    return _apply(classifier, nothing, 1, rank).flatten()
