"""kornia augmentations for a batch of images and their human maps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from saliency_losses.data.kornia_pipeline import as_container, check_augmentations, moves_pixels
from saliency_losses.data.value_range import within_range

__all__ = ["KorniaJoint"]


class KorniaJoint(nn.Module):
    r"""kornia augmentations on a batch, on its device: images and human maps move by the same draw.

    The images are augmented as they would be alone. What kornia drew is then drawn again for the maps: augmentations
    that move pixels move the maps bilinearly, with 0 from outside and antialiasing where kornia has it; those that
    change values leave the maps. Where ``annotated`` says of each pixel whether it is known, it moves, too.

    Args:
        augmentation: ``AugmentationSequential(...)``, any augmentation of ``kornia.augmentation``, or a list of them.
        trusted: Classes of modules, or modules, that are not kornia's augmentations and leave every pixel where it is.

    Raises:
        TypeError: It is no augmentation.
        ValueError: One of them is such that images and maps do not stay aligned, or is not known.

    Example:
        >>> import kornia.augmentation as K
        >>> import torch
        >>> augment = KorniaJoint([K.RandomHorizontalFlip(p=1.0), K.RandomBrightness((0.5, 0.5), p=1.0)])
        >>> human = torch.zeros(1, 4, 6)
        >>> human[0, 2, 1] = 1.0
        >>> batch = augment({"images": torch.ones(1, 3, 4, 6), "targets": torch.tensor([0]), "human_saliency": human})
        >>> batch["human_saliency"].nonzero().tolist()
        [[0, 2, 4]]
    """

    def __init__(self, augmentation: Any, *, trusted: Sequence[Any] = ()) -> None:
        super().__init__()
        self.augmentation = as_container(augmentation)
        check_augmentations(self.augmentation, trusted)

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        r"""The augmented batch.

        Args:
            batch: The guided loss's keywords: "images" (B, C, H, W), "human_saliency" (B, H, W) or (B, K, H, W), float,
                or none; "annotated" (B,), (B, K), or of the shape of the maps; all else stays.

        Returns:
            A new dict with the same keys.

        Raises:
            TypeError: It is no batch, images or maps are no tensors, or the maps are not float.
            ValueError: The maps' size is not the images'.
        """
        if not isinstance(batch, dict) or "images" not in batch:
            got = f"the keys {sorted(map(str, batch))}" if isinstance(batch, dict) else type(batch).__name__
            raise TypeError(
                f"KorniaJoint takes a batch, a dict with 'images', got {got}; samples are for JointTransform."
            )
        images, human = batch["images"], batch.get("human_saliency")
        _check(images, human)
        container: Any = self.augmentation
        keys = {"data_keys": ["input"]} if hasattr(container, "data_keys") else {}
        moved = {**batch, "images": container(images, **keys)}
        if human is None:
            return moved
        maps = human.unsqueeze(1) if human.ndim == 3 else human
        known = _known(batch.get("annotated"), human)
        stack = maps if known is None else torch.cat([maps, known.to(maps.dtype)], 1)
        with torch.no_grad(), torch.autocast(stack.device.type, enabled=False):
            half = stack.dtype in (torch.float16, torch.bfloat16)
            stack = _replay(container, container._params, stack.float() if half else stack)
        moved_maps = within_range(stack[:, : maps.shape[1]].to(maps.dtype), maps)
        moved["human_saliency"] = moved_maps.squeeze(1) if human.ndim == 3 else moved_maps
        if known is not None:
            moved_known = stack[:, maps.shape[1] :] > 0.5
            moved["annotated"] = moved_known.squeeze(1) if batch["annotated"].ndim == 3 else moved_known
        return moved


def _check(images: Any, human: Any) -> None:
    """Refuse images and maps that cannot move together."""
    if not isinstance(images, Tensor) or images.ndim != 4:
        got = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"batch['images'] must be a tensor of shape (B, C, H, W), got {got}; one sample is for JointTransform."
        )
    if human is None:
        return
    if not isinstance(human, Tensor) or not human.is_floating_point():
        got = str(human.dtype) if isinstance(human, Tensor) else type(human).__name__
        raise TypeError(
            f"batch['human_saliency'] must be a float tensor, got {got}; convert it: .float() for 0 and 1, "
            ".float() / 255 for bytes."
        )
    if human.ndim not in (3, 4) or len(human) != len(images) or human.shape[-2:] != images.shape[-2:]:
        size = ", ".join(map(str, images.shape[-2:]))
        raise ValueError(
            f"batch['human_saliency'] has shape {tuple(human.shape)}, expected ({len(images)}, {size}) or "
            f"({len(images)}, K, {size}) for images of shape {tuple(images.shape)}; resize the maps to their images "
            "first, with torch.nn.functional.interpolate."
        )


def _known(annotated: Any, human: Tensor) -> Tensor | None:
    """Which pixels are known, (B, K, H, W), where ``annotated`` says so of pixels."""
    if not isinstance(annotated, Tensor) or annotated.ndim < 3:
        return None
    if annotated.shape[-2:] != human.shape[-2:]:
        raise ValueError(
            f"batch['annotated'] has shape {tuple(annotated.shape)}, expected one bool for each sample, or for each "
            f"value of the maps, {tuple(human.shape)}."
        )
    return annotated.unsqueeze(1) if annotated.ndim == 3 else annotated


def _replay(container: Any, drawn: Any, maps: Tensor) -> Tensor:
    """The maps, moved by what a container drew for its images."""
    for name, parameters in drawn:
        part = container.get_submodule(name)
        if isinstance(parameters, list):
            maps = _replay(part, parameters, maps)
        elif moves_pixels(part):
            maps = part(maps, params=parameters, **_smooth(part.flags))
    return maps


def _smooth(flags: dict[str, Any]) -> dict[str, Any]:
    """What a map does not take from its image, of the options that an augmentation has."""
    from kornia.constants import Resample, SamplePadding

    smooth = {"resample": Resample.BILINEAR, "antialias": True, "fill": 0, "pad_value": 0}
    chosen = {name: value for name, value in smooth.items() if name in flags}
    if getattr(flags.get("padding_mode"), "name", None) == "FILL":
        chosen["padding_mode"] = SamplePadding.ZEROS
    return chosen
