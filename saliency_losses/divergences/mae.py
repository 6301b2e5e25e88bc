"""Mean absolute error between normalised maps."""

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Backend, Divergence, Reads, masked_mean
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import MINMAX, RAW
from saliency_losses.sizing import Sizing

__all__ = ["MAE", "mean_absolute_error"]


def mean_absolute_error(model: Tensor, human: Tensor, known: Tensor | None = None) -> Tensor:
    r""":math:`\frac{1}{N} \sum_i |m_i - h_i|` for each row of two (B, N) tensors.

    Example:
        >>> import torch
        >>> mean_absolute_error(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
        tensor([0.5000])
    """
    return masked_mean((model - human).abs(), known)


@DIVERGENCES.register("mae")
class MAE(Divergence):
    r"""Mean absolute error between the maps, by default each scaled from 0 to 1 on its own, as GRADIA does.

    .. math:: \frac{1}{N} \sum_i |\hat m_i - \hat h_i|, \qquad \hat x = \frac{x - \min x}{\max x - \min x}

    A flat map counts as all zeros: a flat model map against a human map costs the mean of the human map, and an
    annotated but empty human map asks the model for a flat map. Neither sends a gradient through the flat side.
    Where both maps agree the gradient is zero.

    Args:
        normalize: Of the model's map: a normaliser, or its name. Model-Guidance's L1 takes
            ``MaxAbs(positive=True)`` against a raw mask.
        human_normalize: Of the human map; under ``"none"`` it must lie in [0, 1].
        sizing: How both maps come to one size.
        backend: ``"auto"``, ``"eager"`` or ``"triton"``: see :class:`.Divergence`.

    Raises:
        ValueError: An option has an unknown value.

    Example:
        >>> import torch
        >>> MAE()(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.0, 0.0, 3.0]]))
        tensor([0.1667])

    Reference:
        Gao, Sun, Zhao and Hong, Aligning Eyes between Humans and Deep Neural Network through Interactive Attention
        Alignment, CSCW 2022.
    """

    def __init__(
        self,
        *,
        normalize: str | Normalizer = MINMAX,
        human_normalize: str | Normalizer = MINMAX,
        sizing: Sizing = "area",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing, backend=backend)
        self.reads: Reads = "mask" if self.human_normalize == RAW else "saliency"

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return mean_absolute_error(model, human, known)
