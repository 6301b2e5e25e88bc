"""A fixed share for each term."""

from torch import Tensor, nn

from saliency_losses.weighting.base import WEIGHTINGS, check_device
from saliency_losses.weighting.schedule import Schedule
from saliency_losses.weighting.scheduled import Scheduled

__all__ = ["Convex"]


@WEIGHTINGS.register("convex")
class Convex(Scheduled):
    r"""CYBORG's ``alpha * task + (1 - alpha) * saliency``.

    .. math:: (1 - s)\, L_{task} + s\, L_{saliency}, \qquad s = f(epoch)\, (1 - \alpha)

    A small alpha also shrinks the task's gradient, hence its learning rate; :class:`Additive` leaves it alone.

    Args:
        alpha: Share of the task, in [0, 1].
        schedule: The factor f of the saliency's share, by epoch; call ``step()`` once per epoch. 1 by default. While
            it is 0 no map is computed.

    Raises:
        ValueError: alpha lies outside, or the schedule gives a factor that is negative, or a share above 1.
        TypeError: The schedule cannot be called.

    Example:
        >>> import torch
        >>> from saliency_losses.weighting import OffUntil
        >>> weighting = Convex(0.25, schedule=OffUntil(1))
        >>> weighting.needs_saliency
        False
        >>> weighting.step()
        >>> weighting(torch.tensor(1.0), torch.tensor(2.0))
        tensor(1.7500)

    Reference:
        Boyd et al., CYBORG: Blending Human Saliency Into the Loss Improves Deep Learning, WACV 2023.
    """

    def __init__(self, alpha: float = 0.5, *, schedule: Schedule | None = None) -> None:
        self.alpha = alpha
        super().__init__(schedule, most=1.0 / (1.0 - alpha) if alpha < 1.0 else float("inf"))

    @property
    def alpha(self) -> float:
        """Share of the task; may be set anew."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        if not isinstance(alpha, (int, float)) or not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha must lie in [0, 1] (1 is the task alone), got {alpha!r}.")
        self._alpha = float(alpha)

    def forward(self, task: Tensor, saliency: Tensor, model: nn.Module | None = None) -> Tensor:
        """See :meth:`Weighting.forward`."""
        if self.schedule is None:
            return self.alpha * task + (1.0 - self.alpha) * saliency
        check_device(self, task)
        share = (1.0 - self.alpha) * self.factor
        return (1.0 - share) * task + share * saliency

    @property
    def needs_saliency(self) -> bool:
        """See :attr:`Weighting.needs_saliency`."""
        return self.alpha < 1.0 and self._on

    def extra_repr(self) -> str:
        """The options."""
        return f"alpha={self.alpha}" + ("" if self.schedule is None else f", schedule={self.schedule}")
