"""What weightings with a schedule share: the clock that :meth:`~Weighting.step` moves."""

import math
import warnings
from typing import Any, TypeVar

import torch
from torch import Tensor

from saliency_losses.weighting.base import Weighting
from saliency_losses.weighting.schedule import Schedule, factor_at

__all__ = ["Scheduled"]

S = TypeVar("S", bound="Scheduled")

_TRAININGS = 3  # how often training is begun anew before a clock that stands still is worth a warning


class Scheduled(Weighting):
    """A weighting whose saliency term a schedule scales, or none.

    Args:
        schedule: See :data:`~saliency_losses.weighting.schedule.Schedule`; ``None`` for all of it, always.
        most: The largest factor that makes sense.

    Attributes:
        epoch: How often :meth:`step` was called.
    """

    factor: Tensor
    clock: Tensor

    def __init__(self, schedule: Schedule | None, most: float = math.inf) -> None:
        super().__init__()
        if schedule is not None and (isinstance(schedule, type) or not callable(schedule)):
            raise TypeError(
                f"schedule must map an epoch to a factor, such as Linear(0.0, 1.0, epochs=10), got {schedule!r}."
            )
        self.schedule = schedule
        self.epoch = 0
        self._most = most
        self._on = True
        self._trainings = 0
        if schedule is not None:
            self.register_buffer("factor", torch.ones(()), persistent=False)
            self.register_buffer("clock", torch.zeros((), dtype=torch.long))
            self._set(0)

    def scale(self) -> float:
        """The present factor."""
        return 1.0 if self.schedule is None else factor_at(self.schedule, self.epoch, self._most)

    def unscheduled(self: S) -> S:
        """The same without its schedule, which is taken off."""
        self.schedule, self._on = None, True
        return self

    @property
    def scheduled_off(self) -> bool:
        """See :attr:`Weighting.scheduled_off`."""
        return not self._on and self.schedule is not None

    def step(self) -> None:
        """See :meth:`Weighting.step`; per iteration where the schedule counts iterations."""
        if self.schedule is not None:
            self._set(self.epoch + 1)

    def train(self: S, mode: bool = True) -> S:
        """As for any module; warns when epochs seem to pass without :meth:`step`."""
        if mode and not self.training and self.schedule is not None:
            self._trainings += 1
            if self._trainings == _TRAININGS and self.epoch == 0:
                warnings.warn(
                    f"Training began {_TRAININGS} times anew, but the schedule {self.schedule} still stands at epoch "
                    "0: call guided.weighting.step() once per epoch.",
                    stacklevel=2,
                )
        return super().train(mode)

    def _set(self, epoch: int) -> None:
        """Go to this epoch; the factor changes in place, so that a compiled step reads it."""
        if self.schedule is not None:
            factor = factor_at(self.schedule, epoch, self._most)
            self.epoch, self._on = epoch, factor > 0.0
            self.factor.fill_(factor)
            self.clock.fill_(epoch)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if self.schedule is not None and not self.clock.is_meta:
            self._set(int(self.clock))
