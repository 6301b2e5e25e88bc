"""Shares by the sizes of the terms."""

import math

import torch
from torch import Tensor, nn

from saliency_losses.weighting.base import WEIGHTINGS, Weighting
from saliency_losses.weighting.statistics import level, levels

__all__ = ["Dynamic", "dynamic_shares"]


def dynamic_shares(task: Tensor, saliency: Tensor, eps: float = 1e-8) -> tuple[Tensor, Tensor]:
    r""":math:`\alpha = |L_{task}| / (|L_{task}| + |L_{saliency}| + \epsilon)` and, without cancellation, 1 - alpha."""
    task, rest = task.abs(), saliency.abs() + eps
    size = torch.maximum(task, rest).detach()  # their sum may be too large, that of both divided by it is not
    task, rest = task / size, rest / size
    return task / (task + rest), rest / (task + rest)


@WEIGHTINGS.register("dynamic")
class Dynamic(Weighting):
    r"""``alpha * task + (1 - alpha) * saliency``, where the larger term has the larger share.

    .. math:: \alpha = \frac{|L_{task}|}{|L_{task}| + |L_{saliency}| + \epsilon}

    One alpha for the batch, of all processes that train together; a batch without a map has alpha 1. The share is a
    constant to the gradient, so that either term falls when its gradient is followed.

    With ``detach=False`` the gradient runs through alpha too, as in VISER's published code. That form **reverses the
    saliency's gradient** where the saliency term is below :math:`(\sqrt 2 - 1) \approx 0.414` times the task's:
    training then makes maps worse. For c = task and m = saliency it is :math:`L = (c^2 + m^2) / (c + m)`, and

    .. math:: \frac{\partial L}{\partial m} = \frac{m^2 + 2 c m - c^2}{(c + m)^2}.

    It is there to reproduce published results; each process then has an alpha of its own.

    Args:
        detach: Take alpha as a constant.
        eps: Keeps alpha finite where both terms are zero.

    Raises:
        ValueError: eps is not positive and finite.

    Example:
        >>> import torch
        >>> Dynamic()(torch.tensor(3.0), torch.tensor(1.0))
        tensor(2.5000)

    Reference:
        Dowling, Piland et al., VISER, arXiv:2603.17859, 2026.
    """

    def __init__(self, *, detach: bool = True, eps: float = 1e-8) -> None:
        super().__init__()
        if not 0.0 < eps < math.inf:
            raise ValueError(f"eps must be positive and finite, got {eps}.")
        self.detach = detach
        self.eps = eps

    def forward(self, task: Tensor, saliency: Tensor, model: nn.Module | None = None) -> Tensor:
        """See :meth:`Weighting.forward`."""
        if self.detach:
            first, second = levels(task, saliency, model, together=self.together).unbind()
        else:
            first, second = level(task), level(saliency)
        alpha, rest = dynamic_shares(first, second, self.eps)
        return alpha * task + rest * saliency
