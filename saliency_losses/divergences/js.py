"""Jensen-Shannon divergence between the maps as distributions."""

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Backend, Divergence
from saliency_losses.divergences.distributions import SOFTMAX, SUM
from saliency_losses.divergences.normalizer import Normalizer, check_distributions
from saliency_losses.sizing import Sizing

__all__ = ["JS", "jensen_shannon"]


def jensen_shannon(log_model: Tensor, human: Tensor) -> Tensor:
    r""":math:`\frac12 \sum_i p_i \log \frac{2 p_i}{p_i + q_i} + \frac12 \sum_i q_i \log \frac{2 q_i}{p_i + q_i}`.

    Args:
        log_model: log p, (B, N).
        human: q, (B, N).

    Example:
        >>> jensen_shannon(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]))
        tensor([0.2158])
    """
    least = torch.finfo(human.dtype).tiny
    model = log_model.exp()
    log_both = (0.5 * (model + human)).clamp_min(least).log()
    return 0.5 * (model * (log_model - log_both) + human * (human.clamp_min(least).log() - log_both)).sum(1)


@DIVERGENCES.register("js")
class JS(Divergence):
    r"""Jensen-Shannon divergence between the maps as distributions over positions: from 0 to log 2.

    .. math:: \frac12 \sum_i p_i \log \frac{2 p_i}{p_i + q_i} + \frac12 \sum_i q_i \log \frac{2 q_i}{p_i + q_i},
        \qquad q = \frac{h}{\sum h}, \qquad p = \operatorname{softmax}\!\left(\frac{m - \bar m}{\tau\, \sigma_m}\right)

    Unlike ``kl`` it is symmetric and bounded. The model's map is standardised before the softmax, so that the
    divergence does not depend on its scale. A flat model map is the uniform distribution and gets no gradient; an
    annotated but empty human map is the uniform distribution too.

    Args:
        normalize: Of the model's map: a normaliser that makes a distribution, or its name: ``"softmax"``,
            ``Softmax(temperature=..., standardize=...)``, or ``"sum"``, whose ``log_floor`` is then added to each
            probability.
        human_normalize: Of the human map, likewise.
        sizing: How both maps come to one size.
        backend: ``"auto"``, ``"eager"`` or ``"triton"``: see :class:`.Divergence`.

    Raises:
        ValueError: An option has an unknown value, or a normaliser gives no distribution.

    Example:
        >>> JS()(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 5.0]]))
        tensor([0.2158])

    Reference:
        Lin, Divergence Measures Based on the Shannon Entropy, IEEE Transactions on Information Theory, 1991.
    """

    logs = True

    def __init__(
        self,
        *,
        normalize: str | Normalizer = SOFTMAX,
        human_normalize: str | Normalizer = SUM,
        sizing: Sizing = "area",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing, backend=backend)
        check_distributions("JS", human_normalize=self.human_normalize)

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`; ``model`` is the logarithm."""
        if known is not None:
            model = torch.where(known > 0, model, torch.finfo(model.dtype).min)
        return jensen_shannon(model, human)
