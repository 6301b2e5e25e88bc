"""How much the model's map changes from one position to the next."""

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.prior import Prior
from saliency_losses.divergences.scales import ZScore

__all__ = ["TotalVariation", "total_variation"]

_ZSCORE = ZScore()


def total_variation(maps: Tensor) -> Tensor:
    r"""Mean magnitude of the difference between neighbours along the axes of each map, (B, \*s); 0 without neighbours.

    Example:
        >>> total_variation(torch.tensor([[[0.0, 1.0], [0.0, 3.0]]]))
        tensor([1.5000])
    """
    steps = [maps.diff(dim=axis).flatten(1) for axis in range(1, maps.ndim)]
    total = torch.stack([step.abs().sum(1) for step in steps]).sum(0)
    return total / max(sum(step.shape[1] for step in steps), 1)


@DIVERGENCES.register("total_variation")
class TotalVariation(Prior):
    r"""Total variation of the model's map: the mean difference between neighbours.

    .. math:: \frac{1}{|\mathcal N|} \sum_{(i, j) \in \mathcal N} |\hat m_i - \hat m_j|, \qquad
        \hat m = \frac{m - \bar m}{\sigma_m}

    Neighbours :math:`\mathcal N` are one step apart along one axis (the anisotropic form). A small value asks for a
    smooth map. A flat map, and a map of one position, gives 0 and no gradient.

    Args:
        normalize: A normaliser, or its name; ``"zscore"`` is the published one. Under ``"none"`` a smaller map is a
            smoother one.

    Raises:
        ValueError: The normaliser is unknown.

    Example:
        >>> TotalVariation(normalize="minmax")(torch.tensor([[0.0, 2.0, 4.0], [0.0, 4.0, 0.0]]))
        tensor([0.5000, 1.0000])

    Reference:
        Rudin, Osher and Fatemi, Nonlinear total variation based noise removal algorithms, Physica D 1992; on saliency
        maps: Erion, Janizek, Sturmfels, Lundberg and Lee, Improving performance of deep learning models with axiomatic
        attribution priors and expected gradients, Nature Machine Intelligence 2021.
    """

    spatial = True

    def __init__(self, *, normalize: str | Normalizer = _ZSCORE) -> None:
        super().__init__(normalize=normalize)

    def measure(self, model: Tensor) -> Tensor:
        """See :meth:`Prior.measure`."""
        return total_variation(model)
