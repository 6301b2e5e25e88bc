"""The gradient of the score with respect to the input."""

from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.input_gradients import InputGradientExtractor

__all__ = ["InputGradient"]


@EXTRACTORS.register("input_gradient")
class InputGradient(InputGradientExtractor):
    r"""The input gradient: how the score changes with each pixel.

    .. math:: S(b, i) = \operatorname{reduce}_c\, \partial y_b / \partial x(b, c, i)

    Training through it differentiates the whole model twice, about 2.5 times the cost of a plain step.

    Args:
        reduce: Over channels, see :func:`~saliency_losses.extractors.channels.reduce_channels`; the largest absolute
            value, ``"abs_max"``, by default.
        score: What to explain: ``"true"`` (the given class), ``"predicted"``, ``"contrast"`` (the given class minus the
            strongest other), a class index, or ``(output, targets)`` to (B,); see
            :data:`~saliency_losses.extractors.score.Score`.
        input: Which input to explain, where the model takes several: its position or keyword.
        batch_statistics: Whether BatchNorm in train mode counts as ``"constant"`` in the gradient, so that a map is the
            sample's own, or ``"coupled"``: mixed with those of the other samples.

    Raises:
        ValueError: On a call: no, or more than one, floating-point input to choose from, or one without influence.
        RuntimeError: On a call with gradients: something in the model has no double backward.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(48, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2))
        >>> InputGradient()(net, torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 4, 4])

    Reference:
        Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014; as a training signal: Ross et al.,
        Right for the Right Reasons, IJCAI 2017.
    """
