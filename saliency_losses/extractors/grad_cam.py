"""Gradient-weighted Class Activation Mapping."""

from collections.abc import Callable
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
from saliency_losses.extractors.gradient import gradient
from saliency_losses.extractors.probe import probe
from saliency_losses.extractors.score import Score, check_score, scores

__all__ = ["GradCAM", "gradient_weighted_map"]


def gradient_weighted_map(activation: Tensor, grad: Tensor) -> Tensor:
    r"""The map: :math:`\sum_c A_c\, \frac{1}{|s|} \sum_i \partial y / \partial A_{ci}`.

    Args:
        activation: (B, C, \*s).
        grad: Of the explained score, (B, C, \*s) or (B, K, C, \*s).

    Returns:
        (B, \*s), or (B, K, \*s).
    """
    with full_precision(activation, grad) as (activation, grad):
        weights = channel_weights(grad, activation.ndim - 2)
        if weights.ndim == 2:
            return torch.einsum("bc,bc...->b...", weights, activation)
        return torch.einsum("bkc,bc...->bk...", weights, activation)


def channel_weights(grad: Tensor, axes: int) -> Tensor:
    """The mean over the last ``axes`` axes, zero where it is nothing but rounding error.

    In front of a normalisation over positions the mean gradient is exactly zero; what is left of it in floating point
    would be scaled up to a map by any divergence that normalises.
    """
    flat = grad.flatten(-axes)
    mean = flat.mean(-1)
    return torch.where(mean.abs() > 32 * torch.finfo(grad.dtype).eps * flat.abs().mean(-1), mean, 0.0)


@EXTRACTORS.register("grad_cam")
class GradCAM(SaliencyExtractor):
    r"""Grad-CAM: a layer's activation, its channels weighed by the mean gradient of the score.

    .. math:: S(b, i) = \sum_c A(b, c, i)\, \frac{1}{|s|} \sum_j \frac{\partial y_b}{\partial A(b, c, j)}

    The gradient is taken with respect to the activation alone, in the same forward pass as the output. Where the
    layer feeds global pooling and a linear classifier, the map is CAM divided by the number of positions.

    With BatchNorm in train mode *above* the layer, the scores of a batch depend on all of its samples, and so
    does the map; the last layer has none above it.

    Args:
        layer: Dotted name. By default what feeds global pooling, else the last layer with positions.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`.
        relu: Keep only what speaks for the score, as published; off by default, since maps are raw and signed.
        reshape: Turns the layer's output (B, ...) into (B, C, \*s), for layouts that cannot be told from its modules.

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
        reshape: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.score = check_score(score)
        self.relu = relu
        self.reshape = reshape

    def forward(
        self, model: torch.nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None
    ) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        keep = torch.is_grad_enabled()
        with gradients_on() as usable:
            inputs, classes = usable((inputs, classes))
            output, activation, axis = probe(model, inputs, run, self.layer, leaf=True)
            score = scores(self.score, output, classes)
            what = f"layer {self.layer!r}" if self.layer else "the layer that grad_cam chose"
            grad = gradient(score, activation, what, create_graph=keep)
            if score.ndim == 2:
                grad = torch.stack([self._channels_first(g, axis) for g in grad.unbind(1)], 1)
            else:
                grad = self._channels_first(grad, axis)
            activation = self._channels_first(activation, axis)
            self._check_weights(grad, activation.ndim - 2, what)
            saliency = gradient_weighted_map(activation, grad)
            if self.relu:
                saliency = saliency.relu()
        return Explanation(output, saliency) if keep else Explanation(detached(output), saliency.detach())

    def extra_repr(self) -> str:
        """The options."""
        return f"layer={self.layer!r}, score={self.score!r}, relu={self.relu}"

    def _channels_first(self, tensor: Tensor, axis: int | None) -> Tensor:
        if self.reshape is not None:
            tensor = self.reshape(tensor)
        elif tensor.ndim > 2 and axis is None:
            raise ValueError(
                f"Nothing tells where the channels of layer {self.layer!r} are, whose output has shape "
                f"{tuple(tensor.shape)}. Say so: GradCAM(layer=..., reshape=lambda t: ...) to (B, C, *positions)."
            )
        elif axis is not None:
            tensor = tensor.movedim(axis, 1)
        if tensor.ndim < 3:
            raise ValueError(
                f"Layer {self.layer!r} gives shape {tuple(tensor.shape)}, expected (B, C, *positions); choose a layer "
                "with positions (list_layers(model, images)) or bring reshape=."
            )
        return tensor

    @staticmethod
    def _check_weights(grad: Tensor, axes: int, what: str) -> None:
        """Raise where every channel's mean gradient is rounding error, so that the map would be noise."""
        if grad.device.type != "cpu" or not bool((grad != 0).any()):
            return
        if not bool((channel_weights(grad.detach(), axes) != 0).any()):
            raise ValueError(
                f"The mean gradient at {what} vanishes in every channel, because something behind it is blind to "
                "shifts (a normalisation or a softmax over positions). Grad-CAM is zero there; choose another layer, "
                "or use extractor='input_gradient'."
            )
