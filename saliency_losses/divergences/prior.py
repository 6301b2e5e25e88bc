"""What is asked of a model's map alone."""

from abc import abstractmethod
from typing import final

from torch import Tensor

from saliency_losses.divergences.base import Divergence, Reads
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.pair import Pair
from saliency_losses.divergences.scales import RAW

__all__ = ["Prior"]


class Prior(Divergence):
    r"""A prior on the model's map; it needs no human map, and applies to samples without one too.

    Implement :meth:`measure`. What is unknown of a human map plays no part: the whole map of the model is measured.

    Example:
        >>> import torch
        >>> class Energy(Prior):
        ...     def measure(self, model):
        ...         return model.square().sum(1)
        >>> Energy()(torch.tensor([[3.0, 4.0]]))
        tensor([25.])
    """

    reads: Reads = "nothing"
    empty_is_suspicious = False

    def __init__(self, *, normalize: str | Normalizer = RAW) -> None:
        super().__init__(normalize=normalize)

    @abstractmethod
    def measure(self, model: Tensor) -> Tensor:
        r"""One value per normalised map, (B, N) or, where ``spatial``, (B, \*s)."""

    @final
    def values(self, pair: Pair) -> Tensor:
        """See :meth:`Divergence.values`."""
        return self.measure(self._laid_out(pair.alone(self.normalize, logs=self.logs)))

    @final
    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """The measure of the model's map; nothing else plays a part."""
        return self.measure(model)
