"""XGrad-CAM."""

import torch
from torch import Tensor

from saliency_losses.extractors.activation_gradients import ActivationGradientExtractor, LayerView
from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.grad_cam import mean_gradients, weigh
from saliency_losses.extractors.reciprocal import reciprocal

__all__ = ["XGradCAM", "x_grad_cam"]

_CANCELLED = 1e-3


def x_grad_cam(activation: Tensor, gradient: Tensor, precision: torch.dtype | None = None) -> Tensor:
    r"""The channels of the activation, weighed by their gradients, averaged where they are active.

    Args:
        activation: (..., C, N).
        gradient: (..., C, N).
        precision: In which the gradient was computed; its own by default.

    Returns:
        (..., N).

    Example:
        >>> x_grad_cam(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[2.0, -2.0], [1.0, 1.0]]))
        tensor([-1., -3.])
    """
    return _weigh_by_product(activation, mean_gradients(activation * gradient, precision))


@EXTRACTORS.register("x_grad_cam")
class XGradCAM(ActivationGradientExtractor):
    r"""XGrad-CAM: Grad-CAM whose mean gradient counts each position by its activation.

    .. math::

        S(b, i) = \sum_c A(b, c, i)\, \frac{\sum_j A(b, c, j)\, g_{bcj}}{\sum_j A(b, c, j)}, \qquad
        g = \frac{\partial y}{\partial A}

    A final ReLU is the option ``relu``. Where positive and negative activations cancel, so that the magnitude
    of their sum is below 0.001 of the sum of their magnitudes, the reciprocal goes straight through zero instead of to
    infinity; a rectified activation never comes there, and a channel that is zero everywhere adds nothing.
    Options: those of :class:`~saliency_losses.extractors.activation_gradients.ActivationGradientExtractor`.

    Raises:
        ValueError: On a call, as there; or the weights vanish, because something behind the layer is blind to scale.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> XGradCAM(layer="1")(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Fu et al., Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs, BMVC 2020.
    """

    def combine(self, view: LayerView) -> Tensor:
        """See :meth:`ActivationGradientExtractor.combine`."""
        product = view.activation * view.gradient
        means = mean_gradients(product, view.precision)
        if view.check and not bool((means != 0).any()) and bool((product != 0).any()):
            raise ValueError(
                f"The sum of activation times gradient at {view.name} vanishes in every channel, because something "
                "behind it is blind to scale (a normalisation over positions). A map weighed by it is zero there; "
                "choose another layer, or use extractor='hires_cam' or 'input_gradient'."
            )
        return _weigh_by_product(view.activation, means)


def _weigh_by_product(activation: Tensor, means: Tensor) -> Tensor:
    floor = _CANCELLED * activation.abs().mean(-1)
    return weigh(activation, means * reciprocal(activation.mean(-1), floor))
