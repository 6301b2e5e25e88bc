"""Gradients of the score on ways from other images to the input, one random point each."""

import torch
from torch import Tensor

from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.channels import Reduce
from saliency_losses.extractors.repeated import check_count
from saliency_losses.extractors.sampled_gradients import SampledGradientExtractor
from saliency_losses.extractors.score import Score

__all__ = ["ExpectedGradients"]


@EXTRACTORS.register("expected_gradients")
class ExpectedGradients(SampledGradientExtractor):
    r"""Expected gradients: integrated gradients, averaged over baselines that are images.

    .. math:: S(b, i) = \operatorname{reduce}_c \frac1K \sum_k (x - x'_k)(b, c, i)\,
        \partial y_b(x'_k + \alpha_k (x - x'_k)) / \partial x(b, c, i), \quad \alpha_k \sim U(0, 1)

    References and positions on the way come from the global random generator of the input's device, after the plain
    pass; under distributed training each process draws its own.

    Args:
        references: K, for each sample; one is enough to train, to explain an image takes 100 or more.
        background: Images (M, C, \*S) to draw references from; by default the other samples of the batch.
        chunk: How many references of each sample go through the model at once.
        reduce: Over channels, see :func:`~saliency_losses.extractors.channels.reduce_channels`; the signed ``"sum"`` by
            default.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`; a predicted class is that of the
            input.
        input: Which input to explain, where the model takes several: its position or keyword. Other tensors whose
            first axis is the batch are repeated along with it where ``chunk`` is above 1.

    Raises:
        ValueError: ``references`` or ``chunk`` is no positive integer; on a call: a batch of one without a background,
            a background of another size, or no, or more than one, floating-point input to choose from.
        TypeError: The background is no tensor.
        RuntimeError: On a call with gradients: something in the model has no double backward.

    Example:
        >>> net, images = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)), torch.rand(5, 3, 4, 4)
        >>> ExpectedGradients(references=4)(net, images, torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 4, 4])

    Reference:
        Erion et al., Improving performance of deep learning models with axiomatic attribution priors and expected
        gradients, Nature Machine Intelligence 2021.
    """

    def __init__(
        self,
        *,
        references: int = 1,
        background: Tensor | None = None,
        chunk: int = 1,
        reduce: Reduce | None = None,
        score: Score = "true",
        input: int | str | None = None,
    ) -> None:
        super().__init__(check_count(references, "references"), chunk=chunk, reduce=reduce, score=score, input=input)
        if background is not None and not isinstance(background, Tensor):
            raise TypeError(f"background must be a tensor of images (M, C, *S), got {type(background).__name__}.")
        self.references = references
        self.background = background

    def sample(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """A point on the way from each reference, and the way times its share."""
        others = self._references(pixels)
        way = pixels - others
        shape = (self.references, len(pixels), *[1] * (pixels.ndim - 1))
        place = torch.rand(shape, dtype=pixels.dtype, device=pixels.device)
        return others + place * way, way / self.references

    def _references(self, pixels: Tensor) -> Tensor:
        batch, size = len(pixels), (self.references, len(pixels))
        if self.background is not None:
            if self.background.shape[1:] != pixels.shape[1:] or not len(self.background):
                raise ValueError(
                    f"background has shape {tuple(self.background.shape)}, expected (M, *{tuple(pixels.shape[1:])}) "
                    "with at least one image, like the inputs."
                )
            background = self.background.to(pixels.device, pixels.dtype)
            return background[torch.randint(len(background), size, device=pixels.device)]
        if batch == 1:
            raise ValueError(
                "A batch of one sample has no others to take for references; give some images as background=."
            )
        further = torch.randint(1, batch, size, device=pixels.device)
        return pixels[(torch.arange(batch, device=pixels.device) + further) % batch]
