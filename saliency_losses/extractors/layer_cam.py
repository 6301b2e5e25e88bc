"""LayerCAM."""

from torch import Tensor

from saliency_losses.extractors.activation_gradients import ActivationGradientExtractor, LayerView
from saliency_losses.extractors.base import EXTRACTORS

__all__ = ["LayerCAM", "layer_cam"]


def layer_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    r"""Activation times positive gradient, summed over channels.

    Args:
        activation: (..., C, N).
        gradient: (..., C, N).

    Returns:
        (..., N).

    Example:
        >>> import torch
        >>> layer_cam(torch.tensor([[1.0, 2.0], [5.0, 5.0]]), torch.tensor([[3.0, 1.0], [0.0, -2.0]]))
        tensor([3., 2.])
    """
    return (activation * gradient.relu()).sum(-2)


@EXTRACTORS.register("layer_cam")
class LayerCAM(ActivationGradientExtractor):
    r"""LayerCAM: the activation, each position of each channel weighed by its own positive gradient.

    .. math:: S(b, i) = \sum_c A(b, c, i)\, \operatorname{relu}\!\left(\frac{\partial y_b}{\partial A(b, c, i)}\right)

    Made for layers of every depth. The paper's final ReLU is the option ``relu``; at a rectified layer it changes
    nothing. Options: those of :class:`~saliency_losses.extractors.activation_gradients.ActivationGradientExtractor`.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> LayerCAM(layer="1")(net, torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0])).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, TIP 2021.
    """

    def combine(self, view: LayerView) -> Tensor:
        """See :meth:`ActivationGradientExtractor.combine`."""
        return layer_cam(view.activation, view.gradient)
