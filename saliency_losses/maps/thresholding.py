"""Maps as masks."""

import math

from torch import Tensor

from saliency_losses.maps.reading import read_maps

__all__ = ["threshold"]


def threshold(maps: Tensor, above: float | None = None, *, top: float | None = None) -> Tensor:
    r"""1 where a map is large, 0 elsewhere.

    Args:
        maps: (\*, H, W), float, uint8 (0..255) or bool.
        above: Values larger than this are large.
        top: Or this share of each map's pixels, rounded up. Pixels that tie with the last of them are all large, but a
            map's smallest value never is: sparse maps mark less than the share, flat ones nothing.

    Returns:
        (\*, H, W).

    Raises:
        ValueError: Not exactly one of both, or no share in (0, 1].
        TypeError: A dtype that does not fit.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[0.1, 0.4], [0.4, 0.9]])
        >>> threshold(maps, 0.4), threshold(maps, top=0.5)
        (tensor([[0., 0.],
                [0., 1.]]), tensor([[0., 1.],
                [1., 1.]]))
    """
    maps = read_maps(maps, "maps")
    if above is not None and top is None:
        return (maps > above).to(maps.dtype)
    if above is not None or top is None:
        raise ValueError("threshold needs one of above=, a value, and top=, a share of the pixels.")
    if not 0 < top <= 1:
        raise ValueError(f"top must be a share in (0, 1], got {top}.")
    flat = maps.flatten(-2)
    count = math.ceil(top * flat.shape[-1] - 1e-9)
    last = flat.topk(count).values[..., -1:]
    return ((flat >= last) & (flat > flat.amin(-1, keepdim=True))).to(maps.dtype).view_as(maps)
