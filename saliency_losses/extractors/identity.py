"""The identity that makes CAM true: the map's mean over positions plus the bias is the logit."""

import torch
from torch import Tensor, nn

from saliency_losses.extractors.base import full_precision
from saliency_losses.extractors.head import HeadCall, is_linear

__all__ = ["why_not_linear", "why_not_this_call"]

# What may stand between pooling and logits: one of these, and nothing that bends.
_STRAIGHT = (nn.Linear, nn.modules.conv._ConvNd, nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)
_BENT = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.MultiheadAttention,
)


# By precision: how far results may be apart that are the same but for rounding, relative to the terms of their sums.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@torch.no_grad()
def why_not_linear(classifier: nn.Module, pooled: Tensor) -> str | None:
    """Why a module is not one linear layer, or ``None``.

    It is judged by its parts, and unless it is a plain linear layer by whether it is additive, on random vectors of
    several sizes, since on those of a fresh network anything looks straight.

    Args:
        classifier: The module.
        pooled: What it was called with.
    """
    if is_linear(classifier):
        return None
    parts = [module for module in classifier.modules() if not list(module.children())]
    named = f"what stands between the pooling and the logits ({', '.join(type(part).__name__ for part in parts)})"
    known = [part for part in parts if type(part).__module__.startswith("torch.nn.modules")]
    bends = any(not isinstance(part, _STRAIGHT) for part in known) or any(isinstance(part, _BENT) for part in parts)
    if bends or any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in parts):
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
def why_not_this_call(call: HeadCall, logits: Tensor | None, *, dropout: bool) -> str | None:
    """Why the identity behind CAM does not hold in this forward pass, or ``None``.

    The logits must be what the classifier returned, what it read must be the mean of the features, and what it does
    must be what its map does: sum, and add a bias. With dropout between, channels of the mean may be dropped, and the
    others scaled.

    Args:
        call: Of the classifier.
        logits: What the model returned, or ``None`` if another output was chosen.
        dropout: Whether dropout in train mode lies between.
    """
    if not bool(call.output.isfinite().all()):
        return None  # a loss that is not finite shows by itself
    if logits is not None and not torch.equal(logits.reshape(-1), call.output.reshape(-1)):
        return "the logits are not what its classifier returned in this call"
    tolerance = max(_TOLERANCE.get(tensor.dtype, 2e-2) for tensor in (call.features, call.pooled, call.output))
    with full_precision(call.features, call.pooled) as (features, pooled):
        positions = tuple(range(1, features.ndim - 1))
        mean, size = features.mean(positions), features.abs().mean(positions)
        if pooled.numel() != mean.numel():
            return "its classifier reads something else than one pooled vector per sample"
        pooled = pooled.reshape(mean.shape)
    changed = (pooled - mean).abs() > tolerance * size
    if bool(changed.any()):
        kept = (pooled != 0) & (mean.abs() > 10 * tolerance * size)
        scale = pooled[kept] / mean[kept]
        even = not bool(kept.any()) or (scale.amax() <= 1.2 * scale.amin() and scale.amin() >= 1.0 - 2 * tolerance)
        if not (dropout and even):
            return "what its classifier reads is not the mean of a feature map"
    if call.weight is not None:
        got, bias = call.maps(pooled)
        with full_precision(pooled, call.weight) as (inputs, weight):
            scope = inputs.abs() @ weight.abs().T + bias.abs()
    elif bool(changed.any()):
        return None  # a classifier that must be called again would draw other random numbers, or change
    else:
        maps, bias = call.maps()
        positions = tuple(range(1, maps.ndim - 1))
        got, scope = maps.mean(positions), maps.abs().mean(positions) + bias.abs()
    with full_precision(got + bias, call.logits, scope) as (got, given, scope):
        miss = float(((got - given).abs() / scope.amax(1, keepdim=True).clamp_min(1e-30)).amax())
    if miss > 2 * tolerance:
        return f"its classifier is not linear: the map's mean plus the bias misses the logit by {miss:.1%} of its terms"
    return None
