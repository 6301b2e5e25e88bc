"""What a saliency metric is: a torchmetrics metric whose functional twin gives one value per map."""

import hashlib
import warnings
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from saliency_losses.registry import Registry

try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError('saliency_losses.metrics needs torchmetrics: pip install "saliency-losses[metrics]".') from error

__all__ = ["METRICS", "MeanOverMaps", "SaliencyMetric", "warn_of_none"]


class SaliencyMetric(Metric, ABC):
    """A torchmetrics metric of saliency maps; subclass :class:`MeanOverMaps` for one that is a mean over maps.

    States are in double precision. They are named after class and options: a ``MetricCollection`` takes metrics whose
    states have the same names and, after the first batch, the same values for one, and would give both the value of the
    first ever after.

    Attributes:
        options: Of the functional twin, by keyword.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = options
        self.set_dtype(torch.float64)

    def state_name(self, what: str) -> str:
        """The name of a state that no metric of another class or with other options has.

        Example:
            >>> from saliency_losses.metrics import PointingGame
            >>> PointingGame().state_name("count") == PointingGame(tolerance=15).state_name("count")
            False
        """
        written = ", ".join(f"{name}={_written(value)}" for name, value in self.options.items())
        return f"{what}_{type(self).__name__}_{hashlib.sha256(written.encode()).hexdigest()[:12]}"

    def extra_repr(self) -> str:
        """The options."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class MeanOverMaps(SaliencyMetric, ABC):
    """The mean of a value over all maps that have one, in all batches and processes.

    Implement ``measure``.

    Example:
        >>> class Peak(MeanOverMaps):
        ...     higher_is_better = True
        ...     def measure(self, model, human, annotated):
        ...         return model.flatten(1).amax(1)
        >>> metric = Peak({})
        >>> metric.update(torch.tensor([[[1.0, 3.0]], [[5.0, 2.0]]]))
        >>> metric.compute()
        tensor(4., dtype=torch.float64)
    """

    def __init__(self, options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(options, **kwargs)
        self._sum, self._count = self.state_name("sum"), self.state_name("count")
        self.add_state(self._sum, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state(self._count, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @abstractmethod
    def measure(self, model: Tensor, human: Tensor | None, annotated: Tensor | None) -> Tensor:
        """One value per map, (B,); NaN for maps that do not count."""

    def update(self, model: Tensor, human: Tensor | None = None, annotated: Tensor | None = None) -> None:
        r"""Take in a batch.

        Args:
            model: The model's maps, (B, \*s).
            human: What they are compared with, (B, \*S).
            annotated: Which samples count, (B,); all by default.

        Raises:
            TypeError: As the functional twin.
            ValueError: As the functional twin, or ``annotated`` came in the place of human maps.
        """
        if human is not None and human.ndim == 1:
            raise ValueError(
                f"{type(self).__name__} got human maps of shape {tuple(human.shape)}; which samples count is given by "
                "keyword: annotated=."
            )
        values = self.measure(model, human, annotated)
        there = ~values.isnan()
        setattr(self, self._sum, getattr(self, self._sum) + torch.where(there, values, 0.0).double().sum())
        setattr(self, self._count, getattr(self, self._count) + there.sum())

    def compute(self) -> Tensor:
        """The mean over all maps that count; NaN, with a warning, where there is none."""
        total, count = getattr(self, self._sum), getattr(self, self._count)
        if count == 0:
            warn_of_none(self)
        mean: Tensor = total / count
        return mean


METRICS: Registry[SaliencyMetric] = Registry("metric", SaliencyMetric)


def warn_of_none(metric: SaliencyMetric) -> None:
    """Warn that no map counted."""
    warnings.warn(
        f"{type(metric).__name__} has seen no annotated map that it is defined for since its last reset: it is NaN.",
        UserWarning,
        stacklevel=3,
    )


def _written(value: Any) -> str:
    """What tells an option from others: a tensor in full, a callable without a name of its own by its place."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)}{value.flatten().tolist()}"
    name = getattr(value, "__qualname__", "<")
    return repr(value) if "<" in name else f"{value.__module__}.{name}"
