"""Element-wise Grad-CAM."""

from torch import Tensor

from saliency_losses.extractors.activation_gradients import ActivationGradientExtractor, LayerView
from saliency_losses.extractors.base import EXTRACTORS

__all__ = ["ElementWiseGradCAM", "element_wise_grad_cam"]


def element_wise_grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    r"""What is positive of activation times gradient, summed over channels.

    Args:
        activation: (..., C, N).
        gradient: (..., C, N).

    Returns:
        (..., N).

    Example:
        >>> import torch
        >>> element_wise_grad_cam(torch.tensor([[1.0, 2.0], [5.0, 5.0]]), torch.tensor([[3.0, 1.0], [0.0, -2.0]]))
        tensor([3., 2.])
    """
    return (activation * gradient).relu().sum(-2)


@EXTRACTORS.register("element_wise_grad_cam")
class ElementWiseGradCAM(ActivationGradientExtractor):
    r"""Element-wise Grad-CAM: activation times gradient, of which each channel adds only what speaks for the score.

    .. math:: S(b, i) = \sum_c \operatorname{relu}\!\left(A(b, c, i)\, \frac{\partial y_b}{\partial A(b, c, i)}\right)

    The ReLU is inside the sum, so the map is never negative and the option ``relu`` changes nothing.
    Options: those of :class:`~saliency_losses.extractors.activation_gradients.ActivationGradientExtractor`.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> ElementWiseGradCAM(layer="1")(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Gildenblat et al., PyTorch library for CAM methods, 2021, which introduced it.
    """

    def combine(self, view: LayerView) -> Tensor:
        """See :meth:`ActivationGradientExtractor.combine`."""
        return element_wise_grad_cam(view.activation, view.gradient)
