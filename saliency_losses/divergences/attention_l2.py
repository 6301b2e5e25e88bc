"""Mean squared difference of maps of unit length."""

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence
from saliency_losses.divergences.mse import mean_squared_error
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import L2
from saliency_losses.sizing import Sizing

__all__ = ["AttentionL2"]

_L2 = L2()


@DIVERGENCES.register("attention_l2")
class AttentionL2(Divergence):
    r"""Attention transfer: the mean squared difference of both maps, each of Euclidean length one.

    .. math:: \frac{1}{N} \sum_i \left(\frac{m_i}{\|m\|_2} - \frac{h_i}{\|h\|_2}\right)^2

    It does not depend on the scale of either map. Since the lengths are one it is :math:`2 (1 - \cos) / N`, so its size
    falls with the number of positions; published weights are about 1e3. An all-zero map stays zero: the value is 1 / N
    where one of both is empty, and 0 where both are. The gradient grows as the length of the model's map shrinks, as
    for every divergence that does not depend on scale; an all-zero map gets none. An annotated but empty human map
    sends no gradient.

    The original sums squared activations over channels at a layer of student and teacher,
    :math:`m = \operatorname{mean}_c F_c^2`; here the human map takes the teacher's place.

    Args:
        normalize: Of the model's map: a normaliser, or its name.
        human_normalize: Of the human map.
        sizing: How both maps come to one size.

    Raises:
        ValueError: An option has an unknown value.

    Example:
        >>> import torch
        >>> AttentionL2()(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
        tensor([1.])

    Reference:
        Zagoruyko and Komodakis, Paying More Attention to Attention: Improving the Performance of Convolutional Neural
        Networks via Attention Transfer, ICLR 2017.
    """

    def __init__(
        self,
        *,
        normalize: str | Normalizer = _L2,
        human_normalize: str | Normalizer = _L2,
        sizing: Sizing = "area",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing)

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        return mean_squared_error(model, human, known)
