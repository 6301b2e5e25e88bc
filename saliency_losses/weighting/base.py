"""What a weighting is: the task's and the saliency's terms in, one loss out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.registry import Registry, options_of

__all__ = ["WEIGHTINGS", "Weighting", "check_device", "learns"]


class Weighting(nn.Module, ABC):
    """Combines the two terms; works on scalars and on one value per sample alike.

    What it learns or counts is in buffers and parameters, so ``state_dict`` resumes a training exactly; an instance
    therefore serves one guided loss. Clone a buffer before it becomes part of the loss: the next step changes it,
    perhaps before ``backward``.

    Example:
        >>> class Capped(Weighting):
        ...     def forward(self, task, saliency, model=None):
        ...         return task + saliency.clamp(max=1.0)
        >>> Capped()(torch.tensor(0.5), torch.tensor(3.0))
        tensor(1.5000)

    Attributes:
        together: Whether statistics are those of all processes that train together; the guided loss switches that off
            under ``gradient_sync="none"``.
    """

    together: bool = True

    @abstractmethod
    def forward(self, task: Tensor, saliency: Tensor, model: nn.Module | None = None) -> Tensor:
        """The loss.

        Args:
            task: The task's term, a scalar or (B,).
            saliency: The saliency's, in the same shape; zero where there is no human map.
            model: In a guided step, the model that both are of. Without it, in eval mode and without gradients the last
                state counts, and stays as it is.

        Raises:
            RuntimeError: The terms are on another device than the weighting's state.
        """

    @property
    def needs_saliency(self) -> bool:
        """Whether the saliency term counts at all; where not, it is never computed."""
        return True

    @property
    def scheduled_off(self) -> bool:
        """Whether a schedule alone keeps the saliency term from counting now."""
        return False

    def step(self) -> None:
        """Call once per epoch, as for a learning rate scheduler; moves schedules on, where there are any."""

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        return options_of(self)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Weighting":
        """Moves and converts, but keeps the state in float32 at least: sums and averages drown in half precision."""
        apply: Any = super()._apply
        apply(fn, recurse)
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                self._buffers[name] = buffer.to(torch.promote_types(buffer.dtype, torch.float32))
        return self


WEIGHTINGS: Registry[Weighting] = Registry("weighting", Weighting)


def learns(weighting: Weighting, model: nn.Module | None) -> bool:
    """Whether this call is a step of a training, after which the weighting's state may be another."""
    return model is not None and (weighting.training or model.training) and torch.is_grad_enabled()


def check_device(weighting: Weighting, term: Tensor) -> None:
    """Refuse terms that are elsewhere than the weighting's state.

    Raises:
        RuntimeError: They are.
    """
    if not torch.compiler.is_compiling():
        for state in chain(weighting.buffers(), weighting.parameters()):
            if state.device != term.device:
                raise RuntimeError(
                    f"The terms are on {term.device}, but the state of {weighting} is on {state.device}: move the "
                    "loss, guided.to(device), not the model alone."
                )
