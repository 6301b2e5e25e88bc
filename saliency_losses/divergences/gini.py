"""How evenly the model's map is spread over positions."""

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES
from saliency_losses.divergences.normalize import FLAT
from saliency_losses.divergences.normalizers import RAW, Normalizer
from saliency_losses.divergences.prior import Prior

__all__ = ["Gini", "gini_index"]


def gini_index(maps: Tensor, *, eps: float = FLAT) -> Tensor:
    r"""The Gini index of each row of (B, N): 0 where all magnitudes are equal, :math:`1 - 1/N` for a single one.

    A row whose magnitudes differ by less than ``eps`` times the largest is flat, one below the smallest normal number
    empty: 0, and no gradient.

    Example:
        >>> gini_index(torch.tensor([[1.0, -1.0], [0.0, 3.0]]))
        tensor([0.0000, 0.5000])
    """
    maps = maps.abs()
    low, high = maps.detach().aminmax(dim=1, keepdim=True)
    size = torch.where(high < torch.finfo(maps.dtype).tiny, 1.0, high)
    flat = (high - low) / size <= eps
    sizes, count = (maps / size).sort(1).values, maps.shape[1]
    ranks = torch.arange(1 - count, count, 2, dtype=maps.dtype, device=maps.device)
    total = torch.where(flat, 1.0, sizes.sum(1, keepdim=True))
    return torch.where(flat, 0.0, (sizes * ranks).sum(1, keepdim=True) / (count * total)).squeeze(1)


@DIVERGENCES.register("gini")
class Gini(Prior):
    r"""One minus the Gini index of the map's magnitudes: from :math:`1/N` (a single position) to 1 (all alike).

    .. math:: 1 - \frac{\sum_i \sum_j \big| |m_i| - |m_j| \big|}{2 N \sum_i |m_i|}

    A small value asks for a sparse map: it is the published loss, minus the index, plus one; the original takes the
    index of the magnitudes' mean over the batch, this of each map. It does not depend on the map's scale. A flat or
    empty map gives 1, the largest value, and no gradient; nor do positions where the map is zero get any.

    Args:
        normalize: A normaliser, or its name.

    Raises:
        ValueError: The normaliser is unknown.

    Example:
        >>> Gini()(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, -5.0, 0.0]]))
        tensor([1.0000, 0.2500])

    Reference:
        Gini, Variabilità e mutabilità, 1912; on saliency: Erion, Janizek, Sturmfels, Lundberg and Lee, Improving
        performance of deep learning models with axiomatic attribution priors and expected gradients, Nature Machine
        Intelligence 2021.
    """

    def __init__(self, *, normalize: str | Normalizer = RAW) -> None:
        super().__init__(normalize=normalize)

    def measure(self, model: Tensor) -> Tensor:
        """See :meth:`Prior.measure`."""
        return 1.0 - gini_index(model)
