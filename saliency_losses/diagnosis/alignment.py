"""Whether model maps agree with the human maps of the same image, rather than with any human map."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_losses.diagnosis.maps import Maps
from saliency_losses.diagnosis.pairing import advantage, correlations, derangement, has_shape, paired, with_mean_map
from saliency_losses.divergences.base import Divergence

__all__ = ["Alignment", "Gain", "align", "gain_over"]


@dataclass(frozen=True)
class Alignment:
    """How well the maps of one extractor agree with people's; NaN where too few maps say so.

    Each sample counts once. Shuffled means: beside the human maps of the other samples, over all derangements.

    Attributes:
        extractor: What made the maps.
        samples: How many samples are in the correlations.
        undefined: How many maps are left out of them, since the model's or the human's is flat or not finite.
        correlation: Mean Pearson correlation with the human map of the same image.
        shuffled: The same with other images' human maps.
        difference: Between these two.
        standard_error: Of the difference, paired by sample.
        p_value: The share of permutations of the human maps that agree at least as well.
        mean_map: Mean correlation with the mean human map of the other samples.
        above_mean_map: ``correlation`` minus ``mean_map``.
        above_mean_map_error: Its standard error, paired by sample.
        divergence: Mean of the guided loss's divergence over all annotated maps, at the size of the model's map.
        shuffled_divergence: The same with other images' human maps, over a few random derangements.
    """

    extractor: str
    samples: int
    undefined: int
    correlation: float
    shuffled: float
    difference: float
    standard_error: float
    p_value: float
    mean_map: float
    above_mean_map: float
    above_mean_map_error: float
    divergence: float
    shuffled_divergence: float


@dataclass(frozen=True)
class Gain:
    """How much better than a baseline's the maps of a model tell their own image's human map from others'.

    Attributes:
        baseline: The baseline's ``difference``.
        gain: The model's difference minus the baseline's.
        standard_error: Of the gain, paired by sample.
    """

    baseline: float
    gain: float
    standard_error: float


_DERANGEMENTS = 8


@torch.no_grad()
def align(extractor: str, maps: Maps, divergence: Divergence, permutations: int, seed: int) -> Alignment:
    """The agreement of one extractor's maps with human maps.

    Args:
        extractor: Its name.
        maps: What was kept of it.
        divergence: Of the guided loss.
        permutations: How many random permutations the p-value rests on.
        seed: Of these permutations.
    """
    generator = torch.Generator().manual_seed(seed)
    values = divergence(maps.model, maps.human, maps.known)
    others = [
        divergence(maps.model, maps.human[order], None if maps.known is None else maps.known[order])
        for order in (derangement(maps.place, generator) for _ in range(_DERANGEMENTS))
    ]
    kept = _comparable(maps)
    pairs = correlations(kept)
    own, shuffled = advantage(pairs)
    centre = with_mean_map(kept)
    row = torch.arange(len(pairs))
    orders = (torch.randperm(len(pairs), generator=generator) for _ in range(permutations))
    as_good = sum(bool(pairs[row, order].nanmean() >= own.mean() - 1e-6) for order in orders)
    difference, error = paired(own, shuffled)
    above, above_error = paired(own, centre)
    several = len(own) > 1
    return Alignment(
        extractor=extractor,
        samples=len(own),
        undefined=len(maps.sample) - len(kept.sample),
        correlation=float(own.mean()),
        shuffled=float(shuffled.nanmean()),
        difference=difference,
        standard_error=error,
        p_value=(1 + as_good) / (1 + permutations) if several else math.nan,
        mean_map=float(centre.nanmean()),
        above_mean_map=above,
        above_mean_map_error=above_error,
        divergence=float(values.mean()),
        shuffled_divergence=float(torch.stack(others).mean()) if several else math.nan,
    )


@torch.no_grad()
def gain_over(maps: Maps, baseline: Maps) -> Gain:
    """How a model's maps compare with a baseline's on the same samples; a sample whose map is flat has advantage 0."""
    first, second = (_advantages(found, int(maps.sample.max()) + 1) for found in (maps, baseline))
    there = torch.unique(maps.sample)
    return Gain(float(second[there].nanmean()), *paired(first[there], second[there]))


def _advantages(maps: Maps, count: int) -> Tensor:
    kept = _comparable(maps)
    own, shuffled = advantage(correlations(kept))
    found = own.new_zeros(count)
    found[torch.unique(kept.sample)] = own - shuffled
    return found


def _comparable(maps: Maps) -> Maps:
    """The pairs, flattened, of which neither map is flat or not finite."""
    flat = maps.flat()
    return flat.rows(has_shape(flat.model, flat.known) & has_shape(flat.human, flat.known))
