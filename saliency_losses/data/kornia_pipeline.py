"""Which kornia augmentations move a human map with its image."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import nn

__all__ = ["as_container", "check_augmentations", "moves_pixels"]


def as_container(augmentation: Any) -> nn.Module:
    """The augmentation, or a list of them, in a container of kornia that remembers what it drew.

    Raises:
        TypeError: It is none.
    """
    from kornia.augmentation import AugmentationSequential, ImageSequential

    if type(augmentation) in (AugmentationSequential, ImageSequential):
        return cast(nn.Module, augmentation)
    parts = list(_flat(augmentation))
    wrong = [part for part in parts if not isinstance(part, nn.Module)]
    if wrong or not parts:
        got = type(wrong[0]).__name__ if wrong else "none"
        raise TypeError(
            "KorniaJoint takes kornia augmentations: AugmentationSequential(...), one of kornia.augmentation, or a "
            f"list of them, got {got}."
        )
    return ImageSequential(*parts)


def _flat(augmentation: Any) -> Iterator[Any]:
    """The augmentations in lists and torch's own containers, one by one."""
    if type(augmentation) in (nn.Sequential, nn.ModuleList, list, tuple):
        for part in augmentation:
            yield from _flat(part)
    else:
        yield augmentation


def check_augmentations(container: nn.Module, trusted: Sequence[Any] = ()) -> None:
    """Refuse augmentations under which an image and its map do not stay aligned.

    Args:
        container: An ``ImageSequential`` or ``AugmentationSequential``.
        trusted: Classes of modules, or modules, that leave every pixel where it is.

    Raises:
        ValueError: One that does not, or one that is not known; the message says what to do.
    """
    from kornia import augmentation as K
    from kornia.augmentation.container.base import ImageSequentialBase

    for part in _parts(container):
        if any(part is each or (isinstance(each, type) and isinstance(part, each)) for each in trusted):
            continue
        name = type(part).__name__
        if isinstance(part, K.MixAugmentationBaseV2):
            raise ValueError(
                f"KorniaJoint cannot take {name}: it mixes images, their parts, or labels, and what it makes has no "
                "human map; leave it out."
            )
        if isinstance(part, ImageSequentialBase):
            raise ValueError(
                f"KorniaJoint cannot take {name}: what it draws for parts of an image cannot be drawn again for the "
                "map; name the operations one by one in an AugmentationSequential."
            )
        if isinstance(part, K.AugmentationBase3D):
            raise ValueError(f"KorniaJoint cannot take {name}: it is for volumes; use the augmentation of images.")
        if not moves_pixels(part) and not isinstance(part, K.IntensityAugmentationBase2D):
            raise ValueError(
                f"KorniaJoint does not know {name}: it may move the images and leave their maps. If it leaves every "
                f"pixel where it is, say so: KorniaJoint(augmentation, trusted=[{name}])."
            )


def moves_pixels(part: nn.Module) -> bool:
    """Whether an augmentation moves pixels, as its class says."""
    from kornia import augmentation as K

    warps = (K.RandomElasticTransform, K.RandomFisheye, K.RandomThinPlateSpline)
    return isinstance(part, (K.GeometricAugmentationBase2D, *warps))


def _parts(container: nn.Module) -> Iterator[nn.Module]:
    """The augmentations in a container, those of containers in it, and containers that cannot be looked into."""
    from kornia.augmentation import AugmentationSequential, ImageSequential

    for part in container.children():
        if type(part) in (AugmentationSequential, ImageSequential):
            yield from _parts(part)
        else:
            yield part
