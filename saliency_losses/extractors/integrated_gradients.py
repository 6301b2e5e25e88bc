"""Gradients of the score, integrated along the straight way from a baseline to the input."""

import torch
from torch import Tensor

from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.channels import Reduce
from saliency_losses.extractors.inputs import Baseline, baseline_of, check_baseline
from saliency_losses.extractors.repeated import check_count
from saliency_losses.extractors.sampled_gradients import SampledGradientExtractor
from saliency_losses.extractors.score import Score

__all__ = ["IntegratedGradients", "gauss_legendre"]


def gauss_legendre(steps: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1], in float64.

    Example:
        >>> nodes, weights = gauss_legendre(3)
        >>> round(float((weights * nodes**5).sum()), 12)
        0.166666666667
    """
    order = torch.arange(1, steps, dtype=torch.float64)
    beside = order / (4.0 * order.square() - 1.0).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return (nodes + 1.0) / 2.0, vectors[0].square()


@EXTRACTORS.register("integrated_gradients")
class IntegratedGradients(SampledGradientExtractor):
    r"""Integrated gradients: how much each pixel gives to the change of the score from the baseline to the input.

    .. math:: S(b, i) = \operatorname{reduce}_c\, (x - x')(b, c, i)
        \int_0^1 \partial y_b(x' + \alpha (x - x')) / \partial x(b, c, i)\, d\alpha

    The integral is a Gauss-Legendre quadrature. Summed over all pixels the map is the score at the input minus that at
    the baseline, up to the error of the quadrature, and with BatchNorm in train mode for the statistics of the batch.

    Args:
        steps: Points of the quadrature.
        baseline: x': a number, a tensor that broadcasts to the input, or a function of it.
        chunk: How many points of each sample go through the model at once; the result is the same.
        reduce: Over channels, see :func:`~saliency_losses.extractors.channels.reduce_channels`; the signed ``"sum"`` by
            default.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`; a predicted class is that of the
            input.
        input: Which input to explain, where the model takes several: its position or keyword. Other tensors whose
            first axis is the batch are repeated along with it where ``chunk`` is above 1.

    Raises:
        ValueError: ``steps`` or ``chunk`` is no positive integer; on a call: the baseline does not fit, or there is no,
            or more than one, floating-point input to choose from.
        TypeError: The baseline is none.
        RuntimeError: On a call with gradients: something in the model has no double backward.

    Example:
        >>> net, images = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)), torch.rand(5, 3, 4, 4)
        >>> output, saliency = IntegratedGradients(steps=4)(net, images, torch.tensor([0, 1, 1, 0, 1]))
        >>> torch.allclose(saliency[0].sum(), output[0, 0] - net[1].bias[0], atol=1e-5)
        True

    Reference:
        Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017.
    """

    def __init__(
        self,
        *,
        steps: int = 16,
        baseline: Baseline = 0.0,
        chunk: int = 1,
        reduce: Reduce | None = None,
        score: Score = "true",
        input: int | str | None = None,
    ) -> None:
        super().__init__(check_count(steps, "steps"), chunk=chunk, reduce=reduce, score=score, input=input)
        self.steps = steps
        self.baseline = check_baseline(baseline)

    def sample(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Points on the way, and the way times their share."""
        start = baseline_of(self.baseline, pixels)
        dtype = torch.promote_types(pixels.dtype, torch.float32)
        nodes, shares = (
            values.to(pixels.device, dtype).view(-1, *[1] * pixels.ndim) for values in gauss_legendre(self.steps)
        )
        way = pixels - start
        return (start + nodes * way).to(pixels.dtype), shares * way
