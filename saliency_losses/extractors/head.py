"""The classifier behind global average pooling, applied to every position instead of to the mean."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_losses.extractors.base import full_precision
from saliency_losses.extractors.capture import Captured, Tap, as_leaf, first_argument
from saliency_losses.extractors.layout import Tokens
from saliency_losses.extractors.modules import find_module

__all__ = [
    "Head",
    "HeadCall",
    "capture_head",
    "class_activation_map",
    "has_hooks",
    "is_linear",
    "is_sharded",
    "pooled_call",
]


@dataclass(frozen=True)
class Head:
    """Global average pooling and what turns the pooled vector into logits.

    Attributes:
        tap: Where the tensor that is pooled can be had.
        channel_axis: Where that tensor has its channels.
        classifier: Name of the linear module behind the pooling; ``None`` where the pooled vector is the logits.
        call: Which call of the classifier in one forward pass, from 1.
        shape: Of one sample of the tapped tensor when the head was verified.
        dropout: Whether dropout lies between pooling and classifier, in this mode.
        tokens: Which of the pooled positions are patches of which grid; ``None`` where they are no tokens.
    """

    tap: Tap
    channel_axis: int
    classifier: str | None
    call: int
    shape: tuple[int, ...]
    dropout: bool
    tokens: Tokens | None = None

    @property
    def positions(self) -> int:
        """How many positions are pooled."""
        return math.prod(self.shape) // self.shape[self.channel_axis - 1]

    @property
    def name(self) -> str:
        """What ``CAM(head=...)`` calls it."""
        if self.classifier is None:
            return "the pooled map itself"
        return self.classifier if self.call == 1 else f"{self.classifier}, call {self.call}"


@dataclass
class HeadCall:
    r"""What a classifier did in one forward pass.

    A plain linear layer is kept as its weight, as it was in force during the call, so that only the explained classes
    are ever applied to the positions. Anything else is called, never read, at every position, and what it says of zero
    is taken off; that serves low-rank and sharded weights.

    Attributes:
        features: What was pooled, channels last, (B, \*s, F).
        pooled: What the classifier was called with.
        output: What it returned.
        weight: (C, F), or ``None``.
        maker: Gives the maps of features without bias, (B, \*s, C), and the bias, (C,).
        made: What it gave for :attr:`features`, where that had to be asked at once.
    """

    features: Tensor
    pooled: Tensor
    output: Tensor
    weight: Tensor | None
    maker: Callable[[Tensor], tuple[Tensor, Tensor]]
    made: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(
        cls,
        classifier: nn.Module,
        features: Tensor,
        axis: int,
        pooled: Tensor,
        output: Tensor,
        *,
        at_once: bool,
        sharded: bool,
    ) -> "HeadCall":
        """The call of ``classifier`` with ``pooled``, the mean of ``features`` over positions.

        Args:
            classifier: Linear.
            features: With channels at ``axis``.
            axis: See there.
            pooled: What the classifier got.
            output: What it gave.
            at_once: Make the maps now, while the weights are in force that may be gone later.
            sharded: Whether the weights are whole only during a call, so that another call must be made.
        """
        rows = features.movedim(axis, -1)
        if is_plain(classifier) and not sharded:
            weight, bias = classifier.weight, classifier.bias
            return cls(rows, pooled, output, weight, partial(_maps_by_weight, weight, bias))
        maker = partial(_maps_by_calling, classifier, pooled.ndim)
        return cls(rows, pooled, output, None, maker, maker(rows) if at_once and not sharded else None)

    @property
    def logits(self) -> Tensor:
        """(B, C)."""
        return self.output.reshape(len(self.output), -1)

    def maps(self, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""What the classifier says at each position, without bias, (B, \*s, C), and its bias, (C,)."""
        if features is not None:
            return self.maker(features)
        return self.maker(self.features) if self.made is None else self.made

    def explain(self, weights: Tensor, features: Tensor | None = None) -> Tensor:
        r"""The map of classes summed by ``weights``, (B, C) or (B, K, C): (B, \*s) or (B, K, \*s)."""
        if self.weight is None:
            return class_activation_map(self.maps(features)[0], weights)
        with full_precision(weights, self.weight) as (weights, weight):
            return class_activation_map(self.features if features is None else features, weights @ weight)


