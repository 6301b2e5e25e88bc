"""Gradient-weighted Class Activation Mapping."""

import torch
from torch import Tensor

from saliency_losses.extractors.activation_gradients import ActivationGradientExtractor, LayerView
from saliency_losses.extractors.base import EXTRACTORS

__all__ = ["GradCAM", "check_means", "grad_cam", "mean_gradients", "weigh"]


def grad_cam(activation: Tensor, gradient: Tensor, precision: torch.dtype | None = None) -> Tensor:
    r"""The channels of the activation, weighed by their mean gradients.

    Args:
        activation: (..., C, N).
        gradient: (..., C, N).
        precision: In which the gradient was computed; its own by default.

    Returns:
        (..., N).

    Example:
        >>> grad_cam(torch.tensor([[1.0, 2.0], [5.0, 5.0]]), torch.tensor([[3.0, 1.0], [0.0, -2.0]]))
        tensor([-3., -1.])
    """
    return weigh(activation, mean_gradients(gradient, precision))


def weigh(activation: Tensor, weights: Tensor) -> Tensor:
    """The channels (..., C, N), each times its weight (..., C), summed to (..., N)."""
    return (weights.unsqueeze(-2) @ activation).squeeze(-2)


def mean_gradients(gradient: Tensor, precision: torch.dtype | None = None) -> Tensor:
    r"""The mean gradient of each channel, :math:`\frac{1}{N} \sum_i \partial y / \partial A_{ci}`.

    In front of a normalisation over positions it is exactly zero. What floating point leaves of it there would be
    scaled up to a map by any divergence that normalises, so a mean that is but rounding error is taken for zero.

    Args:
        gradient: (..., C, N).
        precision: In which the gradient was computed; its own by default.

    Returns:
        (..., C).
    """
    precision = precision or gradient.dtype
    mean = gradient.mean(-1)
    low = precision not in (torch.float32, torch.float64)
    rounding = torch.finfo(precision).eps * (min(1.0, 16.0 * gradient.shape[-1] ** -0.5) if low else 32.0)
    noise = (mean.abs() <= rounding * gradient.abs().mean(-1)) & mean.isfinite()
    return torch.where(noise, 0.0, mean)


def check_means(means: Tensor, view: LayerView) -> None:
    """Raise where every channel's mean gradient vanishes although gradients do not, so that the map is zero.

    Raises:
        ValueError: That is so.
    """
    if view.check and not bool((means != 0).any()) and bool((view.gradient != 0).any()):
        raise ValueError(
            f"The mean gradient at {view.name} vanishes in every channel, because something behind it is blind to "
            "shifts (a normalisation or a softmax over positions). A map weighed by it is zero there; choose another "
            "layer, or use extractor='hires_cam' or 'input_gradient'."
        )


@EXTRACTORS.register("grad_cam")
class GradCAM(ActivationGradientExtractor):
    r"""Grad-CAM: a layer's activation, its channels weighed by the mean gradient of the score.

    .. math:: S(b, i) = \sum_c A(b, c, i)\, \frac{1}{N} \sum_j \frac{\partial y_b}{\partial A(b, c, j)}

    Where the layer feeds global pooling and a linear classifier, the map is CAM divided by the number of positions.
    Options: those of :class:`~saliency_losses.extractors.activation_gradients.ActivationGradientExtractor`.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> GradCAM(layer="1")(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017.
    """

    def combine(self, view: LayerView) -> Tensor:
        """See :meth:`ActivationGradientExtractor.combine`."""
        means = mean_gradients(view.gradient, view.precision)
        check_means(means, view)
        return weigh(view.activation, means)
