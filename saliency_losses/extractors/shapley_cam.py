"""ShapleyCAM."""

from typing import cast

import torch
from torch import Tensor

from saliency_losses.extractors.activation_gradients import ActivationGradientExtractor, LayerView
from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.grad_cam import check_means, mean_gradients, weigh

__all__ = ["ShapleyCAM", "shapley_cam"]


def shapley_cam(
    activation: Tensor, gradient: Tensor, curvature: Tensor, precision: torch.dtype | None = None
) -> Tensor:
    r"""The channels of the activation, weighed by the mean of the gradient less half the curvature.

    Args:
        activation: (..., C, N).
        gradient: (..., C, N).
        curvature: The Hessian of the score times the activation, (..., C, N).
        precision: In which the gradient was computed; its own by default.

    Returns:
        (..., N).

    Example:
        >>> activation = torch.tensor([[1.0, 2.0]])
        >>> shapley_cam(activation, gradient=2 * activation, curvature=2 * activation)  # of the sum of squares
        tensor([1.5000, 3.0000])
    """
    return weigh(activation, mean_gradients(gradient - 0.5 * curvature, precision))


@EXTRACTORS.register("shapley_cam")
class ShapleyCAM(ActivationGradientExtractor):
    r"""ShapleyCAM: Grad-CAM whose weights count what channels do together, to second order.

    .. math::

        S(b, i) = \sum_c A(b, c, i)\, \frac{1}{N} \sum_j \left(g - \tfrac{1}{2} H A\right)_{bcj}, \qquad
        g = \frac{\partial y}{\partial A}, \quad H = \frac{\partial^2 y}{\partial A^2}

    Where the network above the layer is piecewise linear, :math:`H` is zero and the map is Grad-CAM's. Training through
    it takes third derivatives. A final ReLU is the option ``relu``; the score that the paper proposes besides the logit
    (the logit plus the log-probability) is a ``score`` callable.
    Options: those of :class:`~saliency_losses.extractors.activation_gradients.ActivationGradientExtractor`.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> ShapleyCAM(layer="0")(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Cai, CAMs as Shapley Value-based Explainers, 2025.
    """

    needs_curvature = True

    def combine(self, view: LayerView) -> Tensor:
        """See :meth:`ActivationGradientExtractor.combine`."""
        slope = view.gradient - 0.5 * cast(Tensor, view.curvature)
        means = mean_gradients(slope, view.precision)
        check_means(means, view._replace(gradient=slope))
        return weigh(view.activation, means)
