"""Absolute saliency where the model must not look."""

from typing import Literal

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence, Reads, masked_sum
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import MINMAX, RAW
from saliency_losses.sizing import Sizing

__all__ = ["MaskedL1", "absolute_saliency"]


def absolute_saliency(model: Tensor, forbidden: Tensor, known: Tensor | None = None) -> Tensor:
    r""":math:`\frac{1}{N} \sum_i |a_i m_i|` for each row of two (B, N) tensors; ``forbidden`` is a.

    Example:
        >>> absolute_saliency(torch.tensor([[3.0, -2.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([1.])
    """
    if known is None:
        return (model * (forbidden / model.shape[1])).abs().sum(1)
    cells = known.sum(1, keepdim=True)
    return masked_sum((model * (forbidden / torch.where(cells > 0, cells, 1.0))).abs(), known)


@DIVERGENCES.register("masked_l1")
class MaskedL1(Divergence):
    r"""The model's absolute saliency where it must not look, averaged over all positions.

    .. math:: \frac{1}{N} \sum_i |a_i\, m_i|

    Under ``"look_here"`` :math:`a = 1 - h` for a human map from 0 to 1, by default scaled to it; an annotated but empty
    map forbids everything. Under ``"never_here"`` :math:`a = h`; an empty map costs zero. An all-zero map of the model
    costs zero and gets no gradient.

    The original compares language-image attention with the input gradient of the classification loss, averaged over
    channels as well: hand in the mean of its absolute value over channels.

    Args:
        human: Whether the map marks where to look or where not to.
        normalize: Of the model's map: ``"none"`` as published, or such as ``"max_abs"`` for a form that does not depend
            on its scale.
        human_normalize: Of the human map; under ``"none"`` it must lie in [0, 1].
        sizing: How both maps come to one size.

    Raises:
        ValueError: An option has an unknown value.

    Example:
        >>> MaskedL1()(torch.tensor([[3.0, -2.0]]), torch.tensor([[5.0, 0.0]]))
        tensor([1.])

    Reference:
        Petryk et al., On Guiding Visual Attention with Language Specification, CVPR 2022.
    """

    def __init__(
        self,
        *,
        human: Literal["look_here", "never_here"] = "look_here",
        normalize: str | Normalizer = RAW,
        human_normalize: str | Normalizer = MINMAX,
        sizing: Sizing = "area",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing)
        if human not in ("look_here", "never_here"):
            raise ValueError(f"human must be 'look_here' or 'never_here', got {human!r}.")
        self.reads: Reads = "mask" if self.human_normalize == RAW else "saliency"
        self.human = human
        self.empty_is_suspicious = human == "look_here"

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return absolute_saliency(model, human if self.human == "never_here" else 1.0 - human, known)