def class_activation_map(features: Tensor, weights: Tensor) -> Tensor:
    r"""The weighed sum over the last axis at each position: :math:`S_b = \sum_c w_{bc} F_{bc}`.

    Args:
        features: (B, \*s, F).
        weights: (B, F) or (B, K, F).

    Returns:
        (B, \*s), or (B, K, \*s).
    """
    with full_precision(features, weights) as (features, weights):
        if weights.ndim == 2:
            return torch.einsum("b...c,bc->b...", features, weights)
        return torch.einsum("b...c,bkc->bk...", features, weights)


def pooled_call(features: Tensor, axis: int, logits: Tensor | None) -> HeadCall:
    """The call of no classifier: the pooled features are the logits."""
    rows = features.movedim(axis, -1)
    pooled = rows.mean(tuple(range(1, rows.ndim - 1)))
    bias = rows.new_zeros(rows.shape[-1])
    return HeadCall(rows, pooled, pooled if logits is None else logits, None, lambda features: (features, bias))


def _maps_by_weight(weight: Tensor, bias: Tensor | None, features: Tensor) -> tuple[Tensor, Tensor]:
    with full_precision(features, weight) as (features, weight):
        return F.linear(features, weight), weight.new_zeros(len(weight)) if bias is None else bias.to(weight.dtype)


def _maps_by_calling(classifier: nn.Module, rank: int, features: Tensor) -> tuple[Tensor, Tensor]:
    call = classifier if is_sharded(classifier) else classifier.forward
    dtype = next((p.dtype for p in classifier.parameters() if p.is_floating_point()), features.dtype)
    with torch.autocast(features.device.type, enabled=False):
        features = features.to(dtype)
        bias = call(features.new_zeros(1, features.shape[-1], *[1] * (rank - 2))).flatten()
        if rank > 2:
            maps = call(features.movedim(-1, 1)).movedim(1, -1)
        else:
            maps = call(features.reshape(-1, features.shape[-1])).reshape(*features.shape[:-1], -1)
        return maps - bias, bias


@contextmanager
def capture_head(model: nn.Module, head: Head, features: Captured, *, leaf: bool) -> Iterator[list[HeadCall]]:
    """Capture the head's call of whatever call of ``model`` happens inside the block.

    What the classifier says at the positions is taken from the weights that are in force at that moment.

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
        kept = output if copy is None else copy
        pooled = first_argument(args, kwargs)
        axis = head.channel_axis
        calls.append(HeadCall.of(module, features.tensor, axis, pooled, kept, at_once=True, sharded=sharded))
        return None if copy is None else copy.clone()

    classifier = find_module(model, head.classifier)
    sharded = is_sharded(classifier)
    handle = classifier.register_forward_hook(hook, with_kwargs=True, prepend=True)
    try:
        yield calls
    finally:
        handle.remove()


def is_linear(classifier: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether this is a linear layer that does what its weight says: not quantised, patched or adapted."""
    if not isinstance(classifier, nn.Linear) or "forward" in vars(classifier):
        return False
    return type(classifier).forward is nn.Linear.forward


def is_plain(classifier: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether this is such a layer, its weight whole and at hand."""
    if not is_linear(classifier):
        return False
    weight = classifier.weight
    return type(weight.data) is Tensor and tuple(weight.shape) == (classifier.out_features, classifier.in_features)


def has_hooks(classifier: nn.Module) -> bool:
    """Whether somebody hooked the module, and may change what goes in or comes out."""
    return bool(classifier._forward_hooks or classifier._forward_pre_hooks)


def is_sharded(classifier: nn.Module) -> bool:
    """Whether the weights are of a kind of their own, such as spread over processes."""
    return any(type(parameter.data) is not Tensor for parameter in classifier.parameters())
