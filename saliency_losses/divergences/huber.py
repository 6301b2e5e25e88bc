"""Huber's loss between normalised maps."""

import math

from torch import Tensor
from torch.nn import functional as F

from saliency_losses.divergences.base import DIVERGENCES, Divergence, Reads, masked_mean
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import MINMAX, RAW
from saliency_losses.sizing import Sizing

__all__ = ["Huber", "mean_huber"]


def mean_huber(model: Tensor, human: Tensor, known: Tensor | None = None, *, delta: float = 0.5) -> Tensor:
    r"""The mean over each row of two (B, N) tensors of Huber's function of their difference.

    Example:
        >>> import torch
        >>> mean_huber(torch.tensor([[1.0, 0.25]]), torch.tensor([[0.0, 0.0]]))
        tensor([0.2031])
    """
    return masked_mean(F.huber_loss(model, human, reduction="none", delta=delta), known)


@DIVERGENCES.register("huber")
class Huber(Divergence):
    r"""Huber's loss: squared where the maps almost agree, absolute where they do not, so that outliers pull less.

    .. math:: \frac{1}{N} \sum_i \begin{cases} \frac12 d_i^2 & |d_i| \le \delta \\
        \delta\, (|d_i| - \frac12 \delta) & \text{otherwise} \end{cases}, \qquad d = \hat m - \hat h

    By default each map is scaled from 0 to 1 on its own. A flat map then counts as all zeros: a flat model map costs
    the mean of Huber's function of the human map, and an annotated but empty human map asks the model for a flat map.
    Neither sends a gradient through the flat side.

    Args:
        delta: Where squared becomes absolute, in units of the normalised maps.
        normalize: Of the model's map: a normaliser, or its name.
        human_normalize: Of the human map; under ``"none"`` it must lie in [0, 1].
        sizing: How both maps come to one size.

    Raises:
        ValueError: delta is not positive, or an option has an unknown value.

    Example:
        >>> import torch
        >>> Huber()(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.0, 0.0, 3.0]]))
        tensor([0.0417])

    Reference:
        Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics, 1964.
    """

    def __init__(
        self,
        *,
        delta: float = 0.5,
        normalize: str | Normalizer = MINMAX,
        human_normalize: str | Normalizer = MINMAX,
        sizing: Sizing = "area",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing)
        if not 0.0 < delta < math.inf:
            raise ValueError(f"delta must be positive and finite (MAE is the limit for zero), got {delta}.")
        self.delta = delta
        self.reads: Reads = "mask" if self.human_normalize == RAW else "saliency"

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return mean_huber(model, human, known, delta=self.delta)
