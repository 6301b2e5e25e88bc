"""The input times the gradient of the score with respect to it."""

from torch import Tensor

from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.input_gradients import InputGradientExtractor

__all__ = ["InputXGradient"]


@EXTRACTORS.register("input_x_gradient")
class InputXGradient(InputGradientExtractor):
    r"""Input times gradient: how much each pixel gives to the score, to first order.

    .. math:: S(b, i) = \operatorname{reduce}_c\, x(b, c, i)\, \partial y_b / \partial x(b, c, i)

    Args:
        reduce: Over channels, see :func:`~saliency_losses.extractors.channels.reduce_channels`; the signed ``"sum"`` by
            default.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`.
        input: Which input to explain, where the model takes several: its position or keyword.
        batch_statistics: Whether BatchNorm in train mode counts as ``"constant"`` in the gradient, so that a map is the
            sample's own, or ``"coupled"``: mixed with those of the other samples.

    Raises:
        ValueError: On a call: no, or more than one, floating-point input to choose from, or one without influence.
        RuntimeError: On a call with gradients: something in the model has no double backward.

    Example:
        >>> import torch
        >>> net, images = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)), torch.rand(5, 3, 4, 4)
        >>> output, saliency = InputXGradient()(net, images, torch.tensor([0, 1, 1, 0, 1]))
        >>> bool(((saliency.sum((1, 2)) + net[1].bias[[0, 1, 1, 0, 1]])[1] - output[1, 1]).abs() < 1e-5)
        True

    Reference:
        Shrikumar et al., Not Just a Black Box: Learning Important Features Through Propagating Activation Differences,
        2016.
    """

    default_reduce = "sum"

    def combine(self, pixels: Tensor, grad: Tensor) -> Tensor:
        """Input times gradient."""
        return pixels * grad
