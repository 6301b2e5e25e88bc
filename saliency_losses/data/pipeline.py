"""Which torchvision transforms move a human map with its image."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from saliency_losses.data.vision import v2

__all__ = ["CONTAINERS", "JOINT", "REFUSED", "check_pipeline", "transforms_of"]

CONTAINERS: tuple[str, ...] = ("Compose", "RandomApply", "RandomChoice", "RandomOrder")
"""Transforms that hold transforms."""

JOINT: tuple[str, ...] = (
    "CenterCrop",
    "ClampBoundingBoxes",
    "ClampKeyPoints",
    "ColorJitter",
    "ConvertBoundingBoxFormat",
    "ConvertImageDtype",
    "ElasticTransform",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "Identity",
    "JPEG",
    "Normalize",
    "PILToTensor",
    "Pad",
    "RGB",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomCrop",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomIoUCrop",
    "RandomPerspective",
    "RandomPhotometricDistort",
    "RandomPosterize",
    "RandomResize",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShortestSize",
    "RandomSolarize",
    "RandomVerticalFlip",
    "RandomZoomOut",
    "Resize",
    "SanitizeKeyPoints",
    "ScaleJitter",
    "SetClampingMode",
    "ToDtype",
    "ToImage",
    "ToTensor",
)
"""Transforms under which an image and its map stay aligned."""

_ALONE = "moves the image and leaves its map; name the operations one by one, e.g. RandomAffine and ColorJitter"
_MIXES = "mixes the images and labels of a batch, and a mixed image has no map; leave it out"
_SEVERAL = "makes several images out of one; crop at random instead, with RandomCrop"

REFUSED: dict[str, str] = {
    "AugMix": _ALONE,
    "AutoAugment": _ALONE,
    "CutMix": _MIXES,
    "FiveCrop": _SEVERAL,
    "LinearTransformation": "multiplies the map with the image's matrix; apply it to the image after JointTransform",
    "MixUp": _MIXES,
    "RandAugment": _ALONE,
    "SanitizeBoundingBoxes": "drops rows of the map as if they were objects; apply it after JointTransform",
    "TenCrop": _SEVERAL,
    "ToPILImage": "makes an image that is no tensor; leave it out",
    "ToPureTensor": "turns the map into a tensor that is not moved any more; leave it out: JointTransform gives plain "
    "tensors back",
    "TrivialAugmentWide": _ALONE,
    "UniformTemporalSubsample": "picks frames of a video and not their maps; pick the frames before",
}
"""Transforms under which they do not, each with what it does and what to do."""


def check_pipeline(pipeline: Any, trusted: Sequence[Any] = ()) -> None:
    """Refuse a pipeline in which something may move an image and not its map.

    Args:
        pipeline: A v2 transform.
        trusted: Classes, or transforms themselves, that are not looked into.

    Raises:
        TypeError: It is no v2 transform, or holds one that is not.
        ValueError: It holds a transform that does not work with maps; the message says what it does and what to do.
    """
    for transform in transforms_of(pipeline):
        if not _is_trusted(transform, trusted):
            _check(transform)


def transforms_of(pipeline: Any) -> Iterator[Any]:
    """The transforms in a pipeline, those in containers one by one."""
    if _is_v2(pipeline, CONTAINERS):
        for part in pipeline.transforms:
            yield from transforms_of(part)
    elif isinstance(pipeline, nn.Sequential | nn.ModuleList):
        for part in pipeline:
            yield from transforms_of(part)
    else:
        yield pipeline


def _check(transform: Any) -> None:
    """Refuse one transform."""
    if _is_v2(transform, JOINT):
        return
    name = type(transform).__name__
    if _is_v2(transform, REFUSED):
        raise ValueError(f"JointTransform cannot take {name}: it {REFUSED[name]}.")
    if isinstance(transform, list | tuple):
        raise TypeError(f"JointTransform takes one v2 transform, got a {name}; make it v2.Compose([...]).")
    if not callable(transform):
        raise TypeError(f"JointTransform takes a v2 transform, got {transform!r}.")
    if type(transform).__module__.startswith("torchvision.transforms") and not isinstance(transform, v2.Transform):
        raise TypeError(
            f"JointTransform takes transforms of torchvision.transforms.v2, got {type(transform).__module__}.{name}, "
            f"which sees an image alone; use torchvision.transforms.v2.{name}."
        )
    shown = getattr(transform, "__qualname__", name)
    raise ValueError(
        f"JointTransform does not know {shown}: it may move the image and leave its map. If it leaves every pixel "
        f"where it is, or moves SaliencyMap too, say so: JointTransform(pipeline, trusted=[{shown}])."
    )


def _is_v2(transform: Any, names: Sequence[str] | dict[str, str]) -> bool:
    """Whether it is, and not only inherits from, one of these transforms of torchvision."""
    name = type(transform).__name__
    return name in names and type(transform) is getattr(v2, name, None)


def _is_trusted(transform: Any, trusted: Sequence[type | Callable[..., Any]]) -> bool:
    """Whether the user answers for this transform."""
    return any(transform is each or (isinstance(each, type) and isinstance(transform, each)) for each in trusted)
