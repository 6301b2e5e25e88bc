"""Weights that are learned, as the uncertainty of each term."""

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from saliency_losses.extractors.values import looks_at_values
from saliency_losses.weighting.base import WEIGHTINGS, Weighting, check_device, learns
from saliency_losses.weighting.statistics import summed

__all__ = ["Uncertainty"]

_PATIENCE = 100  # steps with a gradient but without a change after which nobody seems to train the sigmas


@WEIGHTINGS.register("uncertainty")
class Uncertainty(Weighting):
    r"""Weights by learned standard deviations, the task as a classification and the saliency as a regression.

    .. math:: \frac{L_{task}}{\sigma_1^2} + r(\sigma_1) + \frac{L_{saliency}}{2 \sigma_2^2} + r(\sigma_2)

    with :math:`r(\sigma) = \log \sigma` (``"kendall"``) or :math:`r(\sigma) = \log(\sigma + 1)` (``"gg_cam"``), and
    :math:`\sigma_i = e^{p_i}` for the two values of the parameter ``log_sigma``. A term that is exactly zero, in all
    processes that train together, as the saliency's without a map, has no r: absent maps do not move the weights.

    The optimizer must hold the parameter, so give it ``guided.parameters()``, not ``model.parameters()``, without
    weight decay if the sigmas are to be free. Terms must not be negative, or their weights grow without end; under
    ``"kendall"`` so does the weight of a term that goes to zero.

    Args:
        form: ``"kendall"`` or ``"gg_cam"``.
        initial: The first values of :math:`\log \sigma_1, \log \sigma_2`.

    Raises:
        ValueError: An unknown form, or initial values that are not two finite numbers. In a step on the CPU: a negative
            term.

    Example:
        >>> Uncertainty()(torch.tensor(1.0), torch.tensor(2.0)).item()
        2.0

    Reference:
        Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
        Semantics, CVPR 2018; the other form: Zhu et al., GG-CAM, arXiv:2202.07107, 2022.
    """

    def __init__(
        self, *, form: Literal["kendall", "gg_cam"] = "kendall", initial: Sequence[float] = (0.0, 0.0)
    ) -> None:
        super().__init__()
        if form not in ("kendall", "gg_cam"):
            raise ValueError(f"form must be 'kendall' or 'gg_cam', got {form!r}.")
        if len(initial) != 2 or not all(map(math.isfinite, initial)):
            raise ValueError(f"initial must be two finite numbers, for the task and for the saliency, got {initial}.")
        self.form = form
        self.initial = tuple(initial)
        self.log_sigma = nn.Parameter(torch.tensor(self.initial, dtype=torch.get_default_dtype()))
        self._version = -1
        self._unchanged = 0

    def forward(self, task: Tensor, saliency: Tensor, model: nn.Module | None = None) -> Tensor:
        """See :meth:`Weighting.forward`."""
        check_device(self, task)
        for name, term in (("task", task), ("saliency", saliency)):
            if looks_at_values(term) and bool((term < 0).any()):
                raise ValueError(
                    f"Uncertainty needs terms that are not negative, but the {name} term is {term.min().item():.3g}: "
                    "its weight would grow without end. Choose another divergence, or weighting='normalised'."
                )
        if not torch.compiler.is_compiling() and learns(self, model):
            self._check_trained()
        penalties = self.log_sigma if self.form == "kendall" else nn.functional.softplus(self.log_sigma)
        factors = torch.exp(-2.0 * self.log_sigma)
        present = torch.stack([task != 0, saliency != 0]).to(factors.dtype)
        if task.ndim == 0:
            present = summed(present, model, together=self.together)
        first, second = torch.where(present > 0, _rows(penalties, present), 0.0).unbind()
        return factors[0] * task + first + 0.5 * factors[1] * saliency + second

    def _check_trained(self) -> None:
        """Warn where the parameter has gradients, yet no optimizer changes it."""
        if self.log_sigma.grad is None or self._version != self.log_sigma._version:
            self._version, self._unchanged = self.log_sigma._version, 0
            return
        self._unchanged += 1
        if self._unchanged == _PATIENCE:
            warnings.warn(
                f"In {_PATIENCE} steps nothing has changed the sigmas of Uncertainty: the optimizer does not hold "
                "them. Give it guided.parameters() instead of model.parameters().",
                stacklevel=4,
            )


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
