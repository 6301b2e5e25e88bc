"""A human map that torchvision's transforms move with its image."""

from typing import TYPE_CHECKING, Any

import torch

from saliency_losses.data.saliency_kernels import register_kernels
from saliency_losses.data.vision import tv_tensors

if TYPE_CHECKING:
    from torch import Tensor as Mask  # torchvision is untyped
else:
    Mask = tv_tensors.Mask

__all__ = ["SaliencyMap"]


class SaliencyMap(Mask):
    r"""A human map that torchvision's v2 transforms resample, crop, pad and flip with its image, and never recolour.

    Resizing is bilinear with antialiasing; rotation, affine, perspective and elastic warps are bilinear; what comes
    from outside the image is 0. Everything that changes an image's values where they are (jitter, normalisation,
    conversion of dtype, blur, noise, erasing, JPEG) leaves the map as it is. Values stay within those of the map.

    It is a ``Mask``, so that torchvision refuses it wherever it refuses masks (``AutoAugment`` and its kin, which would
    move the image alone, ``MixUp``, ``CutMix``, ``FiveCrop``), and a map whose size is not the image's.
    A functional that this version does not know raises. ``RandomErasing`` warns that it passes the map through.

    Args:
        data: (H, W), or (K, H, W) for K maps; float, or what :func:`torch.as_tensor` makes a float tensor of.
        dtype: As in :func:`torch.as_tensor`.
        device: As in :func:`torch.as_tensor`.
        requires_grad: Whether autograd records operations; by default what it is for ``data``.

    Raises:
        TypeError: The map is not float.
        ValueError: It has fewer than two axes.

    Example:
        >>> import torch
        >>> from torchvision import tv_tensors
        >>> from torchvision.transforms import v2
        >>> image = tv_tensors.Image(torch.rand(3, 8, 8))
        >>> human = torch.zeros(8, 8)
        >>> human[2, 1] = 1.0
        >>> pipeline = v2.Compose([v2.RandomHorizontalFlip(p=1.0), v2.Normalize([0.5] * 3, [0.5] * 3)])
        >>> image, human = pipeline(image, SaliencyMap(human))
        >>> human.nonzero().tolist(), float(human.max())
        ([[2, 6]], 1.0)
    """

    def __new__(
        cls,
        data: Any,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | int | None = None,
        requires_grad: bool | None = None,
    ) -> "SaliencyMap":
        """Check the map; see the class."""
        maps = torch.as_tensor(data, dtype=dtype, device=device)
        if not maps.is_floating_point():
            raise TypeError(
                f"SaliencyMap must be float, got {maps.dtype}; convert it: map.float() for 0 and 1, map.float() / 255 "
                "for bytes."
            )
        if maps.ndim < 2:
            raise ValueError(f"SaliencyMap must have shape (H, W) or (K, H, W), got {tuple(maps.shape)}.")
        if requires_grad is not None:
            maps = maps.detach().requires_grad_(requires_grad)
        return maps.as_subclass(cls)


register_kernels(SaliencyMap)
