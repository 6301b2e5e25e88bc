"""Binary cross-entropy between the maps, cell by cell."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_losses.divergences.base import DIVERGENCES, Divergence, Reads, masked_mean
from saliency_losses.divergences.normalize import within_unit
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import MINMAX, RAW, MinMax, ZScore, ZScoreReLU
from saliency_losses.sizing import Sizing

__all__ = ["BCE", "mean_binary_cross_entropy"]

_NOT_CHOSEN = MinMax()


def mean_binary_cross_entropy(
    model: Tensor, human: Tensor, known: Tensor | None = None, *, eps: float = 0.01
) -> Tensor:
    r""":math:`-\frac{1}{N} \sum_i h_i \log p_i + (1 - h_i) \log(1 - p_i)` for each row of two (B, N) tensors in [0, 1].

    Args:
        model: Probabilities; :math:`p = \epsilon + (1 - 2 \epsilon)\, m`, and m is clamped to [0, 1].
        human: Targets.
        known: Weights of the cells, (B, N).
        eps: How far p stays from 0 and 1, so that its logarithm and the gradient stay finite.

    Example:
        >>> mean_binary_cross_entropy(torch.tensor([[0.5, 1.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([0.3516])
    """
    model = within_unit(model)
    present, absent = (((1.0 - 2.0 * eps) * share + eps).log() for share in (model, 1.0 - model))
    return -masked_mean(torch.lerp(absent, present, human), known)


@DIVERGENCES.register("bce")
class BCE(Divergence):
    r"""Binary cross-entropy: each cell of the model's map as the probability that people look there.

    .. math:: -\frac{1}{N} \sum_i \hat h_i \log p_i + (1 - \hat h_i) \log(1 - p_i),
        \qquad p = \epsilon + (1 - 2 \epsilon)\, \hat m, \qquad \hat x = \frac{x - \min x}{\max x - \min x}

    It is least, the mean binary entropy of :math:`\hat h`, where p equals :math:`\hat h`: zero only for a human map of
    zeros and ones. A flat map counts as all zeros: a flat model map costs :math:`-\log \epsilon` where people look and
    gets no gradient, and an annotated but empty human map asks for zeros everywhere.

    Args:
        form: ``"probabilities"``, or ``"logits"``, where p is the sigmoid of the model's map; by default of the map as
            it is.
        eps: How far probabilities stay from 0 and 1, which bounds a cell's gradient by :math:`1 / (\epsilon N)`. A map
            scaled from 0 to 1 has a cell at either end, and these two drown all others where it is very small.
        normalize: Of the model's map: a normaliser, or its name. What then lies outside [0, 1] is clamped, except under
            ``"logits"``.
        human_normalize: Of the human map; under ``"none"`` it must lie in [0, 1].
        sizing: How both maps come to one size.

    Raises:
        ValueError: eps lies outside (0, 0.5), the human map would leave [0, 1], or an option has an unknown value.

    Example:
        >>> BCE()(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.0, 0.0, 3.0]]))
        tensor([0.2377])

    Reference:
        Good, Rational Decisions, Journal of the Royal Statistical Society B, 1952.
    """

    def __init__(
        self,
        *,
        form: Literal["probabilities", "logits"] = "probabilities",
        eps: float = 0.01,
        normalize: str | Normalizer = _NOT_CHOSEN,
        human_normalize: str | Normalizer = MINMAX,
        sizing: Sizing = "area",
    ) -> None:
        if form not in ("probabilities", "logits"):
            raise ValueError(f"form must be 'probabilities' or 'logits', got {form!r}.")
        if not 0.0 < eps < 0.5:
            raise ValueError(f"eps must lie in (0, 0.5), got {eps}.")
        if form == "logits" and normalize is _NOT_CHOSEN:
            normalize = RAW
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing)
        if isinstance(self.human_normalize, (ZScore, ZScoreReLU)):
            raise ValueError(
                "human_normalize of BCE must keep the human map in [0, 1], such as 'minmax', or the loss falls without "
                f"end, got {self.human_normalize}."
            )
        self.form = form
        self.eps = eps
        self.reads: Reads = "mask" if self.human_normalize == RAW else "saliency"

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        if self.form == "logits":
            return masked_mean(F.binary_cross_entropy_with_logits(model, human, reduction="none"), known)
        return mean_binary_cross_entropy(model, human, known, eps=self.eps)
