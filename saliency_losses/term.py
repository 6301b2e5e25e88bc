"""The saliency term: every part of a divergence, over the maps that it is for."""

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saliency_losses.denominator import Denominator, divisor
from saliency_losses.divergences.base import DIVERGENCES, Divergence
from saliency_losses.divergences.evaluate import evaluate, working_dtype

__all__ = ["Compared", "divisors_of", "has_prior", "names_of_parts", "saliency_term"]


class Compared(NamedTuple):
    r"""What is compared, one row per map.

    Attributes:
        layers: The model's maps, (M, \*s) per layer.
        human: The human maps with zeros where nothing is known, (M, \*S), or ``None``.
        known: Weight of their pixels, (M, \*S), or ``None`` for one.
        annotated: Which rows have a human map, (M,).
        explained: Which rows explain anything, (M,): those that priors are for.
    """

    layers: Sequence[Tensor]
    human: Tensor | None
    known: Tensor | None
    annotated: Tensor
    explained: Tensor

    def rows_of(self, part: Divergence) -> Tensor:
        """Which rows the part is for, (M,)."""
        return self.explained if part.reads == "nothing" else self.annotated


def has_prior(divergence: Divergence) -> bool:
    """Whether a part of the divergence needs no human map."""
    return any(part.reads == "nothing" for _, part in divergence.terms())


def names_of_parts(divergence: Divergence) -> list[str]:
    """The registered name of each part; from the second of a kind on with its number, as in ``kl_2``."""
    seen: Counter[str] = Counter()
    names = []
    for _, part in divergence.terms():
        name = DIVERGENCES.name_of(part)
        seen[name] += 1
        names.append(f"{name}_{seen[name]}" if seen[name] > 1 else name)
    return names


def divisors_of(
    divergence: Divergence,
    denominator: Denominator,
    annotated: Tensor,
    explained: Tensor,
    maps: int,
    loss: nn.Module,
    together: bool,
) -> list[Tensor | float]:
    """What the sum of each part over its maps is divided by; every process asks for the same counts.

    Args:
        divergence: Whose parts.
        denominator: The rule; a number speaks of comparisons, not of priors.
        annotated: How many of this process's maps have a human map.
        explained: How many explain anything.
        maps: How many there are.
        loss: The module that wrappers are looked for around and inside.
        together: Whether the processes, if there are several, train one model.
    """
    priors = [part.reads == "nothing" for _, part in divergence.terms()]
    of_priors = denominator if isinstance(denominator, str) else "annotated"
    rules = {False: (denominator, annotated), True: (of_priors, explained)}
    found = {kind: divisor(*rules[kind], maps, loss, together=together) for kind in sorted(set(priors))}
    return [found[kind] for kind in priors]


def saliency_term(
    divergence: Divergence,
    compared: Compared,
    weight: Tensor | None,
    divisors: Sequence[Tensor | float],
    shape: tuple[int, ...],
    *,
    per_sample: bool,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The saliency term, what is shown of it, and each part's value off the graph.

    Args:
        divergence: Compares.
        compared: The maps, M = B or B * K.
        weight: Of each map, (B,) or (B, K).
        divisors: What the sum of each part over its maps is divided by.
        shape: (B,) or (B, K).
        per_sample: Whether to give one term per sample, the mean over its maps, and show one value per map; else both
            are the sum over maps divided by the divisors.
    """
    terms = divergence.terms()
    own = torch.ones_like(compared.annotated, dtype=working_dtype(compared.layers[0], None))
    if weight is not None:
        own = own * weight.expand(shape).flatten()
    names = names_of_parts(divergence)
    if not per_sample:
        each, sums = _compare(terms, compared, [own / divisor for divisor in divisors])
        term = each.sum()
        return term, term, dict(zip(names, sums, strict=True))
    term, values = own.new_zeros(shape[:1]), own.new_zeros(shape)
    parts: dict[str, Tensor] = {}
    for prior in (False, True):
        chosen = [index for index, (_, part) in enumerate(terms) if (part.reads == "nothing") is prior]
        if not chosen:
            continue
        some = [terms[index] for index in chosen]
        each, sums = _compare(some, compared, [own] * len(some))
        each, rows = each.view(shape), compared.rows_of(some[0][1]).view(shape)
        values = values + each
        term = term + (each if len(shape) == 1 else each.sum(1) / rows.sum(1).clamp_min(1))
        parts |= {names[index]: total / divisors[index] for index, total in zip(chosen, sums, strict=True)}
    return term, values, {name: parts[name] for name in names}


def _compare(
    terms: Sequence[tuple[float, Divergence]], compared: Compared, factors: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    """The weighted sum of the parts for each map, (M,), and the sum of each part over its maps, off the graph.

    Args:
        terms: Weights and parts.
        compared: The maps.
        factors: What each part's values are multiplied by, (M,) each.
    """
    total, nothing = torch.zeros_like(factors[0]), factors[0].new_zeros(())
    usable = [part.reads == "nothing" or compared.human is not None for _, part in terms]
    if not any(usable):
        return total, [nothing] * len(terms)
    chosen = list(compress(zip(terms, factors, strict=True), usable))
    parts = [part for (_, part), _ in chosen]
    rows = torch.stack([compared.rows_of(part) for part in parts])
    each = torch.where(rows, torch.stack([factor for _, factor in chosen]) / len(compared.layers), 0.0)
    weights = torch.stack([weight * factor for ((weight, _), _), factor in zip(chosen, each, strict=True)])
    sums = each.new_zeros(len(parts))
    for maps in compared.layers:
        value, values = evaluate(parts, weights, maps, compared.human, compared.known)
        total = total + value
        sums = sums + torch.where(rows, each * values, 0.0).sum(1)
    found = iter(sums)
    return total, [next(found) if used else nothing for used in usable]
