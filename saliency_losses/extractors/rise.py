"""The score of randomly masked images, given to the pixels that were seen."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.inputs import Baseline
from saliency_losses.extractors.perturbations import PerturbationExtractor
from saliency_losses.extractors.repeated import check_count
from saliency_losses.extractors.score import Score

__all__ = ["RISE", "rise_masks"]

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def rise_masks(count: int, size: tuple[int, ...], grid: int, p: float, device: torch.device | None = None) -> Tensor:
    r"""Random masks in [0, 1]: a coarse grid of zeros and ones, upsampled, at a random shift.

    Args:
        count: N.
        size: Of the image, \*S.
        grid: Cells along each axis.
        p: Probability that a cell is one.
        device: Of the masks.

    Returns:
        (N, \*S).

    Example:
        >>> rise_masks(2, (14, 21), grid=7, p=0.5).shape
        torch.Size([2, 14, 21])
    """
    cells = [math.ceil(length / grid) for length in size]
    coarse = (torch.rand(count, 1, *[grid] * len(size), device=device) < p).float()
    fine = F.interpolate(coarse, [(grid + 1) * cell for cell in cells], mode=_MODES[len(size)], align_corners=False)
    for axis, (length, cell) in enumerate(zip(size, cells, strict=True), start=2):
        start = torch.randint(cell, (count, 1), device=device) + torch.arange(length, device=device)
        index = start.view(count, *[length if other == axis else 1 for other in range(1, fine.ndim)])
        fine = fine.gather(axis, index.expand(*fine.shape[:axis], length, *fine.shape[axis + 1 :]))
    return fine.squeeze(1)


@EXTRACTORS.register("rise")
class RISE(PerturbationExtractor):
    r"""RISE: the score of randomly masked images, given to the pixels that were seen.

    .. math:: S(b, i) = \frac{1}{N p} \sum_n y_b(m_n \odot x)\, m_n(i)

    The masks are the same for all samples of a batch. They come from the global random generator of the input's device,
    after the plain pass; under distributed training each process draws its own.

    Args:
        n_masks: N; the paper takes 4000 and more to explain.
        grid: Cells of a mask along each axis, before it is upsampled.
        p: Probability that a cell is seen.
        baseline: What stands where nothing is seen: a number, a tensor that broadcasts to the input, or a function.
        chunk: How many masks go through the model at once.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`; a predicted class is that of the
            plain pass.
        input: Which input to explain, where the model takes several: its position or keyword. Other tensors whose
            first axis is the batch are repeated along with it where ``chunk`` is above 1.

    Raises:
        ValueError: An option is no positive integer, or p is no probability; on a call: the grid is finer than the
            image, the baseline does not fit, or there is no, or more than one, floating-point input to choose from.
        TypeError: The baseline is none.

    Example:
        >>> net, images = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)), torch.rand(5, 3, 4, 4)
        >>> RISE(n_masks=16, grid=2)(net, images, torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 4, 4])

    Reference:
        Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018.
    """

    def __init__(
        self,
        *,
        n_masks: int = 64,
        grid: int = 8,
        p: float = 0.5,
        baseline: Baseline = 0.0,
        chunk: int = 8,
        score: Score = "true",
        input: int | str | None = None,
    ) -> None:
        super().__init__(baseline=baseline, chunk=chunk, score=score, input=input)
        if not 0.0 < p <= 1.0:
            raise ValueError(f"p must be a probability above 0, got {p!r}.")
        self.n_masks = check_count(n_masks, "n_masks")
        self.grid = check_count(grid, "grid")
        self.p = p
        self.passes = 1 + math.ceil(n_masks / chunk)

    def masks(self, pixels: Tensor) -> Iterator[Tensor]:
        """Random masks."""
        size = tuple(pixels.shape[2:])
        if self.grid > min(size):
            raise ValueError(f"grid={self.grid} is finer than the image {size}; choose a coarser one.")
        masks = rise_masks(self.n_masks, size, self.grid, self.p, pixels.device).to(pixels.dtype)
        yield from torch.split(masks, self.chunk)

    def effects(self, values: Tensor, plain: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """The score, for what was seen."""
        return values, masks

    def average(self, total: Tensor, cover: Tensor) -> Tensor:
        """Over the masks, as many as see a pixel on average."""
        return total / (self.n_masks * self.p)
