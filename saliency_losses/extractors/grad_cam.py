"""Gradient-weighted Class Activation Mapping."""

from typing import Any

import torch
from torch import Tensor

from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    Run,
    SaliencyExtractor,
    detached,
    full_precision,
    gradients_on,
)
from saliency_losses.extractors.gradient import gradient, precision_of
from saliency_losses.extractors.layout import Reshape, check_reshape
from saliency_losses.extractors.modules import check_layer
from saliency_losses.extractors.probe import probe
from saliency_losses.extractors.score import Score, check_score, scores

__all__ = ["GradCAM", "channel_weights", "gradient_weighted_map"]


def gradient_weighted_map(activation: Tensor, weights: Tensor) -> Tensor:
    r"""The map: the channels of the activation, weighed: :math:`\sum_c w_c A_c`.

    Args:
        activation: (B, C, \*s).
        weights: The mean gradient of each channel, (B, C) or (B, K, C); see :func:`channel_weights`.

    Returns:
        (B, \*s), or (B, K, \*s).
    """
    with full_precision(activation, weights) as (activation, weights):
        if weights.ndim == 2:
            return torch.einsum("bc,bc...->b...", weights, activation)
        return torch.einsum("bkc,bc...->bk...", weights, activation)


def channel_weights(grad: Tensor, axes: int, precision: torch.dtype) -> Tensor:
    r"""The mean gradient of each channel, :math:`\frac{1}{|s|} \sum_i \partial y / \partial A_{ci}`.

    In front of a normalisation over positions it is exactly zero. What floating point leaves of it there would be
    scaled up to a map by any divergence that normalises, so a mean that is but rounding error is taken for zero.

    Args:
        grad: (B, C, \*s) or (B, K, C, \*s).
        axes: How many of the last axes are positions.
        precision: In which the gradient was computed.

    Returns:
        (B, C) or (B, K, C).
    """
    flat = grad.flatten(-axes)
    mean = flat.mean(-1)
    low = precision not in (torch.float32, torch.float64)
    rounding = torch.finfo(precision).eps * (min(1.0, 16.0 * flat.shape[-1] ** -0.5) if low else 32.0)
    noise = (mean.abs() <= rounding * flat.abs().mean(-1)) & mean.isfinite()
    return torch.where(noise, 0.0, mean)


@EXTRACTORS.register("grad_cam")
class GradCAM(SaliencyExtractor):
    r"""Grad-CAM: a layer's activation, its channels weighed by the mean gradient of the score.

    .. math:: S(b, i) = \sum_c A(b, c, i)\, \frac{1}{|s|} \sum_j \frac{\partial y_b}{\partial A(b, c, j)}

    The gradient is taken with respect to the activation alone, in the same forward pass as the output. Where the
    layer feeds global pooling and a linear classifier, the map is CAM divided by the number of positions.

    With BatchNorm in train mode *above* the layer, the scores of a batch depend on all of its samples, and so
    does the map; the last layer has none above it.

    Args:
        layer: Dotted name. By default what feeds global pooling, else the last layer with several channels and
            positions, unless tokens follow.
        score: What to explain: ``"true"`` (the given class), ``"predicted"``, ``"contrast"`` (the given class minus the
            strongest other), a class index, or ``(output, targets)`` to (B,); see
            :data:`~saliency_losses.extractors.score.Score`.
        relu: Keep only what speaks for the score, as published; off by default, since maps are raw and signed.
        reshape: How to read the layer's output as (B, C, \*s), where that cannot be found out; see
            :data:`~saliency_losses.extractors.layout.Reshape`.

    Raises:
        ValueError: On a call: the layer does not exist, is not called or called twice, has no positions, or does not
            influence the score.
        RuntimeError: On a call with gradients: something above the layer has no double backward.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> GradCAM(layer="1")(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017.
    """

    order = 2

    def __init__(
        self,
        *,
        layer: str | None = None,
        score: Score = "true",
        relu: bool = False,
        reshape: Reshape = None,
    ) -> None:
        super().__init__()
        self.layer = check_layer(layer)
        self.score = check_score(score)
        self.relu = relu
        self.reshape = check_reshape(reshape)

    def forward(
        self, model: torch.nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None
    ) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        keep = torch.is_grad_enabled()
        with gradients_on() as usable:
            inputs, classes = usable((inputs, classes))

            def score_of(output: Any) -> Tensor:
                return scores(self.score, output, classes)

            output, (activation,), (layout,), (what,), first = probe(
                model, inputs, run, [self.layer], score=score_of, reshape=self.reshape, double_backward=keep
            )
            score = score_of(output)
            grad = full = gradient(score, activation, what, create_graph=keep)
            grad = layout.read(grad) if score.ndim == 1 else torch.stack([layout.read(g) for g in grad.unbind(1)], 1)
            precision = precision_of(activation)
            activation = layout.read(activation)
            weights = channel_weights(grad, activation.ndim - 2, precision)
            if first or grad.device.type == "cpu":
                _check_weights(weights, grad, full, what)
            saliency = gradient_weighted_map(activation, weights)
            if self.relu:
                saliency = saliency.relu()
        return Explanation(output, saliency) if keep else Explanation(detached(output), saliency.detach())


def _check_weights(weights: Tensor, grad: Tensor, full: Tensor, what: str) -> None:
    """Raise where every channel's mean gradient vanishes although gradients do not, so that the map is zero."""
    if not bool((grad != 0).any()) and bool((full != 0).any()):
        raise ValueError(
            f"The score does not depend on the positions of {what}, so the map is zero: behind the "
            "last attention of a transformer that is read from its class token, the patches no longer count. Choose an "
            "earlier layer."
        )
    if not bool((weights != 0).any()) and bool((grad != 0).any()):
        raise ValueError(
            f"The mean gradient at {what} vanishes in every channel, because something behind it is blind to shifts (a "
            "normalisation or a softmax over positions). Grad-CAM is zero there; choose another layer, or use "
            "extractor='input_gradient'."
        )
