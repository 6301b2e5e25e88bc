"""AUCs, and paired differences with intervals that resample seeds, generators and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Scores = Mapping[str, Array]
"""How fake each test image is to one network, (n,) by group."""

RESAMPLES, SEED = 2000, 12_345


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and generators, and its 95 % interval; None without a second seed."""

    value: float
    interval: tuple[float, float] | None
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Resampling:
    """How often each image and each generator is drawn in each of B resamples.

    Drawn once and used for all networks, so that a difference between two of them is one on the same images.

    Attributes:
        authentic: (n, B), over all authentic test images.
        fakes: (m, B) by group.
        generators: (G, B), in the order of ``fakes``.
    """

    authentic: Array
    fakes: dict[str, Array]
    generators: Array

    @classmethod
    def draw(cls, scores: Scores, resamples: int = RESAMPLES, seed: int = SEED) -> Resampling:
        """For test groups of these sizes; those of one size share their draws, since they may show the same faces."""
        random = np.random.default_rng(seed)
        sizes = {group: len(scores[group]) for group in unseen(scores)}
        by_size = {size: counts(size, resamples, random) for size in sorted(set(sizes.values()))}
        return cls(
            counts(len(authentic(scores)), resamples, random),
            {group: by_size[size] for group, size in sizes.items()},
            counts(len(sizes), resamples, random),
        )

    def fits(self, scores: Scores) -> bool:
        """Whether a network was tested on these groups, with as many images in each."""
        sizes = {group: len(scores[group]) for group in unseen(scores)}
        return sizes == {g: len(c) for g, c in self.fakes.items()} and len(authentic(scores)) == len(self.authentic)

    def aucs(self, scores: Scores) -> Array:
        """AUC of each generator in each resample, (G, B)."""
        real = authentic(scores)
        return np.stack([resampled_auc(real, scores[g], self.authentic, n) for g, n in self.fakes.items()])


def counts(size: int, resamples: int, random: np.random.Generator) -> Array:
    """How often each of ``size`` things is drawn in ``size`` draws with replacement, (size, resamples)."""
    return random.multinomial(size, np.full(size, 1.0 / size), resamples).T.astype(np.float32)


def unseen(scores: Scores) -> list[str]:
    """The groups of unseen generators."""
    return sorted(group for group in scores if group.startswith("unseen/"))


def authentic(scores: Scores) -> Array:
    """The scores of all authentic images."""
    groups = sorted(group for group in scores if group.startswith("authentic/"))
    return np.concatenate([scores[group] for group in groups]) if groups else np.zeros(0)


def auc(real: Array, fake: Array) -> float:
    """Share of pairs in which the fake image scores higher than the authentic one; a tie counts one half.

    Example:
        >>> auc(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
        0.875
    """
    ones = np.ones((len(real), 1), dtype=np.float32), np.ones((len(fake), 1), dtype=np.float32)
    return float(resampled_auc(real, fake, *ones)[0])


def resampled_auc(real: Array, fake: Array, real_counts: Array, fake_counts: Array) -> Array:
    """AUCs (B,) of images (n,) and (m,) that are drawn (n, B) and (m, B) times."""
    order = np.argsort(real, kind="stable")
    below = np.concatenate([np.zeros_like(real_counts[:1]), np.cumsum(real_counts[order], axis=0)])
    first, last = (np.searchsorted(real[order], fake, side) for side in ("left", "right"))
    beaten = below[first] if (first == last).all() else (below[first] + below[last]) / 2
    won = np.einsum("mb,mb->b", beaten, fake_counts, dtype=np.float64)
    result: Array = won / (len(real) * len(fake))
    return result


def estimate(aucs: Mapping[int, Array], points: Mapping[int, float], draws: Resampling) -> Estimate:
    r"""The mean over seeds and generators, and the interval of the crossed bootstrap.

    In each resample, seeds, generators and images are all drawn anew, each seed meeting each generator and image:

    .. math:: \hat\theta_b = \frac{1}{S\,G} \sum_{s,g} w_{sb}\, v_{gb}\, \mathrm{AUC}_{sg}(a_b, f_b)

    and the interval lies between the percentiles of :func:`tail` for the larger of S and G: the crossed bootstrap's
    variance is a little too large, its percentiles for so few seeds and generators too near.

    Args:
        aucs: (G, B) by seed: AUCs, or differences of them.
        points: The value itself, by seed.
        draws: Where the AUCs come from.

    Reference:
        Art B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics, 2007.
    """
    seeds = tuple(sorted(aucs))
    value = float(np.mean([points[seed] for seed in seeds]))
    if len(seeds) < 2:
        return Estimate(value, None, seeds)
    stacked = np.stack([aucs[seed] for seed in seeds])
    drawn = counts(len(seeds), stacked.shape[-1], np.random.default_rng(SEED + 1))
    means = np.einsum("sgb,sb,gb->b", stacked, drawn, draws.generators) / stacked[..., 0].size
    share = tail(max(len(seeds), len(draws.generators)))
    low, high = np.quantile(means, [share, 1.0 - share])
    return Estimate(value, (float(low), float(high)), seeds)


def tail(drawn: int, level: float = 0.95) -> float:
    r"""The share of resamples on each side of an interval over ``drawn`` things: the expanded percentile.

    A bootstrap of n things is too narrow by :math:`\sqrt{(n-1)/n}`, and its normal tails are lighter than Student's:

    .. math:: \Phi\left(-\sqrt{n / (n-1)}\; t_{n-1}\right)

    Reference:
        Tim C. Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician, 2015.

    Example:
        >>> round(tail(6), 4), round(tail(1000), 4)
        (0.0024, 0.0248)
    """
    from scipy.stats import norm, t

    return float(norm.cdf(-np.sqrt(drawn / (drawn - 1)) * t.ppf((1.0 + level) / 2.0, drawn - 1)))


class Resampled:
    """The resampled AUCs of one arm, by seed."""

    def __init__(self, draws: Resampling, scores: Mapping[int, Scores]) -> None:
        self.draws = draws
        fitting = {seed: found for seed, found in scores.items() if draws.fits(found)}
        self.aucs = {seed: draws.aucs(found) for seed, found in fitting.items()}
        self.points = {
            seed: float(np.mean([auc(authentic(found), found[group]) for group in unseen(found)]))
            for seed, found in fitting.items()
        }

    def mean(self) -> Estimate | None:
        """Mean AUC on unseen generators; None without a training."""
        return estimate(self.aucs, self.points, self.draws) if self.aucs else None

    def minus(self, other: Resampled) -> Estimate | None:
        """Difference of the means over the seeds that both have; None without one."""
        both: Sequence[int] = sorted(self.aucs.keys() & other.aucs.keys())
        differences = {seed: self.aucs[seed] - other.aucs[seed] for seed in both}
        points = {seed: self.points[seed] - other.points[seed] for seed in both}
        return estimate(differences, points, self.draws) if both else None
