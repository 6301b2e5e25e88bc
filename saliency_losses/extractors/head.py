"""The classifier behind global average pooling, applied to every position instead of to the mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_losses.extractors.capture import Captured, Tap, as_leaf, first_argument
from saliency_losses.extractors.modules import find_module

__all__ = [
    "Head",
    "HeadCall",
    "capture_head",
    "class_maps",
    "has_hooks",
    "is_plain",
    "why_not_linear",
    "why_not_this_call",
]

# What may stand between pooling and logits: one of these, and nothing that bends.
_STRAIGHT = (nn.Linear, nn.modules.conv._ConvNd, nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)
_BENT = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.MultiheadAttention,
)


@dataclass(frozen=True)
class Head:
    """Global average pooling and what turns the pooled vector into logits.

    Attributes:
        tap: Where the tensor that is pooled can be had.
        channel_axis: Where that tensor has its channels.
        classifier: Name of the linear module behind the pooling; ``None`` where the pooled vector is the logits.
        call: Which call of the classifier in one forward pass, from 1.
        rank: Number of dimensions of what the classifier takes: 2, or the map's own for a 1x1 convolution.
        shape: Of one sample of the tapped tensor when the head was verified.
    """

    tap: Tap
    channel_axis: int
    classifier: str | None
    call: int
    rank: int
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """What ``CAM(head=...)`` calls it."""
        return f"{self.classifier}" if self.call == 1 else f"{self.classifier}, call {self.call}"


@dataclass
class HeadCall:
    r"""What a classifier did in one forward pass.

    Attributes:
        pooled: What it was called with.
        output: What it returned.
        maps: What it says at each position, without bias, (B, \*s, C).
        bias: What it says of nothing, (C,).
    """

    pooled: Tensor
    output: Tensor
    maps: Tensor
    bias: Tensor

    @property
    def logits(self) -> Tensor:
        """(B, C)."""
        return self.output.reshape(len(self.output), -1)


def class_maps(features: Tensor, channel_axis: int, classifier: nn.Module, rank: int) -> tuple[Tensor, Tensor]:
    r"""What the classifier says at each position, and its bias.

    A plain linear layer is applied without its bias; anything else is called, never read, so that low-rank and sharded
    weights work, and what it says of zero is taken off. Under autocast the computation stays in float32.

    Args:
        features: The tensor that is pooled.
        channel_axis: Where it has its channels.
        classifier: Linear.
        rank: Of the classifier's input.

    Returns:
        (B, \*s, C) and (C,); the mean over positions plus the bias is the logit.
    """
    rows = features.movedim(channel_axis, -1)
    with torch.autocast(features.device.type, enabled=False):
        if is_plain(classifier):
            weight, bias = classifier.weight, classifier.bias
            dtype = torch.promote_types(torch.promote_types(features.dtype, weight.dtype), torch.float32)
            nothing = weight.new_zeros(len(weight)) if bias is None else bias
            return F.linear(rows.to(dtype), weight.to(dtype)), nothing.to(dtype)
        call = classifier.forward if not _is_sharded(classifier) else classifier
        dtype = next((p.dtype for p in classifier.parameters() if p.is_floating_point()), features.dtype)
        rows = rows.to(dtype)
        if rank > 2:
            bias = call(rows.new_zeros(1, rows.shape[-1], *[1] * (rank - 2))).flatten()
            maps = call(rows.movedim(-1, 1)).movedim(1, -1)
        else:
            bias = call(rows.new_zeros(1, rows.shape[-1])).flatten()
            maps = call(rows.reshape(-1, rows.shape[-1])).reshape(*rows.shape[:-1], -1)
        return maps - bias, bias


@contextmanager
def capture_head(model: nn.Module, head: Head, features: Captured, *, leaf: bool) -> Iterator[list[HeadCall]]:
    """Capture the head's call of whatever call of ``model`` happens inside the block.

    The maps are made at that moment, from the weights that are in force then.

    Args:
        model: The model, in whatever wrappers.
        head: Which classifier, and which of its calls.
        features: Holds the tapped tensor by then.
        leaf: Whether the logits must be differentiable with respect to, even if all parameters are frozen.
    """
    calls: list[HeadCall] = []
    if head.classifier is None:
        yield calls
        return
    count = 0

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        nonlocal count
        count += 1
        if count != head.call or not isinstance(output, Tensor):
            return None
        copy = as_leaf(output) if leaf else None
        maps, bias = class_maps(features.tensor, head.channel_axis, module, head.rank)
        calls.append(HeadCall(first_argument(args, kwargs), output if copy is None else copy, maps, bias))
        return None if copy is None else copy.clone()

    handle = find_module(model, head.classifier).register_forward_hook(hook, with_kwargs=True, prepend=True)
    try:
        yield calls
    finally:
        handle.remove()


@torch.no_grad()
def why_not_linear(classifier: nn.Module, pooled: Tensor) -> str | None:
    """Why a module is not one linear layer, or ``None``.

    It is judged by its parts, and unless it is a plain linear layer by whether it is additive, on random vectors of
    several sizes, since on those of a fresh network anything looks straight.

    Args:
        classifier: The module.
        pooled: What it was called with.
    """
    if is_plain(classifier):
        return None
    parts = [module for module in classifier.modules() if not list(module.children())]
    named = f"what stands between the pooling and the logits ({', '.join(type(part).__name__ for part in parts)})"
    known = [part for part in parts if type(part).__module__.startswith("torch.nn.modules")]
    bent = [part for part in known if not isinstance(part, _STRAIGHT)] + [p for p in parts if isinstance(p, _BENT)]
    if bent or any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in parts):
        return f"{named} is not one linear layer"
    generator = torch.Generator().manual_seed(0)
    shape = (8, *pooled.shape[1:])
    size = float(pooled.abs().amax()) or 1.0
    dtype = pooled.dtype
    with torch.autocast(pooled.device.type, enabled=False):
        for factor in (1.0, 30.0):
            x, y = ((factor * size * torch.randn(shape, generator=generator)).to(pooled) for _ in range(2))
            try:
                nothing = classifier.forward(torch.zeros_like(x[:1]))
                parted = classifier.forward(x) + classifier.forward(y) - nothing
                whole = classifier.forward(x + y)
            except (RuntimeError, ValueError, TypeError) as error:
                return f"{named} cannot be called apart: {error}"
            tolerance = {torch.float64: 1e-8, torch.float32: 1e-3}.get(dtype, 5e-2)
            if float((parted - whole).abs().amax()) > tolerance * float(
                (whole - nothing).abs().amax().clamp_min(1e-30)
            ):
                return f"{named} is not linear"
    return None


@torch.no_grad()
def why_not_this_call(call: HeadCall, features: Tensor, channel_axis: int, logits: Tensor | None) -> str | None:
    """Why the identity behind CAM does not hold in this forward pass, or ``None``.

    The mean of the maps plus the bias must be the logits that the model returned. Where dropout lies between, what the
    classifier read must be the mean of the map but for dropped and scaled channels.

    Args:
        call: Of the classifier.
        features: The tensor that was pooled.
        channel_axis: Where it has its channels.
        logits: What the model returned, or ``None`` if another output was chosen.
    """
    narrow = {torch.float64: 1e-8, torch.float32: 1e-4}
    positions = tuple(axis for axis in range(1, features.ndim) if axis != channel_axis)
    mean = features.double().mean(positions)
    pooled = call.pooled.double().reshape(len(mean), -1)
    tolerance = max(narrow.get(tensor.dtype, 3e-2) for tensor in (features, call.pooled, call.output))
    size = features.double().abs().amax((*positions, channel_axis)).clamp_min(1e-30).unsqueeze(1)
    if logits is not None and not torch.equal(logits.reshape(-1), call.output.reshape(-1)):
        return "the logits are not what its classifier returned in this call"
    if pooled.shape != mean.shape:
        return "its classifier reads something else than one pooled vector per sample"
    if bool(((pooled - mean).abs() > tolerance * size).any()):
        kept = (pooled != 0) & (mean.abs() > 10 * tolerance * size)
        scale = pooled[kept] / mean[kept]
        if (kept.any() and float(scale.amax() - scale.amin()) > 0.2 * float(scale.mean().abs())) or bool(
            (scale < 1).any()
        ):
            return "what its classifier reads is not the mean of a feature map"
        return None
    got = call.maps.double().mean(tuple(range(1, call.maps.ndim - 1))) + call.bias.double()
    range_ = call.maps.double().abs().amax(tuple(range(1, call.maps.ndim))) + call.bias.double().abs().amax()
    miss = ((got - call.logits.double()).abs().amax(1) / range_.clamp_min(1e-30)).amax()
    if float(miss) > tolerance:
        return f"its classifier is not linear: the map's mean plus the bias misses the logit by {float(miss):.1%}"
    return None


def is_plain(classifier: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether this is a linear layer that does what its weight says: not sharded, quantised or patched."""
    if not isinstance(classifier, nn.Linear) or type(classifier).forward is not nn.Linear.forward:
        return False
    if "forward" in vars(classifier):
        return False
    weight = classifier.weight
    return type(weight.data) is Tensor and tuple(weight.shape) == (classifier.out_features, classifier.in_features)


def has_hooks(classifier: nn.Module) -> bool:
    """Whether somebody hooked the module, and may change what goes in or comes out."""
    return bool(classifier._forward_hooks or classifier._forward_pre_hooks)


def _is_sharded(classifier: nn.Module) -> bool:
    return any(type(parameter.data) is not Tensor for parameter in classifier.parameters())
