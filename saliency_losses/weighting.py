"""How the task's and the saliency's terms become one loss."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

__all__ = ["Additive", "Convex", "Weighting"]


class Weighting(nn.Module, ABC):
    """Combines the two terms; works on scalars and on one value per sample alike."""

    @abstractmethod
    def forward(self, task: Tensor, saliency: Tensor) -> Tensor:
        """The loss."""

    @property
    @abstractmethod
    def needs_saliency(self) -> bool:
        """Whether the saliency term counts at all; where not, it is never computed."""


class Convex(Weighting):
    """CYBORG's ``alpha * task + (1 - alpha) * saliency``.

    A small alpha also shrinks the task's gradient, hence its learning rate; :class:`Additive` leaves it alone.

    Args:
        alpha: Share of the task, in [0, 1].

    Raises:
        ValueError: alpha lies outside.

    Reference:
        Boyd et al., CYBORG: Blending Human Saliency Into the Loss Improves Deep Learning, WACV 2023.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha must lie in [0, 1] (1 is the task alone), got {alpha}.")
        self.alpha = alpha

    def forward(self, task: Tensor, saliency: Tensor) -> Tensor:
        """See :meth:`Weighting.forward`."""
        return self.alpha * task + (1.0 - self.alpha) * saliency

    @property
    def needs_saliency(self) -> bool:
        """See :attr:`Weighting.needs_saliency`."""
        return self.alpha < 1.0

    def extra_repr(self) -> str:
        """The options."""
        return f"alpha={self.alpha}"


class Additive(Weighting):
    """``task + weight * saliency``.

    Args:
        weight: Of the saliency term, not negative.

    Raises:
        ValueError: The weight is negative or not finite.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not 0.0 <= weight < float("inf"):
            raise ValueError(f"saliency_weight must be finite and not negative, got {weight}.")
        self.weight = weight

    def forward(self, task: Tensor, saliency: Tensor) -> Tensor:
        """See :meth:`Weighting.forward`."""
        return task + self.weight * saliency

    @property
    def needs_saliency(self) -> bool:
        """See :attr:`Weighting.needs_saliency`."""
        return self.weight > 0.0

    def extra_repr(self) -> str:
        """The options."""
        return f"weight={self.weight}"
