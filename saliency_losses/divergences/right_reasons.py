"""Squared saliency where the model must not look."""

from typing import Literal

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Backend, Divergence, masked_sum
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import RAW
from saliency_losses.sizing import Sizing

__all__ = ["RightReasons", "squared_saliency"]


def squared_saliency(model: Tensor, forbidden: Tensor, known: Tensor | None = None) -> Tensor:
    r""":math:`\sum_i (a_i m_i)^2` for each row of two (B, N) tensors; ``forbidden`` is a.

    Example:
        >>> import torch
        >>> squared_saliency(torch.tensor([[3.0, 2.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([4.])
    """
    return masked_sum((forbidden * model).square(), known)


@DIVERGENCES.register("right_reasons")
class RightReasons(Divergence):
    r"""Right for the right reasons: the model's squared saliency, summed over where it must not look.

    .. math:: \sum_i (a_i\, m_i)^2

    The human map is a mask in [0, 1] (uint8 maps are scaled from 0..255). Under ``"look_here"`` the forbidden region is
    its complement, :math:`a = 1 - h`; an annotated but empty mask forbids everything. Under ``"never_here"`` it is the
    mask itself; an empty mask forbids nothing and costs zero.

    The original explains the sum of the log-probabilities of all classes by the input gradient: pass
    ``score=lambda output, targets: output.log_softmax(1).sum(1)`` to the extractor.

    Args:
        human: Whether the mask marks where to look or where not to.
        normalize: Of the model's map: ``"none"`` as published, or such as ``"max_abs"`` for the form that does not
            depend on its scale (RRR*, Rao et al. 2023).
        sizing: How both maps come to one size.
        backend: ``"auto"``, ``"eager"`` or ``"triton"``: see :class:`.Divergence`.

    Raises:
        ValueError: An option has an unknown value.

    Example:
        >>> import torch
        >>> RightReasons()(torch.tensor([[3.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([4.])

    Reference:
        Ross, Hughes and Doshi-Velez, Right for the Right Reasons: Training Differentiable Models by Constraining their
        Explanations, IJCAI 2017.
    """

    reads = "mask"

    def __init__(
        self,
        *,
        human: Literal["look_here", "never_here"] = "look_here",
        normalize: str | Normalizer = RAW,
        sizing: Sizing = "area",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(normalize=normalize, sizing=sizing, backend=backend)
        if human not in ("look_here", "never_here"):
            raise ValueError(f"human must be 'look_here' or 'never_here', got {human!r}.")
        self.human = human
        self.empty_is_suspicious = human == "look_here"

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        forbidden = human if self.human == "never_here" else 1.0 - human
        return squared_saliency(model, forbidden.clamp(0.0, 1.0), known)
