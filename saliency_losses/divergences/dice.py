"""One minus the soft Dice coefficient of the maps."""

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Backend, Divergence, Reads, masked_sum
from saliency_losses.divergences.normalize import FLAT, within_unit
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.overlap import one_minus_share
from saliency_losses.divergences.scales import MINMAX, RAW
from saliency_losses.sizing import Sizing

__all__ = ["Dice", "dice_loss"]


def dice_loss(model: Tensor, human: Tensor, known: Tensor | None = None, *, squared: bool = True) -> Tensor:
    r""":math:`1 - 2 \sum_i m_i h_i / (\sum_i m_i^2 + \sum_i h_i^2)` for each row of two (B, N) tensors in [0, 1].

    Without ``squared`` the denominator is :math:`\sum_i m_i + \sum_i h_i`. Two empty maps give 0.

    Example:
        >>> import torch
        >>> dice_loss(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]])).round(decimals=4)
        tensor([0.3333])
    """
    common = masked_sum(model * human, known)
    if squared:
        model, human = model.square(), human.square()
    whole = masked_sum(model, known) + masked_sum(human, known)
    return one_minus_share(2.0 * common, whole, eps=FLAT**2 if squared else FLAT)


@DIVERGENCES.register("dice")
class Dice(Divergence):
    r"""One minus the soft Dice coefficient: from 0 (same maps) to 1 (no overlap).

    .. math:: 1 - \frac{2 \sum_i m_i h_i}{\sum_i m_i^2 + \sum_i h_i^2}

    Both maps are in [0, 1], by default each scaled to it on its own; what lies outside under another normaliser counts
    as the nearer end and gets no gradient. A flat model map is empty by default, and gets no gradient. One empty map
    gives 1, and an annotated but empty human map sends no gradient; two empty ones, whose length is below 1e-6, give 0.

    Args:
        normalize: Of the model's map: a normaliser, or its name.
        human_normalize: Of the human map; under ``"none"`` it must lie in [0, 1].
        squared: Whether the denominator sums squares, as V-Net does: zero only where the maps are equal. Without, it
            sums the maps: zero only for equal binary maps, and for soft human maps the smallest value is elsewhere.
        sizing: How both maps come to one size.
        backend: ``"auto"``, ``"eager"`` or ``"triton"``: see :class:`.Divergence`.

    Raises:
        ValueError: An option has an unknown value.

    Example:
        >>> import torch
        >>> Dice()(torch.tensor([[0.0, 3.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]])).round(decimals=4)
        tensor([0.3333])

    Reference:
        Milletari, Navab and Ahmadi, V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
        Segmentation, 3DV 2016; Dice, Measures of the Amount of Ecologic Association Between Species, 1945.
    """

    def __init__(
        self,
        *,
        normalize: str | Normalizer = MINMAX,
        human_normalize: str | Normalizer = MINMAX,
        squared: bool = True,
        sizing: Sizing = "area",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing, backend=backend)
        self.reads: Reads = "mask" if self.human_normalize == RAW else "saliency"
        self.squared = squared

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return dice_loss(within_unit(model), within_unit(human), known, squared=self.squared)
