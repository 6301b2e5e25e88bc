"""Eigen-Grad-CAM."""

from torch import Tensor

from saliency_losses.extractors.activation_gradients import ActivationGradientExtractor, LayerView
from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.eigen_cam import eigen_cam

__all__ = ["EigenGradCAM", "eigen_grad_cam"]


def eigen_grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    r"""Activation times gradient, projected on its first principal direction over positions.

    Args:
        activation: (..., C, N).
        gradient: (..., C, N).

    Returns:
        (..., N), with the sign that makes it correlate with the sum over channels.

    Example:
        >>> import torch
        >>> eigen_grad_cam(torch.tensor([[3.0, 0.0, 3.0], [2.0, 0.0, 2.0]]), torch.tensor([[1.0], [2.0]]))
        tensor([5., 0., 5.])
    """
    return eigen_cam(activation * gradient)


@EXTRACTORS.register("eigen_grad_cam")
class EigenGradCAM(ActivationGradientExtractor):
    r"""Eigen-Grad-CAM: Eigen-CAM of activation times gradient, which makes it speak of a class.

    .. math:: S(b, i) = \sum_c v_1(b, c)\, A(b, c, i)\, \frac{\partial y_b}{\partial A(b, c, i)}

    with :math:`v_1` the first left singular vector of that product, as channels by positions; the sign is that which
    makes the map correlate with HiResCAM. Derivative and special cases: see
    :func:`~saliency_losses.extractors.eigen_cam.eigen_cam`.
    Options: those of :class:`~saliency_losses.extractors.activation_gradients.ActivationGradientExtractor`.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> EigenGradCAM(layer="1")(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Gildenblat et al., PyTorch library for CAM methods, 2021, which introduced it, with each channel's mean
        subtracted.
    """

    def combine(self, view: LayerView) -> Tensor:
        """See :meth:`ActivationGradientExtractor.combine`."""
        return eigen_grad_cam(view.activation, view.gradient)
