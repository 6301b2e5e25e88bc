"""Mean squared error between normalised maps."""

from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence, masked_mean
from saliency_losses.divergences.normalize import FLAT, Normalization, Scope, check_normalization, normalize

__all__ = ["MSE", "mean_squared_error"]


def mean_squared_error(model: Tensor, human: Tensor, known: Tensor | None = None) -> Tensor:
    r""":math:`\frac{1}{N} \sum_i (m_i - h_i)^2` for each row of two (B, N) tensors."""
    return masked_mean((model - human).square(), known)


@DIVERGENCES.register("mse")
class MSE(Divergence):
    r"""Mean squared error between the maps, by default each scaled from 0 to 1 on its own, as CYBORG does.

    .. math:: \frac{1}{N} \sum_i (\hat m_i - \hat h_i)^2, \qquad \hat x = \frac{x - \min x}{\max x - \min x}

    A flat map counts as all zeros: a flat model map against a human map costs the mean of the human map's squares, and
    an annotated but empty human map asks the model for a flat map. Neither sends a gradient through the flat side.

    Args:
        normalize: Of the model's map: ``"minmax"``, ``"max_abs"`` or ``"none"``.
        human_normalize: Of the human map, likewise; under ``"none"`` it must lie in [0, 1].
        scope: Whether extremes are each map's own or the batch's (this process's).
        eps: A map whose values differ by less than this share of its largest magnitude is flat.
        detach: Take the extremes of the model's map as constants.

    Raises:
        ValueError: An option has an unknown value.

    Example:
        >>> import torch
        >>> MSE()(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.0, 0.0, 3.0]]))
        tensor([0.0833])

    Reference:
        Boyd et al., CYBORG: Blending Human Saliency Into the Loss Improves Deep Learning, WACV 2023.
    """

    def __init__(
        self,
        *,
        normalize: Normalization = "minmax",
        human_normalize: Normalization = "minmax",
        scope: Scope = "sample",
        eps: float = FLAT,
        detach: bool = False,
    ) -> None:
        super().__init__()
        self.normalize = check_normalization(normalize, "normalize")
        self.human_normalize = check_normalization(human_normalize, "human_normalize")
        if scope not in ("sample", "batch"):
            raise ValueError(f"scope must be 'sample' or 'batch', got {scope!r}.")
        self.scope = scope
        self.eps = eps
        self.detach = detach
        if human_normalize == "none":
            self.human_range = (0.0, 1.0)

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        model = normalize(model, self.normalize, known, scope=self.scope, eps=self.eps, detach=self.detach)
        human = normalize(human, self.human_normalize, known, scope=self.scope, eps=self.eps)
        return mean_squared_error(model, human, known)
