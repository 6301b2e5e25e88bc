"""Grad-CAM++."""

from torch import Tensor

from saliency_losses.extractors.activation_gradients import ActivationGradientExtractor, LayerView
from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.grad_cam import weigh
from saliency_losses.extractors.reciprocal import reciprocal

__all__ = ["GradCAMPlusPlus", "grad_cam_plus_plus"]

_POLE = 1e-3


def grad_cam_plus_plus(activation: Tensor, gradient: Tensor) -> Tensor:
    r"""The channels of the activation, weighed by their positive gradients, each times a coefficient of its own.

    Args:
        activation: (..., C, N).
        gradient: (..., C, N).

    Returns:
        (..., N).

    Example:
        >>> import torch
        >>> grad_cam_plus_plus(torch.tensor([[1.0, 1.0], [3.0, 0.0]]), torch.tensor([[1.0, 0.0], [-1.0, 2.0]]))
        tensor([1.0000, 0.2500])
    """
    positive = gradient.relu()
    alpha = reciprocal(2.0 + positive * activation.sum(-1, keepdim=True), _POLE)
    return weigh(activation, (alpha * positive).sum(-1))


@EXTRACTORS.register("grad_cam_plus_plus")
class GradCAMPlusPlus(ActivationGradientExtractor):
    r"""Grad-CAM++: positive gradients, weighed so that every instance of a class counts, however small.

    .. math::

        S(b, i) = \sum_c A(b, c, i) \sum_j \alpha_{bcj}\, \operatorname{relu}(g_{bcj}), \qquad
        \alpha_{bcj} = \frac{g_{bcj}^2}{2 g_{bcj}^2 + g_{bcj}^3 \sum_k A(b, c, k)}

    with :math:`g = \partial y / \partial A`. The paper defines :math:`\alpha` by second and third derivatives of
    :math:`Y = e^y`, which are powers of :math:`g` where the network above the layer is piecewise linear. Its weights
    hold :math:`\partial Y / \partial A = e^y g`; the positive factor :math:`e^y`, one per map, is left out, since it
    overflows and no divergence that normalises sees it. The paper's final ReLU is the option ``relu``.

    The formula is made for rectified activations. Where they are not, the denominator :math:`2 + g \sum A` may vanish;
    closer than 0.001 to zero, its reciprocal goes straight through zero instead of to infinity.
    Options: those of :class:`~saliency_losses.extractors.activation_gradients.ActivationGradientExtractor`.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> GradCAMPlusPlus(layer="1")(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Chattopadhay et al., Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional Networks,
        WACV 2018.
    """

    def combine(self, view: LayerView) -> Tensor:
        """See :meth:`ActivationGradientExtractor.combine`."""
        return grad_cam_plus_plus(view.activation, view.gradient)
