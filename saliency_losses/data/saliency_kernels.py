"""What each of torchvision's functionals does to a human map."""

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from saliency_losses.data.value_range import within_range
from saliency_losses.data.vision import v2

__all__ = ["GEOMETRIC", "PHOTOMETRIC", "register_kernels", "unknown_functionals"]

F = v2.functional
_SMOOTH: dict[str, Any] = {"interpolation": F.InterpolationMode.BILINEAR}
_WARPED: dict[str, Any] = {**_SMOOTH, "fill": 0}

GEOMETRIC: dict[str, dict[str, Any]] = {
    "affine": _WARPED,
    "center_crop": {},
    "crop": {},
    "elastic": _WARPED,
    "five_crop": {},
    "horizontal_flip": {},
    "pad": {"fill": 0},
    "perspective": _WARPED,
    "resize": {**_SMOOTH, "antialias": True},
    "resized_crop": {**_SMOOTH, "antialias": True},
    "rotate": _WARPED,
    "ten_crop": {},
    "vertical_flip": {},
}
"""The functionals that move pixels, each with the arguments that a map does not take from its image."""

PHOTOMETRIC: tuple[str, ...] = (
    "adjust_brightness",
    "adjust_contrast",
    "adjust_gamma",
    "adjust_hue",
    "adjust_saturation",
    "adjust_sharpness",
    "autocontrast",
    "equalize",
    "erase",
    "gaussian_blur",
    "gaussian_noise",
    "grayscale_to_rgb",
    "invert",
    "jpeg",
    "normalize",
    "permute_channels",
    "posterize",
    "rgb_to_grayscale",
    "solarize",
    "to_dtype",
)
"""The functionals that change an image's values where they are, and leave a map as it is."""

# Public functionals that choose no kernel by the type of their input.
_NO_KERNELS = ("convert_bounding_box_format", "convert_image_dtype", "pil_to_tensor", "to_grayscale", "to_tensor")
_KERNELS = ("_bounding_boxes", "_image", "_keypoints", "_mask", "_video")


def register_kernels(cls: type[Tensor]) -> None:
    """Say to torchvision what each functional does to a class of maps; what is not known raises."""
    kernels: dict[str, Callable[..., Any]] = dict.fromkeys(PHOTOMETRIC, _untouched)
    kernels.update({name: _refusing(name) for name in unknown_functionals()})
    for name, kernel in kernels.items():
        if hasattr(F, name):
            F.register_kernel(name, cls)(kernel)
    for name, fixed in GEOMETRIC.items():
        F.register_kernel(name, cls)(_moving(name, fixed))


def unknown_functionals() -> list[str]:
    """The functionals of the installed torchvision of which nobody has said what they do to a map.

    Example:
        >>> unknown_functionals()
        ['uniform_temporal_subsample']
    """
    known = {getattr(F, name, None) for name in (*GEOMETRIC, *PHOTOMETRIC, *_NO_KERNELS)}
    return [
        name
        for name, value in vars(F).items()
        if inspect.isfunction(value)
        and value not in known
        and value.__module__ != F._utils.__name__
        and not name.startswith(("_", "get_"))
        and not name.endswith(_KERNELS)
    ]


def _moving(name: str, fixed: dict[str, Any]) -> Callable[..., Any]:
    """The kernel that does to a map what the functional of this name does to an image, with ``fixed`` arguments."""
    move = getattr(F, f"{name}_image")
    signature = inspect.signature(move)

    def kernel(saliency: Tensor, *args: Any, **kwargs: Any) -> Any:
        given = saliency.as_subclass(Tensor)
        maps = given.unsqueeze(0) if given.ndim == 2 else given
        if maps.dtype in (torch.float16, torch.bfloat16):
            maps = maps.float()
        bound = signature.bind(maps, *args, **kwargs)
        bound.arguments.update(fixed)
        moved = move(*bound.args, **bound.kwargs)
        parts = [_like(part, saliency) for part in (moved if isinstance(moved, tuple) else (moved,))]
        return tuple(parts) if isinstance(moved, tuple) else parts[0]

    return kernel


def _like(moved: Tensor, saliency: Tensor) -> Tensor:
    """What a kernel for images made of a map, as a map: its axes, dtype and range of values."""
    given = saliency.as_subclass(Tensor)
    moved = within_range(moved.to(given.dtype), given)
    return (moved.squeeze(0) if given.ndim == 2 else moved).as_subclass(type(saliency))


def _untouched(saliency: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return saliency


def _refusing(name: str) -> Callable[..., NoReturn]:
    """The kernel that raises, for a functional that may move an image and of which nothing is known."""

    def kernel(saliency: Tensor, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"torchvision's {name} is not known to this version of saliency_losses: it may move an image, and would "
            "leave its SaliencyMap behind. Leave it out, or apply it to the image alone if it moves nothing."
        )

    return kernel
