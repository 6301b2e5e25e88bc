"""One minus the soft Jaccard index of the maps: intersection over union."""

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Backend, Divergence, Reads, masked_sum
from saliency_losses.divergences.normalize import within_unit
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.overlap import one_minus_share
from saliency_losses.divergences.scales import MINMAX, RAW
from saliency_losses.sizing import Sizing

__all__ = ["SoftIoU", "jaccard_loss"]


def jaccard_loss(model: Tensor, human: Tensor, known: Tensor | None = None) -> Tensor:
    r""":math:`1 - \sum_i \min(m_i, h_i) / \sum_i \max(m_i, h_i)` for each row of two (B, N) tensors in [0, 1].

    Two empty maps give 0.

    Example:
        >>> jaccard_loss(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([0.5000])
    """
    common = masked_sum(torch.minimum(model, human), known)
    return one_minus_share(common, masked_sum(model, known) + masked_sum(human, known) - common)


@DIVERGENCES.register("soft_iou")
class SoftIoU(Divergence):
    r"""One minus the soft Jaccard index, intersection over union: from 0 (same maps) to 1 (no overlap).

    .. math:: 1 - \frac{\sum_i \min(m_i, h_i)}{\sum_i \max(m_i, h_i)}

    For binary human maps this is the usual :math:`1 - \sum_i m_i h_i / \sum_i (m_i + h_i - m_i h_i)`; for soft ones it
    is, unlike that, smallest where the maps are equal.

    Both maps are in [0, 1], by default each scaled to it on its own; what lies outside under another normaliser counts
    as the nearer end and gets no gradient. A flat model map is empty by default, and gets no gradient. One empty map
    gives 1, and an annotated but empty human map sends no gradient; two empty ones, whose sum is below 1e-6, give 0.

    Args:
        normalize: Of the model's map: a normaliser, or its name.
        human_normalize: Of the human map; under ``"none"`` it must lie in [0, 1].
        sizing: How both maps come to one size.
        backend: ``"auto"``, ``"eager"`` or ``"triton"``: see :class:`.Divergence`.

    Raises:
        ValueError: An option has an unknown value.

    Example:
        >>> SoftIoU()(torch.tensor([[0.0, 3.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
        tensor([0.5000])

    Reference:
        Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, ISVC 2016;
        for soft maps: Wang, Ning and Blaschko, Jaccard Metric Losses: Optimizing the Jaccard Index with Soft Labels,
        NeurIPS 2023.
    """

    def __init__(
        self,
        *,
        normalize: str | Normalizer = MINMAX,
        human_normalize: str | Normalizer = MINMAX,
        sizing: Sizing = "area",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing, backend=backend)
        self.reads: Reads = "mask" if self.human_normalize == RAW else "saliency"

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return jaccard_loss(within_unit(model), within_unit(human), known)
