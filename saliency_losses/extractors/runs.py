"""A way to call a model that taps it by itself, for extractors to use where they would tap it on their own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

__all__ = ["Differentiated", "TappingRun"]


class Differentiated(NamedTuple):
    r"""One forward pass and the gradients of what it scored.

    Attributes:
        output: Of the model.
        tensors: The tapped ones.
        score: (B,) or (B, K).
        grads: For each tensor (B, \*shape) or (B, K, \*shape), in at least float32.
    """

    output: Any
    tensors: tuple[Tensor, ...]
    score: Tensor
    grads: list[Tensor]


class TappingRun(ABC):
    """A :data:`~saliency_losses.extractors.base.Run` whose hooks stay on the model."""

    @abstractmethod
    def __call__(self, model: nn.Module, inputs: Any) -> Any:
        """The model's output."""

    @property
    @abstractmethod
    def traced(self) -> bool:
        """Whether this step must avoid what a compiler cannot trace: ``torch.autograd.grad`` and looks at numbers."""

    @property
    @abstractmethod
    def layouts(self) -> tuple[Any, ...]:
        """How each tapped layer is read."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What to call each tapped layer in errors."""

    @abstractmethod
    def layers(self, model: nn.Module, inputs: Any, layers: Sequence[str | None], **options: Any) -> Any:
        """In place of :func:`~saliency_losses.extractors.probe.probe`."""

    @abstractmethod
    def head(self, model: nn.Module, inputs: Any, choose: Callable[[Any], Any], name: str | None, *, leaf: bool) -> Any:
        """In place of :func:`~saliency_losses.extractors.probe.probe_head`."""

    @abstractmethod
    def differentiate_layers(
        self, model: nn.Module, inputs: Any, score: Callable[[Any], Tensor], *, constant: bool
    ) -> Differentiated:
        """In a traced step: the scores and their gradients at the tapped layers.

        Args:
            model: The model.
            inputs: For it.
            score: Of its output.
            constant: Whether statistics of BatchNorm above the layers are constants of these gradients.
        """

    @abstractmethod
    def differentiate_input(
        self,
        model: nn.Module,
        pixels: Tensor,
        rebuild: Callable[[Tensor], Any],
        score: Callable[[Any], Tensor],
        *,
        constant: bool,
    ) -> Differentiated:
        """In a traced step: the scores and their gradients at one of the inputs, which ``rebuild`` puts in place."""
