"""Kullback-Leibler divergence between the maps as distributions."""

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Backend, Divergence
from saliency_losses.divergences.distributions import SOFTMAX, SUM, SumToOne
from saliency_losses.divergences.normalizer import Normalizer, check_distributions
from saliency_losses.sizing import Sizing

__all__ = ["KL", "kullback_leibler"]

_MIT_EPS = 2.2204e-16


def kullback_leibler(log_model: Tensor, human: Tensor) -> Tensor:
    r""":math:`\sum_i q_i (\log q_i - \log p_i)` for each row; ``log_model`` is log p, ``human`` is q, both (B, N).

    Example:
        >>> kullback_leibler(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]))
        tensor([0.6931])
    """
    log_human = human.clamp_min(torch.finfo(human.dtype).tiny).log()
    return (human * (log_human - log_model)).sum(1)


@DIVERGENCES.register("kl")
class KL(Divergence):
    r"""Kullback-Leibler divergence between the maps as distributions over positions.

    .. math:: \sum_i q_i \log \frac{q_i}{p_i}, \qquad q = \frac{h}{\sum h},
        \qquad p = \operatorname{softmax}\!\left(\frac{m - \bar m}{\tau\, \sigma_m}\right)

    The model's map is standardised before the softmax, so that the divergence does not depend on its scale and
    extractors, whose maps differ by orders of magnitude, can be swapped.

    A flat model map is the uniform distribution and gets no gradient; an annotated but empty human map is the uniform
    distribution too.

    Args:
        normalize: Of the model's map: a normaliser that makes a distribution, or its name: ``"softmax"``,
            ``Softmax(temperature=..., standardize=...)``, or ``"sum"``.
        human_normalize: Of the human map, likewise.
        direction: ``"human_model"`` is KL(human || model), which punishes a model that overlooks what people see;
            ``"model_human"`` is KL(model || human), which punishes a model that looks where people do not.
        form: ``"mit"`` is the benchmark's :math:`\sum_i q_i \log(\epsilon + q_i / (p_i + \epsilon))`, under ``"sum"``.
        floor: Added to the human map's probabilities under ``"model_human"``.
        sizing: How both maps come to one size.
        backend: ``"auto"``, ``"eager"`` or ``"triton"``: see :class:`.Divergence`.

    Raises:
        ValueError: An option has an unknown value or is out of range, or a normaliser gives no distribution.

    Example:
        >>> KL()(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 5.0]]))
        tensor([0.6931])

    Reference:
        Kullback and Leibler, On Information and Sufficiency, 1951; between saliency maps, and the benchmark's form:
        Bylinskii et al., What do different evaluation metrics tell us about saliency models?, TPAMI 2019.
    """

    logs = True

    def __init__(
        self,
        *,
        normalize: str | Normalizer = SOFTMAX,
        human_normalize: str | Normalizer = SUM,
        direction: Literal["human_model", "model_human"] = "human_model",
        form: Literal["exact", "mit"] = "exact",
        floor: float = 1e-8,
        sizing: Sizing = "area",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing, backend=backend)
        check_distributions("KL", human_normalize=self.human_normalize)
        if direction not in ("human_model", "model_human"):
            raise ValueError(f"direction must be 'human_model' or 'model_human', got {direction!r}.")
        if form not in ("exact", "mit"):
            raise ValueError(f"form must be 'exact' or 'mit', got {form!r}.")
        if form == "mit":
            if direction != "human_model" or not isinstance(self.normalize, SumToOne):
                raise ValueError("form='mit' is KL(human || model) of sums: normalize='sum', direction='human_model'.")
            self.normalize = replace(self.normalize, log_floor=_MIT_EPS)
        if not 0.0 <= floor < math.inf:
            raise ValueError(f"floor must be finite and not negative, got {floor}.")
        self.direction = direction
        self.form = form
        self.floor = floor

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`; ``model`` is the logarithm."""
        if self.form == "mit":
            return (human * (human / model.exp() + _MIT_EPS).log()).sum(1)
        if self.direction == "human_model":
            return kullback_leibler(torch.where(human > 0, model, 0.0), human)
        share = model.exp() if known is None else torch.where(known > 0, model.exp(), 0.0)
        return (share * (model - (human + self.floor).log())).sum(1)
