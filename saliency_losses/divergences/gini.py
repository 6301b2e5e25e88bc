"""How evenly the model's map is spread over positions."""

from typing import get_args

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES
from saliency_losses.divergences.normalize import FLAT, Scope
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.prior import Prior
from saliency_losses.divergences.scales import RAW

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

    A small value asks for a sparse map. It does not depend on the map's scale. A flat or empty map gives 1, the largest
    value, and no gradient; nor do positions where the map is zero get any.

    Args:
        magnitudes: Those of each map, ``"sample"``; or, as published, their mean over all maps in this process's
            ``"batch"``, which is for maps whose positions mean the same in each, such as the columns of a table. The
            value is then the same for all maps.
        normalize: A normaliser, or its name.

    Raises:
        ValueError: An option has an unknown value.

    Example:
        >>> Gini()(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, -5.0, 0.0]]))
        tensor([1.0000, 0.2500])

    Reference:
        Gini, Variabilità e mutabilità, 1912; on saliency: Erion, Janizek, Sturmfels, Lundberg and Lee, Improving
        performance of deep learning models with axiomatic attribution priors and expected gradients, Nature Machine
        Intelligence 2021.
    """

    def __init__(self, *, magnitudes: Scope = "sample", normalize: str | Normalizer = RAW) -> None:
        super().__init__(normalize=normalize)
        if magnitudes not in get_args(Scope):
            raise ValueError(f"magnitudes must be 'sample' or 'batch', got {magnitudes!r}.")
        self.magnitudes = magnitudes

    @property
    def scope(self) -> Scope:
        """See :attr:`Divergence.scope`."""
        return "batch" if self.magnitudes == "batch" else super().scope

    def measure(self, model: Tensor) -> Tensor:
        """See :meth:`Prior.measure`."""
        if self.magnitudes == "sample":
            return 1.0 - gini_index(model)
        largest = model.detach().abs().amax()
        mean = (model / torch.where(largest < torch.finfo(model.dtype).tiny, 1.0, largest)).abs().mean(0, keepdim=True)
        return (1.0 - gini_index(mean)).expand(len(model))
