"""One minus the cosine between the maps."""

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Backend, Divergence, masked_sum
from saliency_losses.divergences.normalize import l2
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import RAW
from saliency_losses.sizing import Sizing

__all__ = ["Cosine", "cosine_similarity"]


def cosine_similarity(model: Tensor, human: Tensor, known: Tensor | None = None) -> Tensor:
    r""":math:`\frac{\sum_i m_i h_i}{\|m\|\, \|h\|}` for each row of two (B, N) tensors; 0 where either is all zero.

    Example:
        >>> import torch
        >>> cosine_similarity(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 5.0]]))
        tensor([0.8000])
    """
    return masked_sum(l2(model, known) * l2(human, known), known)


@DIVERGENCES.register("cosine")
class Cosine(Divergence):
    r"""One minus the cosine between the maps as vectors: from 0 (same direction) over 1 (orthogonal) to 2 (opposite).

    .. math:: 1 - \frac{\sum_i m_i h_i}{\sqrt{\sum_i m_i^2}\, \sqrt{\sum_i h_i^2}}

    It does not depend on the scale of either map; ``correlation`` does not depend on their shift either. An all-zero
    map on either side gives 1 and no gradient; that holds for an annotated but empty human map.

    Args:
        normalize: Of the model's map, before: a normaliser, or its name.
        human_normalize: Of the human map, likewise.
        sizing: How both maps come to one size.
        backend: ``"auto"``, ``"eager"`` or ``"triton"``: see :class:`.Divergence`.

    Raises:
        ValueError: An option has an unknown value.

    Example:
        >>> import torch
        >>> Cosine()(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 5.0]]))
        tensor([0.2000])

    Reference:
        Parchami-Araghi, Böhle, Rao and Schiele, Good Teachers Explain: Explanation-Enhanced Knowledge Distillation,
        ECCV 2024.
    """

    def __init__(
        self,
        *,
        normalize: str | Normalizer = RAW,
        human_normalize: str | Normalizer = RAW,
        sizing: Sizing = "area",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing, backend=backend)

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return 1.0 - cosine_similarity(model, human, known)
