"""Kullback-Leibler divergence of the human map against the model's."""

from typing import Literal

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence
from saliency_losses.divergences.normalize import FLAT, log_softmax, standardize, sum_to_one

__all__ = ["KL", "kullback_leibler"]


def kullback_leibler(log_model: Tensor, human: Tensor) -> Tensor:
    r""":math:`\sum_i q_i (\log q_i - \log p_i)` for each row; ``log_model`` is log p, ``human`` is q, both (B, N).

    Example:
        >>> kullback_leibler(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]))
        tensor([0.6931])
    """
    return (torch.xlogy(human, human) - human * log_model).sum(1)


@DIVERGENCES.register("kl")
class KL(Divergence):
    r"""Kullback-Leibler divergence KL(human || model) between the maps as distributions over positions.

    .. math:: \sum_i q_i \log \frac{q_i}{p_i}, \qquad q = \frac{h}{\sum h},
        \qquad p = \operatorname{softmax}\!\left(\frac{m - \bar m}{\tau\, \sigma_m}\right)

    The model's map is standardised before the softmax, so that the divergence does not depend on its scale and
    extractors, whose maps differ by orders of magnitude, can be swapped.

    A flat model map is the uniform distribution and gets no gradient; an annotated but empty human map is the uniform
    distribution too.

    Args:
        normalize: Of the model's map: ``"softmax"`` (of the standardised map), ``"raw_softmax"``, or ``"sum"``
            (shifted to be non-negative).
        human_normalize: Of the human map: ``"sum"``, or ``"softmax"`` of the standardised map.
        temperature: In standard deviations of the map (for ``"raw_softmax"``, in its units).
        floor: Added to the model's probabilities under ``"sum"``, which may be zero.
        eps: A map whose deviation is below this share of its largest magnitude is flat.
        detach: Take the model map's mean and deviation as constants.

    Raises:
        ValueError: An option has an unknown value, or the temperature is not positive.

    Example:
        >>> KL()(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 5.0]]))
        tensor([0.6931])

    Reference:
        Kullback and Leibler, On Information and Sufficiency, 1951; between saliency maps: Bylinskii et al., What do
        different evaluation metrics tell us about saliency models?, TPAMI 2019.
    """

    def __init__(
        self,
        *,
        normalize: Literal["softmax", "raw_softmax", "sum"] = "softmax",
        human_normalize: Literal["sum", "softmax"] = "sum",
        temperature: float = 1.0,
        floor: float = 1e-8,
        eps: float = FLAT,
        detach: bool = False,
    ) -> None:
        super().__init__()
        if normalize not in ("softmax", "raw_softmax", "sum"):
            raise ValueError(f"normalize must be 'softmax', 'raw_softmax' or 'sum', got {normalize!r}.")
        if human_normalize not in ("sum", "softmax"):
            raise ValueError(f"human_normalize must be 'sum' or 'softmax', got {human_normalize!r}.")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.normalize = normalize
        self.human_normalize = human_normalize
        self.temperature = temperature
        self.floor = floor
        self.eps = eps
        self.detach = detach

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        if self.normalize == "sum":
            log_model = (sum_to_one(model, known) + self.floor).log()
        else:
            if self.normalize == "softmax":
                model = standardize(model, known, eps=self.eps, detach=self.detach)
            log_model = log_softmax(model / self.temperature, known)
        if self.human_normalize == "sum":
            human = sum_to_one(human, known)
        else:
            human = log_softmax(standardize(human, known, eps=self.eps), known).exp()
            human = human if known is None else torch.where(known > 0, human, 0.0)
        return kullback_leibler(log_model, human)
