"""The task's term as it is, plus the saliency's."""

from torch import Tensor, nn

from saliency_losses.weighting.base import WEIGHTINGS, check_device
from saliency_losses.weighting.schedule import Schedule
from saliency_losses.weighting.scheduled import Scheduled

__all__ = ["Additive"]


@WEIGHTINGS.register("additive")
class Additive(Scheduled):
    r"""``task + weight * saliency``.

    .. math:: L_{task} + f(epoch)\, w\, L_{saliency}

    Args:
        weight: Of the saliency term, not negative.
        schedule: The factor f of the weight, by epoch; call ``step()`` once per epoch. 1 by default. While it is 0 no
            map is computed.

    Raises:
        ValueError: The weight, or a factor of the schedule, is negative or not finite.
        TypeError: The schedule cannot be called.

    Example:
        >>> import torch
        >>> from saliency_losses.weighting import Linear
        >>> weighting = Additive(2.0, schedule=Linear(1.0, 0.0, epochs=4))
        >>> weighting.step()
        >>> weighting(torch.tensor(1.0), torch.tensor(2.0))
        tensor(4.)
    """

    def __init__(self, weight: float = 1.0, *, schedule: Schedule | None = None) -> None:
        super().__init__(schedule)
        self.weight = weight

    @property
    def weight(self) -> float:
        """Of the saliency term; may be set anew."""
        return self._weight

    @weight.setter
    def weight(self, weight: float) -> None:
        if not isinstance(weight, (int, float)) or not 0.0 <= weight < float("inf"):
            raise ValueError(f"saliency_weight must be finite and not negative, got {weight!r}.")
        self._weight = float(weight)

    def forward(self, task: Tensor, saliency: Tensor, model: nn.Module | None = None) -> Tensor:
        """See :meth:`Weighting.forward`."""
        if self.schedule is None:
            return task + self.weight * saliency
        check_device(self, task)
        return task + self.weight * self.factor * saliency

    @property
    def needs_saliency(self) -> bool:
        """See :attr:`Weighting.needs_saliency`."""
        return self.weight > 0.0 and self._on

    def extra_repr(self) -> str:
        """The options."""
        return f"weight={self.weight}" + ("" if self.schedule is None else f", schedule={self.schedule}")
