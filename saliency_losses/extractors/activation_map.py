"""The activation-based attention map of attention transfer."""

from torch import Tensor

from saliency_losses.extractors.activations import ActivationExtractor
from saliency_losses.extractors.base import EXTRACTORS

__all__ = ["ActivationMap", "activation_map"]


def activation_map(activation: Tensor) -> Tensor:
    r"""The mean square of the activation over channels.

    Args:
        activation: (..., C, N).

    Returns:
        (..., N).

    Example:
        >>> import torch
        >>> activation_map(torch.tensor([[1.0, -3.0], [1.0, 1.0]]))
        tensor([1., 5.])
    """
    return activation.square().mean(-2)


@EXTRACTORS.register("activation_map")
class ActivationMap(ActivationExtractor):
    r"""Activation-based attention: where a layer is active at all; no class and no gradient is involved.

    .. math:: S(b, i) = \frac{1}{C} \sum_c A(b, c, i)^2

    The paper writes the sum and its code takes the mean, which differ by a constant. Its comparison, between maps
    divided by their norms, is the divergence's part.
    Options: those of :class:`~saliency_losses.extractors.activations.ActivationExtractor`.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> ActivationMap(layer="1")(net, torch.rand(4, 3, 9, 9), None).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Zagoruyko & Komodakis, Paying More Attention to Attention: Improving the Performance of Convolutional Neural
        Networks via Attention Transfer, ICLR 2017.
    """

    def read(self, activation: Tensor) -> Tensor:
        """See :meth:`ActivationExtractor.read`."""
        return activation_map(activation)
