"""Relevance outside a mask towards zero, inside towards one."""

import math

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_mean
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import MINMAX
from saliency_losses.sizing import Sizing

__all__ = ["ForegroundBackground", "relevance_loss"]


def relevance_loss(
    model: Tensor, mask: Tensor, known: Tensor | None = None, *, background: float = 2.0, foreground: float = 0.3
) -> Tensor:
    r""":math:`\frac{1}{N} \sum_i w_b (m_i (1 - h_i))^2 + w_f (m_i h_i - h_i)^2` for each row of two (B, N) tensors.

    Example:
        >>> import torch
        >>> relevance_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([1.1500])
    """
    inside = model * mask
    return masked_mean(background * (model - inside).square() + foreground * (inside - mask).square(), known)


@DIVERGENCES.register("foreground_background")
class ForegroundBackground(Divergence):
    r"""Mean squared relevance outside the mask, and missing relevance inside it, each with its weight.

    .. math:: \frac{1}{N} \sum_i w_b\, \big(m_i (1 - h_i)\big)^2 + w_f\, (m_i h_i - h_i)^2

    The human map is a mask in [0, 1], the model's map scaled from 0 to 1. A flat model map counts as all zeros: it
    costs :math:`w_f` times the mean of the mask's squares, and gets no gradient. An annotated but empty mask asks for a
    flat map.

    Args:
        normalize: Of the model's map: a normaliser, or its name.
        background: :math:`w_b`.
        foreground: :math:`w_f`.
        sizing: How both maps come to one size: the model's is enlarged, as published, since the mask is.

    Raises:
        ValueError: An option has an unknown value or is out of range.

    Example:
        >>> import torch
        >>> ForegroundBackground()(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([1.1500])

    Reference:
        Chefer, Schwartz and Wolf, Optimizing Relevance Maps of Vision Transformers Improves Robustness, NeurIPS 2022.
    """

    reads = "mask"

    def __init__(
        self,
        *,
        normalize: str | Normalizer = MINMAX,
        background: float = 2.0,
        foreground: float = 0.3,
        sizing: Sizing = "enlarge",
    ) -> None:
        super().__init__(normalize=normalize, sizing=sizing)
        for name, value in (("background", background), ("foreground", foreground)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}.")
        self.background = background
        self.foreground = foreground

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return relevance_loss(model, human, known, background=self.background, foreground=self.foreground)
