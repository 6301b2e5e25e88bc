"""The input gradient, averaged over noisy copies of the input."""

import torch
from torch import Tensor

from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.channels import Reduce
from saliency_losses.extractors.repeated import check_count
from saliency_losses.extractors.sampled_gradients import SampledGradientExtractor
from saliency_losses.extractors.score import Score

__all__ = ["SmoothGrad"]


@EXTRACTORS.register("smooth_grad")
class SmoothGrad(SampledGradientExtractor):
    r"""SmoothGrad: the input gradient, averaged over noisy copies of the input.

    .. math:: S(b, i) = \operatorname{reduce}_c \frac1n \sum_k \partial y_b(x + \epsilon_k) / \partial x(b, c, i),
        \quad \epsilon_k \sim N(0, \sigma_b^2),\; \sigma_b = \mathrm{noise} \cdot (\max x_b - \min x_b)

    The noise comes from the global random generator of the input's device, after the plain pass; under distributed
    training each process draws its own.

    Args:
        samples: n, the noisy copies of each sample; the paper takes 50 to explain.
        noise: Standard deviation as a share of the image's range of values; the paper recommends 0.1 to 0.2.
        squared: Average squared gradients (SmoothGrad-squared).
        chunk: How many copies of each sample go through the model at once.
        reduce: Over channels, see :func:`~saliency_losses.extractors.channels.reduce_channels`; ``"abs_max"`` by
            default.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`; a predicted class is that of the
            input.
        input: Which input to explain, where the model takes several: its position or keyword. Other tensors whose
            first axis is the batch are repeated along with it where ``chunk`` is above 1.

    Raises:
        ValueError: ``samples`` or ``chunk`` is no positive integer, or the noise is negative or not finite; on a call:
            no, or more than one, floating-point input to choose from.
        RuntimeError: On a call with gradients: something in the model has no double backward.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(48, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2))
        >>> SmoothGrad(samples=4)(net, torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 4, 4])

    Reference:
        Smilkov et al., SmoothGrad: removing noise by adding noise, 2017; squared: Hooker et al., A Benchmark for
        Interpretability Methods in Deep Neural Networks, NeurIPS 2019.
    """

    default_reduce = "abs_max"

    def __init__(
        self,
        *,
        samples: int = 16,
        noise: float = 0.15,
        squared: bool = False,
        chunk: int = 1,
        reduce: Reduce | None = None,
        score: Score = "true",
        input: int | str | None = None,
    ) -> None:
        super().__init__(check_count(samples, "samples"), chunk=chunk, reduce=reduce, score=score, input=input)
        if not 0.0 <= noise < float("inf"):
            raise ValueError(f"noise must be a finite share of the range of values, not negative, got {noise!r}.")
        self.samples = samples
        self.noise = noise
        self.squared = squared

    def sample(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy copies, which weigh alike."""
        low, high = pixels.detach().flatten(1).aminmax(dim=1)
        deviation = (self.noise * (high - low)).view(-1, *[1] * (pixels.ndim - 1))
        noise = torch.randn(self.samples, *pixels.shape, dtype=pixels.dtype, device=pixels.device)
        weights = torch.full((self.samples, *[1] * pixels.ndim), 1.0 / self.samples, device=pixels.device)
        return pixels + deviation * noise, weights

    def shape_gradient(self, grad: Tensor) -> Tensor:
        """The gradient, or its square."""
        return grad.square() if self.squared else grad
