"""The attention kernel that can be differentiated twice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch.backends import cuda

__all__ = ["attention_setting", "math_attention"]

_SWITCHES: tuple[tuple[Callable[[], bool], Callable[[bool], None]], ...] = (
    (cuda.math_sdp_enabled, cuda.enable_math_sdp),
    (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
    (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
    (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
)


@contextmanager
def attention_setting() -> Iterator[Callable[[], None]]:
    """Leave the choice of attention kernels, on all devices, as it was before the block.

    Yields:
        Chooses plain operations for scaled dot-product attention, since the fused kernels have no second derivative.
        Unlike ``sdpa_kernel`` it may be called inside a block of the model's own that ends earlier.
    """
    before = [bool(is_on()) for is_on, _ in _SWITCHES]

    def choose_math() -> None:
        for _, switch in _SWITCHES:
            switch(switch is cuda.enable_math_sdp)

    try:
        yield choose_math
    finally:
        for (_, switch), was_on in zip(_SWITCHES, before, strict=True):
            switch(was_on)


@contextmanager
def math_attention() -> Iterator[None]:
    """Scaled dot-product attention made of plain operations inside the block, whatever was chosen outside.

    Example:
        >>> with math_attention():
        ...     cuda.flash_sdp_enabled()
        False
    """
    with attention_setting() as choose_math:
        choose_math()
        yield
