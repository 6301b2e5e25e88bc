"""A rate that the first batches set."""

import math

import torch
from torch import Tensor, nn

from saliency_losses.weighting.base import WEIGHTINGS, Weighting, check_device, learns
from saliency_losses.weighting.statistics import levels

__all__ = ["Normalised"]


@WEIGHTINGS.register("normalised")
class Normalised(Weighting):
    r"""Brings the saliency's term to the size of the task's, once, by the first batches.

    .. math:: L_{task} + w\, r\, L_{saliency}, \qquad
        r = \frac{\sum_{i \le N} |L_{task}^{(i)}|}{\sum_{i \le N} |L_{saliency}^{(i)}|}

    The sums are over the first N training steps with an annotated map, of all processes that train together; until then
    r is that of the steps so far, and 1 before the first. A step whose saliency term is exactly zero counts as one
    without a map, and one with a term that is not finite does not count.

    Args:
        batches: N.
        weight: w, by which the saliency's term counts once it is of the task's size.

    Raises:
        ValueError: ``batches`` is not a positive integer, or ``weight`` is not positive and finite.

    Example:
        >>> weighting = Normalised(batches=1)
        >>> model = nn.Linear(1, 1)  # given in a guided step
        >>> weighting(torch.tensor(2.0), torch.tensor(0.5), model)
        tensor(4.)
        >>> weighting(torch.tensor(1.0), torch.tensor(0.5), model)
        tensor(3.)

    Reference:
        Friedrich et al., A typology for exploring the mitigation of shortcut behaviour, Nature Machine Intelligence,
        2023.
    """

    means: Tensor
    counted: Tensor

    def __init__(self, *, batches: int = 100, weight: float = 1.0) -> None:
        super().__init__()
        if not isinstance(batches, int) or isinstance(batches, bool) or batches < 1:
            raise ValueError(f"batches must be a positive integer, got {batches!r}.")
        if not 0.0 < weight < math.inf:
            raise ValueError(f"weight must be positive and finite, got {weight}.")
        self.batches = batches
        self.weight = weight
        self.register_buffer("means", torch.zeros(2))
        self.register_buffer("counted", torch.zeros((), dtype=torch.long))

    def forward(self, task: Tensor, saliency: Tensor, model: nn.Module | None = None) -> Tensor:
        """See :meth:`Weighting.forward`."""
        check_device(self, task)
        if learns(self, model):
            found = levels(task, saliency, model, together=self.together).to(self.means.dtype)
            counts = (self.counted < self.batches) & (found[1] > 0) & found.isfinite().all()
            self.counted.add_(counts)
            self.means.add_(torch.where(counts, (found - self.means) / self.counted, 0.0))
        return task + self.weight * self.rate() * saliency

    def rate(self) -> Tensor:
        """r, at present."""
        task, saliency = self.means.unbind()
        known = saliency > 0
        rate = torch.where(known, task / torch.where(known, saliency, 1.0), 1.0)
        return rate.clamp(max=torch.finfo(rate.dtype).max)
