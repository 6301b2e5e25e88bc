"""Class Activation Mapping."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from saliency_losses.extractors.anatomy import Anatomy
from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    Run,
    SaliencyExtractor,
    detached,
    gradients_on,
)
from saliency_losses.extractors.capture import Tap, capture
from saliency_losses.extractors.gradient import gradient
from saliency_losses.extractors.head import Head, HeadCall, class_activation_map
from saliency_losses.extractors.layout import Tokens
from saliency_losses.extractors.modules import check_layer
from saliency_losses.extractors.probe import probe_head
from saliency_losses.extractors.score import Score, check_score, class_weights, is_linear, scores

__all__ = ["CAM", "class_activation_map"]


@EXTRACTORS.register("cam")
class CAM(SaliencyExtractor):
    r"""Class Activation Mapping: the classifier's weights times the tensor that feeds global pooling.

    .. math:: S(b, i) = \sum_c w_{k_b c}\, F(b, c, i)

    with neither bias nor ReLU. The pooled tensor is found on the first call and verified by the identity that makes CAM
    true: the map's mean over positions plus the bias is the logit. That is done at every call on the CPU; elsewhere,
    where looking at numbers makes the device wait, at the first ten for each size of the features. Sharded, low-rank
    and parametrised classifiers work; a model whose last convolution gives the class maps (SqueezeNet) is its own CAM.
    Needs no gradient, hence costs next to nothing.

    Args:
        score: What to explain: ``"true"`` (the given class), ``"predicted"``, ``"contrast"`` (the given class minus the
            strongest other), a class index, or ``(output, targets)`` to (B,); see
            :data:`~saliency_losses.extractors.score.Score`. The published CYBORG code uses ``"predicted"``, its
            successors ``"true"``.
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
        self.layer = check_layer(layer)
        self.head = head
        self.order = 1 if is_linear(score) else 2
        self.compiles = is_linear(score) and layer is None

    def forward(
        self, model: torch.nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None
    ) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        if is_linear(self.score):
            return self._explain(model, inputs, classes, run, keep=False)
        keep = torch.is_grad_enabled()
        with gradients_on() as usable:
            inputs, classes = usable((inputs, classes))
            explanation = self._explain(model, inputs, classes, run, keep=keep)
        return explanation if keep else Explanation(*detached(tuple(explanation)))

    def _explain(
        self, model: torch.nn.Module, inputs: Any, classes: Any, run: Run | None, *, keep: bool
    ) -> Explanation:
        tap = nullcontext() if self.layer is None else capture(model, Tap(self.layer, "output"), leaf=False)
        with tap as features:
            output, head, call = probe_head(model, inputs, run, self._head, self.head, leaf=not is_linear(self.score))
        if is_linear(self.score):
            weights = class_weights(self.score, call.logits, classes)
        else:
            weights = self._weights(output, call, classes, keep=keep)
        rows = None if features is None else self._channels_last(features.tensor, head)
        saliency = call.explain(weights, rows)
        if rows is None and head.tokens is not None:
            saliency = self._on_grid(saliency, head.tokens)
        return Explanation(output, saliency)

    def _on_grid(self, saliency: Tensor, tokens: Tokens) -> Tensor:
        """The map of tokens, (B, N) or (B, K, N), as the grid of their patches."""
        several = saliency.ndim == 3
        grid = tokens.unfold(saliency if several else saliency.unsqueeze(1))
        return grid if several else grid.squeeze(1)

    def _channels_last(self, features: Tensor, head: Head) -> Tensor:
        channels = head.shape[head.channel_axis - 1]
        if features.ndim < 3 or features.shape[1] != channels:
            raise ValueError(
                f"Layer {self.layer!r} gives shape {tuple(features.shape)}, but the classifier {head.name!r} weighs "
                f"{channels} channels: choose a layer of shape (B, {channels}, ...), or leave layer= out."
            )
        return features.movedim(1, -1)

    def _head(self, anatomy: Anatomy) -> Head:
        if self.head is not None:
            if self.head in anatomy.heads:
                return anatomy.heads[self.head]
            raise ValueError(
                f"head={self.head!r} is not a linear classifier behind global pooling; those of this model: "
                f"{sorted(anatomy.heads) or 'none'}."
            )
        if anatomy.main is not None:
            return anatomy.heads[anatomy.main]
        if len(anatomy.heads) > 1:
            raise ValueError(f"The model has several classifiers: {sorted(anatomy.heads)}. Choose one: CAM(head=...).")
        raise ValueError(
            "CAM needs global average pooling followed by one linear classifier, but of this model "
            f"{anatomy.why_no_head}. {anatomy.instead()}"
        )

    def _weights(self, output: Any, call: HeadCall, classes: Any, *, keep: bool) -> Tensor:
        """The gradient of a nonlinear score at the logits: how it sums them there."""
        value = scores(self.score, output, classes)
        weights = gradient(value, call.output, "the logits of the classifier", create_graph=keep)
        return weights.reshape(*value.shape, -1)
