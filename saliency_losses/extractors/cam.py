"""Class Activation Mapping."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saliency_losses.extractors.anatomy import Anatomy
from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    Run,
    SaliencyExtractor,
    full_precision,
    gradients_on,
)
from saliency_losses.extractors.capture import Tap
from saliency_losses.extractors.gradient import gradient
from saliency_losses.extractors.head import Head, class_maps
from saliency_losses.extractors.modules import find_module
from saliency_losses.extractors.probe import Tapped, probe
from saliency_losses.extractors.score import Score, check_score, class_weights, find_logits, logits_of, scores

__all__ = ["CAM", "class_activation_map"]


def class_activation_map(maps: Tensor, weights: Tensor) -> Tensor:
    r"""The map of each explained class: :math:`S_b = \sum_k w_{bk} M_{bk}`.

    Args:
        maps: What the classifier says at each position, (B, \*s, C).
        weights: How the explained score sums the classes, (B, C) or (B, K, C).

    Returns:
        (B, \*s), or (B, K, \*s).
    """
    with full_precision(maps, weights) as (maps, weights):
        if weights.ndim == 2:
            return torch.einsum("b...c,bc->b...", maps, weights)
        return torch.einsum("b...c,bkc->bk...", maps, weights)


@EXTRACTORS.register("cam")
class CAM(SaliencyExtractor):
    r"""Class Activation Mapping: the classifier's weights times the tensor that feeds global pooling.

    .. math:: S(b, i) = \sum_c w_{k_b c}\, F(b, c, i)

    with neither bias nor ReLU. The pooled tensor is found on the first call and verified by the identity that
    makes CAM true: the map's mean over positions plus the bias is the logit. Sharded, low-rank and parametrised
    classifiers work; a model whose last convolution gives the class maps
    (SqueezeNet) is its own CAM. Needs no gradient, hence costs next to nothing.

    Args:
        score: The class to explain, see :data:`~saliency_losses.extractors.score.Score`; the published CYBORG code uses
            ``"predicted"``, its successors ``"true"``.
        layer: Take the features from this layer instead (the published CYBORG code taps the last convolution,
            before its normalisation); the identity is not verified then.
        head: Name of the classifier, where the model has several.

    Raises:
        ValueError: On a call: the model is not pooling plus a linear classifier; the message names the layers that
            ``grad_cam`` can use.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2))
        >>> CAM()(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016; as a training signal: Boyd
        et al., CYBORG: Blending Human Saliency Into the Loss Improves Deep Learning, WACV 2023.
    """

    def __init__(self, *, score: Score = "true", layer: str | None = None, head: str | None = None) -> None:
        super().__init__()
        self.score = check_score(score)
        self.layer = layer
        self.head = head
        self.order = 2 if callable(score) else 1

    def forward(
        self, model: torch.nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None
    ) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        tapped = probe(model, inputs, run, self.layer, self._tap, leaf=False)
        head = self._head(tapped.anatomy)
        axis = tapped.channel_axis if self.layer else head.channel_axis
        classifier = find_module(model, head.classifier) if head.classifier else None
        maps = class_maps(tapped.tensor, axis, classifier, head.rank)
        saliency = class_activation_map(maps, self._weights(tapped, head, classes))
        return Explanation(tapped.output, saliency)

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        shown = [f"score={self.score!r}"] + [f"{n}={v!r}" for n in ("layer", "head") if (v := getattr(self, n))]
        return ", ".join(shown)

    def _tap(self, anatomy: Anatomy) -> tuple[Tap, int]:
        head = self._head(anatomy)
        return head.tap, head.channel_axis

    def _head(self, anatomy: Anatomy) -> Head:
        if self.head is not None:
            if self.head in anatomy.heads:
                return anatomy.heads[self.head]
            raise ValueError(
                f"head={self.head!r} is not a linear classifier behind global pooling; those of this model: "
                f"{sorted(map(str, anatomy.heads)) or 'none'}."
            )
        if anatomy.main is not None:
            return anatomy.main
        if len(anatomy.heads) > 1:
            raise ValueError(
                f"The model has several classifiers: {sorted(map(str, anatomy.heads))}. Choose one: CAM(head=...)."
            )
        raise ValueError(
            "CAM needs global average pooling followed by one linear classifier, but of this model "
            f"{anatomy.why_no_head}. {anatomy.instead()}"
        )

    def _weights(self, tapped: Tapped, head: Head, classes: Tensor | None) -> Tensor:
        """How the explained score sums the logits; for a callable, its gradient at the logits."""
        if not callable(self.score):
            return class_weights(self.score, self._logits(tapped, head), classes)
        leaves, layout = pytree.tree_flatten(tapped.output)
        if head.leaf is None or layout != tapped.anatomy.layout:
            raise ValueError(
                "A callable score needs the logits among the tensors of the output, but "
                f"{type(tapped.output).__name__} is not a pytree of tensors that keeps its form; use forward= to "
                "return them, or extractor='grad_cam'."
            )
        keep = torch.is_grad_enabled()
        with gradients_on() as usable:
            logits = usable(leaves[head.leaf])
            leaves[head.leaf] = logits if logits.requires_grad else logits.detach().requires_grad_()
            value = scores(self.score, pytree.tree_unflatten(leaves, layout), usable(classes))
            weights = gradient(value, leaves[head.leaf], "the logits", create_graph=keep)
        batch = len(logits)
        return weights.reshape(batch, -1) if value.ndim == 1 else weights.reshape(batch, value.shape[1], -1)

    @staticmethod
    def _logits(tapped: Tapped, head: Head) -> Tensor:
        """What the head gave, (B, C)."""
        if head is tapped.anatomy.main and find_logits(tapped.output) is not None:
            return logits_of(tapped.output)
        leaves, layout = pytree.tree_flatten(tapped.output)
        if head.leaf is None or layout != tapped.anatomy.layout:
            raise ValueError(
                "The model's output does not hold the logits of this classifier in a form that stays the same; return "
                "it as 'logits', use forward=, or extractor='grad_cam' with a callable score."
            )
        return logits_of(leaves[head.leaf])
