"""How the score falls when a window of the image is hidden."""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.extractors.inputs import Baseline
from saliency_losses.extractors.perturbations import PerturbationExtractor
from saliency_losses.extractors.score import Score

__all__ = ["Occlusion", "window_starts"]

Size = int | tuple[int, ...] | None


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows start on an axis; the last one ends with it.

    Example:
        >>> window_starts(10, 4, 3), window_starts(9, 4, 3)
        ([0, 3, 6], [0, 3, 5])
    """
    starts = list(range(0, length - window + 1, stride))
    return starts if starts[-1] + window == length else [*starts, length - window]


@EXTRACTORS.register("occlusion")
class Occlusion(PerturbationExtractor):
    r"""Occlusion: how the score falls when a window is hidden, averaged over the windows that hide a pixel.

    .. math:: S(b, i) = \frac{1}{|\{w \ni i\}|} \sum_{w \ni i} y_b(x) - y_b(x \text{ with } w \text{ hidden})

    The map has the size of the image. It is made of forward passes alone, one for every ``chunk`` windows besides the
    plain one. With BatchNorm in train mode they use the statistics of the plain pass. With dropout in train mode they
    draw masks of their own, whose noise is in the map.

    Args:
        window: Size of the window, one for all axes or one for each; by default a seventh of each axis.
        stride: From window to window; by default the window's size, so that none overlap. The last window of an axis
            ends with it, and may overlap another.
        baseline: What stands in the window: a number, a tensor that broadcasts to the input, or a function of it.
        chunk: How many windows go through the model at once.
        score: What to explain, see :data:`~saliency_losses.extractors.score.Score`; a predicted class is that of the
            plain pass.
        input: Which input to explain, where the model takes several: its position or keyword. Other tensors whose
            first axis is the batch are repeated along with it where ``chunk`` is above 1.

    Attributes:
        passes: Unknown before the size of the input is, hence ``None``.

    Raises:
        ValueError: An option is no positive integer, or the stride skips pixels; on a call: the window is larger than
            the image or of another number of axes, the baseline does not fit, or there is no, or more than one,
            floating-point input to choose from.
        TypeError: The baseline is none.

    Example:
        >>> net, images = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)), torch.rand(5, 3, 4, 4)
        >>> output, saliency = Occlusion(window=2)(net, images, torch.tensor([0, 1, 1, 0, 1]))
        >>> saliency.shape, torch.equal(saliency[:, 0, 0], saliency[:, 1, 1])
        (torch.Size([5, 4, 4]), True)

    Reference:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
    """

    passes = None

    def __init__(
        self,
        *,
        window: Size = None,
        stride: Size = None,
        baseline: Baseline = 0.0,
        chunk: int = 8,
        score: Score = "true",
        input: int | str | None = None,
    ) -> None:
        super().__init__(baseline=baseline, chunk=chunk, score=score, input=input)
        self.window = _check_size(window, "window")
        self.stride = _check_size(stride, "stride")

    def masks(self, pixels: Tensor) -> Iterator[Tensor]:
        """Zero in the window, one elsewhere."""
        size = tuple(pixels.shape[2:])
        windows = tuple(math.ceil(length / 7) for length in size) if self.window is None else _each(self.window, size)
        strides = windows if self.stride is None else _each(self.stride, size)
        if any(window > length for window, length in zip(windows, size, strict=True)):
            raise ValueError(f"window={windows} is larger than the image {size}; choose a smaller one.")
        if any(stride > window for stride, window in zip(strides, windows, strict=True)):
            raise ValueError(
                f"stride={strides} is larger than window={windows}, so no window would hide the pixels between; choose "
                "a stride of at most the window's size."
            )
        ways = [window_starts(*axis) for axis in zip(size, windows, strides, strict=True)]
        corners = iter(itertools.product(*ways))
        while some := list(itertools.islice(corners, self.chunk)):
            masks = torch.ones(len(some), *size, dtype=pixels.dtype, device=pixels.device)
            for mask, corner in zip(masks, some, strict=True):
                mask[tuple(slice(start, start + window) for start, window in zip(corner, windows, strict=True))] = 0.0
            yield masks

    def effects(self, values: Tensor, plain: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """How the score falls, for the pixels in the window."""
        return plain - values, 1.0 - masks

    def average(self, total: Tensor, cover: Tensor) -> Tensor:
        """Over the windows that hide a pixel."""
        return total / cover


def _check_size(size: Size, what: str) -> Size:
    values = () if size is None else size if isinstance(size, tuple) else (size,)
    if any(not isinstance(value, int) or isinstance(value, bool) or value < 1 for value in values) or size == ():
        raise ValueError(f"{what} must be a positive integer or a tuple of them, one for each axis, got {size!r}.")
    return size


def _each(size: int | tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    sizes = size if isinstance(size, tuple) else (size,) * len(axes)
    if len(sizes) != len(axes):
        raise ValueError(f"{size} has {len(sizes)} axes, but the image {axes} has {len(axes)}.")
    return sizes
