"""Eigen-CAM."""

import torch
from torch import Tensor

from saliency_losses.extractors.activations import ActivationExtractor, Fuse, Layers, Reshape
from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.reciprocal import reciprocal

__all__ = ["EigenCAM", "eigen_cam"]


def eigen_cam(activation: Tensor, *, center: bool = False) -> Tensor:
    r"""The positions of the activation, projected on their first principal direction.

    The singular vectors are found off the graph. With :math:`A^\top v_j = \sigma_j u_j`, what the map owes to the
    turning of :math:`v_1` is put on it by

    .. math:: \sum_{j>1} u_j \sigma_j \frac{v_j^\top\, \mathrm{d}(A A^\top)\, v_1}{\sigma_1^2 - \sigma_j^2},

    which is the exact derivative. Where two singular values coincide there is none; where :math:`1 - \sigma_j^2 /
    \sigma_1^2` is below the square root of rounding, the reciprocal goes straight to zero. An activation that is zero,
    or with ``center`` constant, gives zeros and no gradient.

    Args:
        activation: (..., C, N).
        center: Whether each channel's mean is subtracted first.

    Returns:
        (..., N), with the sign that makes it correlate with the sum over channels.

    Example:
        >>> eigen_cam(torch.tensor([[3.0, 0.0, 3.0], [4.0, 0.0, 4.0]]))
        tensor([5., 0., 5.])
    """
    matrix = activation - activation.mean(-1, keepdim=True) if center else activation
    with torch.no_grad():
        vectors, values, largest = _principal(matrix)
        rounding = torch.finfo(matrix.dtype).eps
        cells = activation.flatten(-2)
        noise = 32.0 * rounding * cells.shape[-1] ** 0.5 * cells.abs().amax(-1, keepdim=True)
        flat = (largest <= noise) & cells.isfinite().all(-1, keepdim=True)
        largest = torch.where(largest == 0, 1.0, largest)
        turns = reciprocal(1.0 - values, rounding**0.5)
        sign = torch.where(vectors[..., :1].sum(-2) < 0, -1.0, 1.0)
    projected = matrix.mT @ vectors
    first = projected[..., 0]
    along = (projected.mT @ (first / largest).unsqueeze(-1)).squeeze(-1)
    turned = (projected.detach() / largest.unsqueeze(-1)) @ (turns * along).unsqueeze(-1)
    return torch.where(flat, 0.0, sign * (first + turned.squeeze(-1)))


def _principal(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The left singular vectors (..., C, r), the squared singular values over the largest, and the largest itself.

    They come from the product of the matrix with itself on its shorter side, which is much faster than decomposing the
    matrix. What that costs in the directions of the smallest singular values, they do not weigh in a derivative.
    """
    finite = torch.where(matrix.isfinite(), matrix, 0.0)
    scale = finite.abs().amax((-2, -1), keepdim=True)
    unit = finite / torch.where(scale == 0, 1.0, scale)
    wide = unit.shape[-2] <= unit.shape[-1]
    squares, vectors = torch.linalg.eigh(unit @ unit.mT if wide else unit.mT @ unit)
    squares, vectors = squares.flip(-1).clamp_min(0.0), vectors.flip(-1)
    first = squares[..., :1]
    if not wide:
        vectors = unit @ vectors
        length = vectors.norm(dim=-2, keepdim=True)
        vectors = vectors * reciprocal(length, torch.finfo(unit.dtype).eps ** 0.5 * first.sqrt().unsqueeze(-1))
    return vectors, squares / torch.where(first == 0, 1.0, first), first.sqrt() * scale.squeeze(-1)


@EXTRACTORS.register("eigen_cam")
class EigenCAM(ActivationExtractor):
    r"""Eigen-CAM: what a layer's activation mostly varies by; no class and no gradient is involved.

    .. math:: S(b, i) = \pm \sum_c v_1(b, c)\, A(b, c, i)

    with :math:`v_1` the first left singular vector of :math:`A(b)`, as channels by positions. Published as it is here,
    without a ReLU. A singular vector's sign is arbitrary; here :math:`\sum_c v_1(b, c) \geq 0`, which makes the map
    correlate with the sum over channels. At a rectified layer all of :math:`v_1` has one sign, so that none can flip
    from one step to the next; elsewhere, and with ``center``, it flips where that sum passes zero.

    Args:
        layer: Dotted name, or several, whose maps are fused. By default what feeds global pooling, else the last layer
            with several channels and positions that the score depends on.
        center: Whether each channel's mean over positions is subtracted first, which makes :math:`v_1` the first
            principal component; the paper does not.
        reshape: Turns the layer's output (B, ...) into (B, C, \*s), for layouts that cannot be told from its modules.
        fuse: How the maps of several layers become one: ``"mean"`` or ``"max"`` after scaling each to [0, 1], or
            ``"each"`` to have the loss compare all of them.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(392, 2))
        >>> EigenCAM(layer="1")(net, torch.rand(4, 3, 9, 9), None).saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Muhammad & Yeasin, Eigen-CAM: Class Activation Map using Principal Components, IJCNN 2020.
    """

    def __init__(
        self, *, layer: Layers = None, center: bool = False, reshape: Reshape = None, fuse: Fuse = "mean"
    ) -> None:
        super().__init__(layer=layer, reshape=reshape, fuse=fuse)
        self.center = center

    def read(self, activation: Tensor) -> Tensor:
        """See :meth:`ActivationExtractor.read`."""
        return eigen_cam(activation, center=self.center)
