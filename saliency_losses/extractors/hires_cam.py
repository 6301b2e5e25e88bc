"""HiResCAM."""

from torch import Tensor

from saliency_losses.extractors.activation_gradients import ActivationGradientExtractor, LayerView
from saliency_losses.extractors.base import EXTRACTORS

__all__ = ["HiResCAM", "hires_cam"]


def hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    r"""Activation times gradient, summed over channels.

    Args:
        activation: (..., C, N).
        gradient: (..., C, N).

    Returns:
        (..., N).

    Example:
        >>> import torch
        >>> hires_cam(torch.tensor([[1.0, 2.0], [5.0, 5.0]]), torch.tensor([[3.0, 1.0], [0.0, -2.0]]))
        tensor([ 3., -8.])
    """
    return (activation * gradient).sum(-2)


@EXTRACTORS.register("hires_cam")
class HiResCAM(ActivationGradientExtractor):
    r"""HiResCAM: activation times gradient, position by position, without Grad-CAM's mean.

    .. math:: S(b, i) = \sum_c A(b, c, i)\, \frac{\partial y_b}{\partial A(b, c, i)}

    Where the layer feeds one linear layer, the map sums to the score but for the bias. A final ReLU is ``relu``.
    Options: those of :class:`~saliency_losses.extractors.activation_gradients.ActivationGradientExtractor`.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> HiResCAM(layer="1")(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Draelos & Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks,
        2020.
    """

    def combine(self, view: LayerView) -> Tensor:
        """See :meth:`ActivationGradientExtractor.combine`."""
        return hires_cam(view.activation, view.gradient)
