"""What images, human maps and the model's maps of one batch tell."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saliency_losses.checks.facts import Finding
from saliency_losses.extractors.base import SaliencyExtractor
from saliency_losses.human import HumanMaps

__all__ = ["human_maps", "image_values", "model_maps"]

_COARSE = 2  # positions along each axis
_FLAT = 1e-6  # spread over size, below which a float32 map is rounding error around a constant


def image_values(images: Any) -> Iterator[Finding]:
    """Images that look like bytes, or are not finite."""
    for leaf in pytree.tree_leaves(images):
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.ndim < 3:
            continue
        low, high = (float(value) for value in leaf.detach().aminmax())
        if not bool(leaf.isfinite().all()):
            yield Finding(
                "error",
                "images_not_finite",
                "The images hold NaN or infinite values.",
                "Look at the loading and the augmentation of images.",
            )
        elif low >= 0.0 and 32.0 < high <= 255.0:
            yield Finding(
                "note",
                "images_not_normalised",
                f"The images lie in {low:g}..{high:g}.",
                "Divide by 255, and normalise as the model was trained with, unless it does that itself.",
            )


def human_maps(human: HumanMaps | None, *, empty_is_suspicious: bool, priors: bool) -> Iterator[Finding]:
    """Human maps that say nothing.

    Args:
        human: Of one batch, if there are any.
        empty_is_suspicious: Whether an all-zero map is more likely none than one that says 'nowhere'.
        priors: Whether the divergence has parts that need no human map.
    """
    found = [] if human is None else human.annotated.nonzero().flatten().tolist()
    if human is None or not found:
        yield Finding(
            "warning",
            "none_annotated",
            "No sample of this batch has a human map, so the saliency term is "
            + ("that of the priors alone." if priors else "zero."),
            "Run preflight on a batch with maps; annotated= is True where there is one.",
        )
        return
    rows = [human.maps[i] if human.known is None else human.maps[i][human.known[i]] for i in found]
    empty = [i for i, row in zip(found, rows, strict=True) if not bool(row.any())]
    flat = [i for i, row in zip(found, rows, strict=True) if i not in empty and float(row.amax() - row.amin()) == 0.0]
    if empty and empty_is_suspicious:
        yield Finding(
            "warning",
            "human_empty",
            f"The human maps are all zero for {_share(empty, found)}: they train 'nothing here is salient'.",
            "Pass annotated=(B,) bool, False for samples without a map.",
        )
    if flat:
        yield Finding(
            "warning",
            "human_flat",
            f"The human maps have one value everywhere for {_share(flat, found)}: they say no place.",
            "Look at how maps are loaded and resized, or mark these samples as not annotated.",
        )
    if len(found) > 1 and not empty and not flat and all(torch.equal(rows[0], row) for row in rows[1:]):
        yield Finding(
            "warning",
            "human_equal",
            f"The human maps of all {len(found)} annotated samples are the same.",
            "Look at how maps are matched with images, and whether augmentation moves both alike.",
        )


def model_maps(maps: Tensor, human: HumanMaps | None, extractor: SaliencyExtractor) -> Iterator[Finding]:
    r"""Maps of the model that nothing can be learned from.

    Args:
        maps: (M, \*s).
        human: Of the same batch, if there are any.
        extractor: Took them.
    """
    if human is not None and max(maps.shape[1:]) <= _COARSE and maps[0].numel() * 16 <= human.maps[0].numel():
        yield Finding(
            "warning",
            "coarse_map",
            f"The model's map has {_sizes(maps)} positions for human maps of {_sizes(human.maps)}.",
            "Choose an earlier layer (list_layers(model, images)) or larger images.",
        )
    rows = maps.flatten(1)
    if not bool(rows.isfinite().all()):
        yield Finding(
            "error",
            "map_not_finite",
            "The model's map holds NaN or infinite values.",
            "Look for them in images and weights; under float16, use bfloat16 or float32.",
        )
        return
    everyone = list(range(len(rows)))
    size = rows.abs().amax(1)
    zero = (size == 0).nonzero().flatten().tolist()
    if zero and getattr(extractor, "relu", False):
        yield Finding(
            "error" if len(zero) == len(rows) else "warning",
            "dead_map",
            f"The model's map is zero everywhere for {_share(zero, everyone)}: nothing speaks for the score, and "
            "through the relu no gradient comes back.",
            f"Use {type(extractor).__name__}(relu=False), whose maps are signed.",
        )
        return
    flat = (rows.amax(1) - rows.amin(1) <= _FLAT * size).nonzero().flatten().tolist()
    if flat and rows.shape[1] > 1:
        yield Finding(
            "error" if len(flat) == len(rows) else "warning",
            "flat_map",
            f"The model's map has one value everywhere for {_share(flat, everyone)}, so there is no place to compare.",
            "Choose another layer; look for dead units, weights that are zero, and images that are constant.",
        )


def _share(some: list[int], all_: list[int]) -> str:
    return f"all {len(all_)} maps" if len(some) == len(all_) else f"{len(some)} of {len(all_)} maps"


def _sizes(maps: Tensor) -> str:
    return " x ".join(map(str, maps.shape[1:]))
