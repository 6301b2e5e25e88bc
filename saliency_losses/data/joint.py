"""One torchvision transform for an image and its human map."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from saliency_losses.data.pipeline import check_pipeline, transforms_of
from saliency_losses.data.saliency_map import SaliencyMap
from saliency_losses.data.vision import tv_tensors, v2

__all__ = ["JointTransform"]


class JointTransform:
    r"""A torchvision v2 pipeline on a sample: the image and its human map move by the same draw.

    What moves pixels moves both, the map smoothly (see :class:`SaliencyMap`); what changes values changes the image
    alone. Where ``annotated`` says of each pixel whether it is known, it moves, too, and what comes from outside the
    image is unknown. Other entries go through the pipeline as torchvision treats them: boxes and masks that are
    TVTensors move, all else stays.

    Args:
        pipeline: A v2 transform, such as ``v2.Compose([...])``.
        trusted: Classes of transforms, or transforms, in the pipeline that are the user's own and leave every pixel
            where it is, or move :class:`SaliencyMap` too.

    Raises:
        TypeError: The pipeline is a v1 transform, or none.
        ValueError: It holds a transform under which image and map do not stay aligned, or one that is not known.

    Example:
        >>> import torch
        >>> from torchvision.transforms import v2
        >>> pipeline = v2.Compose([v2.RandomResizedCrop(8), v2.ColorJitter(0.4), v2.Normalize([0.5], [0.5])])
        >>> image, human = torch.rand(1, 16, 16), torch.rand(16, 16)
        >>> sample = {"image": image, "target": 1, "human_saliency": human, "annotated": True}
        >>> moved = JointTransform(pipeline)(sample)
        >>> moved["image"].shape, moved["human_saliency"].shape, moved["target"], moved["annotated"]
        (torch.Size([1, 8, 8]), torch.Size([8, 8]), 1, True)
    """

    def __init__(self, pipeline: Callable[..., Any], *, trusted: Sequence[Any] = ()) -> None:
        check_pipeline(pipeline, trusted)
        self.pipeline = pipeline
        self._erases = any(isinstance(transform, v2.RandomErasing) for transform in transforms_of(pipeline))

    def __repr__(self) -> str:
        return f"JointTransform({self.pipeline})"

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        r"""The transformed sample, in plain tensors.

        Args:
            sample: "image" (C, H, W), "human_saliency" (H, W) or (K, H, W), float, and any more; "annotated" may be
                of the shape of the maps, bool.

        Returns:
            A new dict with the same keys.

        Raises:
            TypeError: An entry is missing or of the wrong type, or the pipeline does not return the sample.
            ValueError: The map's size is not the image's, before or after the pipeline.
        """
        image, human, known = _entries(sample)
        wrapped = {**sample, "image": tv_tensors.Image(image), "human_saliency": SaliencyMap(human)}
        if known is not None:
            wrapped["annotated"] = SaliencyMap(known.to(torch.float32))
        with warnings.catch_warnings():
            if self._erases:
                warnings.filterwarnings("ignore", message=r".* tv_tensors\.SaliencyMap\.")
            moved = self.pipeline(wrapped)
        return _plain(moved, wrapped, known)


def _entries(sample: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Image, map, and which pixels are known where ``annotated`` says so of pixels."""
    if not isinstance(sample, dict) or not {"image", "human_saliency"} <= sample.keys():
        got = f"the keys {sorted(map(str, sample))}" if isinstance(sample, dict) else type(sample).__name__
        raise TypeError(f"a sample must be a dict with 'image' and 'human_saliency', got {got}.")
    image, human, annotated = sample["image"], sample["human_saliency"], sample.get("annotated")
    if not isinstance(image, Tensor) or image.ndim != 3:
        got = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(
            f"sample['image'] must be a tensor of shape (C, H, W), got {got}; a picture becomes one by "
            "torchvision.transforms.v2.functional.pil_to_tensor, and a batch is for KorniaJoint."
        )
    if not isinstance(human, Tensor) or human.ndim not in (2, 3):
        got = f"shape {tuple(human.shape)}" if isinstance(human, Tensor) else type(human).__name__
        raise TypeError(f"sample['human_saliency'] must be a tensor of shape (H, W) or (K, H, W), got {got}.")
    if image.shape[-2:] != human.shape[-2:]:
        raise ValueError(
            f"the human map has size {tuple(human.shape[-2:])}, its image {tuple(image.shape[-2:])}: a transform in "
            "pixels would move them apart. Resize the map to its image first: torchvision.transforms.v2.functional."
            "resize(SaliencyMap(human), image.shape[-2:])."
        )
    if not isinstance(annotated, Tensor) or annotated.ndim < 2:
        return image, human, None
    if annotated.shape != human.shape:
        raise ValueError(
            f"sample['annotated'] has shape {tuple(annotated.shape)}, expected one bool, or one for each value of the "
            f"map, {tuple(human.shape)}."
        )
    return image, human, annotated


def _plain(moved: Any, wrapped: dict[str, Any], known: Tensor | None) -> dict[str, Any]:
    """The pipeline's result in plain tensors, after a look at whether it still is the sample."""
    if not isinstance(moved, dict) or moved.keys() != wrapped.keys():
        got = f"the keys {sorted(map(str, moved))}" if isinstance(moved, dict) else type(moved).__name__
        raise TypeError(f"the pipeline must return the sample, a dict with {sorted(map(str, wrapped))}, got {got}.")
    for key, kind in (("image", tv_tensors.Image), ("human_saliency", SaliencyMap)):
        if not isinstance(moved[key], kind):
            raise TypeError(
                f"the pipeline returned {type(moved[key]).__name__} for {key!r}, expected {kind.__name__}: what comes "
                "after would not move it. A transform of your own must keep types: tv_tensors.wrap(output, like=input)."
            )
    plain: dict[str, Any] = {**moved}
    plain["image"] = moved["image"].as_subclass(Tensor)
    plain["human_saliency"] = moved["human_saliency"].as_subclass(Tensor)
    if known is not None:
        plain["annotated"] = moved["annotated"].as_subclass(Tensor) > 0.5
    if plain["image"].shape[-2:] != plain["human_saliency"].shape[-2:]:
        raise ValueError(
            f"after the pipeline the map has size {tuple(plain['human_saliency'].shape[-2:])} and its image "
            f"{tuple(plain['image'].shape[-2:])}: a trusted transform moved one without the other."
        )
    return plain
