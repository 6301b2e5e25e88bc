"""The share of the model's positive saliency that lies outside a mask."""

import math

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Backend, Divergence, masked_sum
from saliency_losses.divergences.normalize import FLAT, magnitude
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import RAW
from saliency_losses.sizing import Sizing

__all__ = ["Energy", "energy_outside"]


def energy_outside(
    model: Tensor, mask: Tensor, known: Tensor | None = None, *, floor: float = 0.0, eps: float = FLAT
) -> Tensor:
    r""":math:`1 - \sum_i h_i m_i^+ / \sum_i m_i^+` for each row of two (B, N) tensors; ``mask`` is h, in [0, 1].

    Example:
        >>> energy_outside(torch.tensor([[3.0, 1.0, -5.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([0.2500])
    """
    size = magnitude(model, known)
    positive = (model / size).relu()
    if known is not None:
        positive = torch.where(known > 0, positive, 0.0)
    inside, total = masked_sum(positive * mask, known), masked_sum(positive, known)
    none = total <= eps
    share = torch.where(none, 0.0, inside / torch.where(none, 1.0, total))
    if floor:
        size = size.squeeze(1)
        share = torch.where(total < floor / size, inside * size, share)
    return 1.0 - share


@DIVERGENCES.register("energy")
class Energy(Divergence):
    r"""The share of the model's positive saliency that lies outside the mask.

    .. math:: 1 - \frac{\sum_i h_i\, m_i^+}{\sum_i m_i^+}, \qquad m^+ = \max(0, m)

    From 0 (all inside) to 1 (all outside), whatever the scale of the model's map; negative saliency costs nothing. The
    human map is a mask in [0, 1]. An annotated but empty mask gives 1 and no gradient, as does a map of the model
    whose positive values add up to less than ``eps`` times its largest magnitude: it has no share to move.

    Args:
        normalize: Of the model's map.
        floor: In units of the map, as in published code (1e-7): where the positive values add up to less, the value is
            :math:`1 - \sum_i h_i m_i^+`, which depends on the map's scale.
        eps: Relative emptiness.
        sizing: How both maps come to one size; ``"enlarge"`` as published.
        backend: ``"auto"``, ``"eager"`` or ``"triton"``: see :class:`.Divergence`.

    Raises:
        ValueError: An option has an unknown value or is out of range.

    Example:
        >>> Energy()(torch.tensor([[3.0, 1.0, -5.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([0.2500])

    Reference:
        Rao, Böhle, Parchami-Araghi and Schiele, Studying How to Efficiently and Effectively Guide Models with
        Explanations, ICCV 2023; as a measure: Wang et al., Score-CAM, CVPR Workshops 2020.
    """

    reads = "mask"
    positive = True

    def __init__(
        self,
        *,
        normalize: str | Normalizer = RAW,
        floor: float = 0.0,
        eps: float = FLAT,
        sizing: Sizing = "area",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(normalize=normalize, sizing=sizing, backend=backend)
        for name, value in (("floor", floor), ("eps", eps)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}.")
        self.floor = floor
        self.eps = eps

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return energy_outside(model, human, known, floor=self.floor, eps=self.eps)
