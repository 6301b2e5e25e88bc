"""Correlations of model maps with human maps, in pairs that belong together and in pairs that do not."""

import math

import torch
from torch import Tensor

from saliency_losses.diagnosis.maps import Maps
from saliency_losses.divergences.correlation import pearson
from saliency_losses.divergences.normalize import standardize

__all__ = ["advantage", "correlations", "derangement", "has_shape", "paired", "with_mean_map"]


def correlations(maps: Maps) -> Tensor:
    """Between each sample's model maps and each sample's human maps, (S, S).

    Where samples have several maps, the k-th is compared with the k-th; NaN where two samples share none.

    Args:
        maps: Flattened, (N, P), none of them flat.
    """
    samples, index = torch.unique(maps.sample, return_inverse=True)
    total = maps.model.new_zeros(len(samples), len(samples))
    count = torch.zeros_like(total)
    for rows in _by_place(maps.place):
        model, human = maps.model[rows], maps.human[rows]
        if maps.known is None:
            found = standardize(model) @ standardize(human).T / model.shape[1]
        else:
            pairs = zip(human, maps.known[rows], strict=True)
            found = torch.stack([pearson(model, h.expand_as(model), k.expand_as(model)) for h, k in pairs], 1)
        where = index[rows].unsqueeze(1), index[rows].unsqueeze(0)
        total[where] += found
        count[where] += 1
    return total / count


def advantage(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Each sample's correlation with its own human map, and its mean one with the others', (S,) each."""
    own = pairs.diagonal()
    return own, pairs.masked_fill(torch.eye(len(pairs), dtype=torch.bool), math.nan).nanmean(1)


def with_mean_map(maps: Maps) -> Tensor:
    """Each sample's correlation with the mean human map of the other samples, (S,); NaN where there is no other.

    Args:
        maps: Flattened, (N, P), none of them flat.
    """
    samples, index = torch.unique(maps.sample, return_inverse=True)
    total, count = maps.model.new_zeros(len(samples)), maps.model.new_zeros(len(samples))
    for rows in _by_place(maps.place):
        human = maps.human[rows]
        weight = torch.ones_like(human) if maps.known is None else maps.known[rows]
        mass, cells = (human * weight).sum(0) - human * weight, weight.sum(0) - weight
        there = cells > 1e-6
        mean = torch.where(there, mass / torch.where(there, cells, 1.0), 0.0)
        total[index[rows]] += pearson(maps.model[rows], mean, weight * there) if len(rows) > 1 else math.nan
        count[index[rows]] += 1
    return total / count


def has_shape(maps: Tensor, known: Tensor | None) -> Tensor:
    """Whether each map (N, P) is finite and not flat."""
    shape = standardize(maps, known)
    return shape.isfinite().all(1) & (shape != 0).any(1)


def derangement(place: Tensor, generator: torch.Generator) -> Tensor:
    """A random order that gives each row another sample's row of the same place, where there is one."""
    order = torch.arange(len(place))
    for rows in _by_place(place):
        mixed = rows[torch.randperm(len(rows), generator=generator)]
        order[mixed] = mixed.roll(1)
    return order


def paired(first: Tensor, second: Tensor) -> tuple[float, float]:
    """The mean difference and its standard error, over the samples where both are known.

    Example:
        >>> paired(torch.tensor([2.0, 4.0, 6.0]), torch.tensor([1.0, 3.0, 5.0]))
        (1.0, 0.0)
    """
    difference = first - second
    difference = difference[~difference.isnan()]
    error = float(difference.std()) / math.sqrt(len(difference)) if len(difference) > 1 else math.nan
    return float(difference.mean()), error


def _by_place(place: Tensor) -> list[Tensor]:
    return [(place == number).nonzero().flatten() for number in torch.unique(place)]
