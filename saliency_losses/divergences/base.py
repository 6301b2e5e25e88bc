"""What a divergence is: two maps in, one value per pair out."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from saliency_losses.divergences.normalize import Scope
from saliency_losses.registry import Registry, options_of

__all__ = ["DIVERGENCES", "Divergence", "masked_mean"]


class Divergence(nn.Module, ABC):
    r"""How far a model's map is from a human's.

    Implement :meth:`compare`, never :meth:`forward`, which has checked and flattened the maps by then. Normalisation
    belongs to the divergence. Values are computed in float32 (float64 for float64 maps), also under autocast.

    Example:
        >>> class MeanGap(Divergence):
        ...     def compare(self, model, human, known):  # known is None where all cells are
        ...         return (masked_mean(model, known) - masked_mean(human, known)).square()
        >>> MeanGap()(torch.ones(1, 2, 2), torch.zeros(1, 2, 2))
        tensor([1.])

    Attributes:
        spatial: Whether :meth:`compare` sees (B, \*s) instead of (B, N).
        human_range: Values that human maps may take; the guided loss checks them.
        empty_is_suspicious: Whether an all-zero human map is worth a warning when nobody said which maps exist.
        scope: ``"batch"`` where the statistics of one map depend on the others.
    """

    spatial: ClassVar[bool] = False
    human_range: tuple[float, float] = (0.0, float("inf"))
    empty_is_suspicious: bool = True
    scope: Scope = "sample"

    def forward(self, model: Tensor, human: Tensor, known: Tensor | None = None) -> Tensor:
        r"""One value per pair of maps.

        Args:
            model: The model's maps, (B, \*s), raw and signed.
            human: The human maps, (B, \*s).
            known: Weight of each cell in [0, 1], (B, \*s); cells of weight zero take no part, and a map without a
                known cell gives zero. All cells by default.

        Returns:
            (B,).

        Raises:
            ValueError: Shapes differ, a map is empty, or dtype is not floating point.
        """
        for name, tensor in (("human", human), ("known", known)):
            if tensor is not None and tensor.shape != model.shape:
                raise ValueError(
                    f"{type(self).__name__} expected maps of one shape, got model {tuple(model.shape)} and {name} "
                    f"{tuple(tensor.shape)}."
                )
        if model.ndim < 2 or model.numel() == 0:
            raise ValueError(
                f"{type(self).__name__} expected non-empty maps of shape (B, *s), got {tuple(model.shape)}."
            )
        if not (model.is_floating_point() and human.is_floating_point()):
            raise ValueError(
                f"{type(self).__name__} expected floating-point maps, got {model.dtype} and {human.dtype}; "
                "convert them with .float()."
            )
        dtype = torch.promote_types(torch.promote_types(model.dtype, human.dtype), torch.float32)
        with torch.autocast(model.device.type, enabled=False):
            model, human = model.to(dtype), human.to(dtype)
            known = None if known is None else known.to(dtype)
            if not self.spatial:
                model, human = model.flatten(1), human.flatten(1)
                known = None if known is None else known.flatten(1)
            values = self.compare(model, human, known)
            if known is not None:
                values = torch.where(known.flatten(1).amax(1) > 0, values, 0.0)
            return values

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        return options_of(self)

    @abstractmethod
    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        r"""One value per pair of maps, (B, N) or, where ``spatial``, (B, \*s); ``known`` likewise."""


DIVERGENCES: Registry[Divergence] = Registry("divergence", Divergence)


def masked_mean(x: Tensor, known: Tensor | None) -> Tensor:
    """The mean of each row of ``x`` (B, N), weighed by ``known``; zero where nothing is known.

    Example:
        >>> masked_mean(torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([1.])
    """
    if known is None:
        return x.mean(1)
    total = known.sum(1)
    return (x * known).sum(1) / torch.where(total > 0, total, 1.0)
