"""Pairs of model and human maps, kept for comparison."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Maps", "together"]


class Maps(NamedTuple):
    r"""Pairs of maps at the model's size, on the CPU.

    Attributes:
        model: (N, \*s).
        human: (N, \*s).
        known: The known share of each cell, (N, \*s), or ``None`` where all is known.
        sample: Which sample each pair is of, (N,).
        place: Which of the sample's maps it is, (N,).
    """

    model: Tensor
    human: Tensor
    known: Tensor | None
    sample: Tensor
    place: Tensor

    def rows(self, which: Tensor) -> "Maps":
        """Those pairs alone."""
        known = None if self.known is None else self.known[which]
        return Maps(self.model[which], self.human[which], known, self.sample[which], self.place[which])

    def flat(self) -> "Maps":
        """Maps as (N, P)."""
        known = None if self.known is None else self.known.flatten(1)
        return Maps(self.model.flatten(1), self.human.flatten(1), known, self.sample, self.place)


def together(found: list[Maps], samples: int) -> Maps:
    """The maps of all batches.

    Raises:
        ValueError: There are none, or they differ in size.
    """
    if not samples:
        raise ValueError("The loader is empty; a generator that was used up gives nothing a second time.")
    if not any(len(maps.sample) for maps in found):
        raise ValueError(
            f"None of the {samples} samples has a human map, so there is nothing to compare with. Pass a loader whose "
            "batches hold human_saliency (and annotated= true for some samples), or raise limit=."
        )
    sizes = {tuple(maps.model.shape[1:]) for maps in found}
    if len(sizes) > 1:
        raise ValueError(f"The model's maps differ in size between batches, {sorted(sizes)}: bring images to one size.")
    partly = any(maps.known is not None for maps in found)
    known = [torch.ones_like(maps.model) if maps.known is None else maps.known for maps in found]
    return Maps(
        torch.cat([maps.model for maps in found]),
        torch.cat([maps.human for maps in found]),
        torch.cat(known) if partly else None,
        torch.cat([maps.sample for maps in found]),
        torch.cat([maps.place for maps in found]),
    )
