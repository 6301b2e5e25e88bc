"""Deconvolution: ReLUs let only positive gradients pass, whatever the unit did."""

from torch import Tensor

from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.input_gradients import InputGradientExtractor
from saliency_losses.extractors.rectifiers import Rectifiers

__all__ = ["Deconvolution", "deconvolution_relu"]


def deconvolution_relu(grad: Tensor, positive: Tensor) -> Tensor:
    """What a ReLU passes back: the positive part of the gradient.

    Example:
        >>> import torch
        >>> deconvolution_relu(torch.tensor([2.0, -3.0, 4.0]), torch.tensor([1.0, 1.0, 0.0])).tolist()
        [2.0, 0.0, 4.0]
    """
    return grad.relu()


@EXTRACTORS.register("deconvolution")
class Deconvolution(InputGradientExtractor):
    r"""Deconvolution: the input gradient, with another rule at every ReLU.

    .. math:: R_{l} = [R_{l+1} > 0]\, R_{l+1}

    The rule holds in the gradient that makes the map; training through the map uses the exact derivatives of the model.
    It is defined for ReLU (modules, functions, in place or not); other activations pass their ordinary gradient.

    Args:
        reduce: Over channels, see :func:`~saliency_losses.extractors.channels.reduce_channels`; ``"abs_max"`` by
            default.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`.
        input: Which input to explain, where the model takes several: its position or keyword.
        batch_statistics: Whether BatchNorm in train mode counts as ``"constant"`` in the gradient, so that a map is the
            sample's own, or ``"coupled"``: mixed with those of the other samples.

    Raises:
        ValueError: On a call: the model calls no ReLU; no, or more than one, floating-point input to choose from, or
            one without influence.
        RuntimeError: On a call with gradients: something in the model has no double backward.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(48, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> Deconvolution()(net, torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 4, 4])

    Reference:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
    """

    tokens = False

    def rectifiers(self) -> Rectifiers:
        """Those of this rule."""
        return Rectifiers(deconvolution_relu)
