"""Arranges results so that only what belongs together is compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import mean
from typing import Any

from examples.synthetic_faces.results import Result

KINDS = ("no guidance", "guided", "same annotation, no saliency loss", "controls")
BASELINE = "cross_entropy"


@dataclass(frozen=True)
class Row:
    """One arm and its trainings, by seed."""

    name: str
    title: str
    kind: str
    settings: dict[str, Any]
    by_seed: dict[int, Result]

    def values(self, metric: str) -> list[float]:
        """The metric of every training that has it, by ascending seed."""
        found = (self.by_seed[seed].metrics.get(metric) for seed in sorted(self.by_seed))
        return [value for value in found if value is not None and isfinite(value)]

    def mean(self, metric: str) -> float | None:
        """Mean over seeds, None where no training has the metric."""
        values = self.values(metric)
        return mean(values) if values else None


@dataclass(frozen=True)
class Comparison:
    """Arms trained on the same data with the same network: what may stand in one table.

    Attributes:
        label: What sets it apart from the study's other comparisons; empty where there is one.
        network: The architecture.
        rows: Grouped by kind, in each the arm that generalises best first, cross-entropy before all.
        unspoilt: Cross-entropy trained on the same data without fingerprint; None where it was not.
        problems: What is missing or does not fit together, a sentence each.
    """

    label: str
    network: str
    data: dict[str, Any]
    rows: list[Row]
    unspoilt: Row | None
    problems: list[str]

    @property
    def baseline(self) -> Row | None:
        """Cross-entropy."""
        return next((row for row in self.rows if row.name == BASELINE), None)

    @property
    def best_guided(self) -> Row | None:
        """The guided arm with the highest mean AUC on unseen generators."""
        guided = [row for row in self.rows if row.kind == "guided" and row.mean("auc_unseen") is not None]
        return max(guided, key=lambda row: row.mean("auc_unseen") or 0.0, default=None)

    @property
    def seeds(self) -> list[int]:
        """The seeds of any arm."""
        return sorted({seed for row in self.rows for seed in row.by_seed})

    @property
    def groups(self) -> list[str]:
        """The unseen generators that any training was tested on, as test groups."""
        keys = {key for row in self.rows for result in row.by_seed.values() for key in result.metrics}
        return sorted(key.removeprefix("auc/") for key in keys if key.startswith("auc/unseen/"))


def arrange(results: Iterable[Result]) -> list[Comparison]:
    """Groups results by network and data, and each group's by arm and seed."""
    by_place: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_place.setdefault((result.network, _plain(_data(result))), []).append(result)
    plain = {place: found for place, found in by_place.items() if _data(found[0]).get("fingerprint") != "none"}
    labels = _labels([(place[0], _data(found[0])) for place, found in plain.items()])
    return [
        _comparison(label, found, _without_fingerprint(found[0], by_place))
        for label, found in zip(labels, plain.values(), strict=True)
    ]


def kind(settings: dict[str, Any]) -> str:
    """Which of :data:`KINDS` an arm of these settings is."""
    if settings.get("control"):
        return "controls"
    if settings.get("extractor"):
        return "guided"
    used = settings.get("background_blur", 0.0) or settings.get("head_weight", 0.0)
    return "same annotation, no saliency loss" if used else "no guidance"


def _comparison(label: str, results: list[Result], unspoilt: list[Result]) -> Comparison:
    problems: list[str] = []
    rows = _rows(results, problems)
    without = [row for row in _rows(unspoilt, problems) if row.name == BASELINE]
    if not any(row.name == BASELINE for row in rows):
        problems.append("No training with cross-entropy alone: there is nothing to take differences against.")
    seeds = {seed for row in rows for seed in row.by_seed}
    for row in rows:
        if missing := sorted(seeds - row.by_seed.keys()):
            problems.append(f"{row.title}: {_named('seed', missing)} missing.")
        if not row.values("flip_rate_fingerprint") and any(r.values("flip_rate_fingerprint") for r in rows):
            problems.append(f"{row.title}: no paired renders.")
        if not any(result.maps for result in row.by_seed.values()) and any(r.maps for r in results):
            problems.append(f"{row.title}: no maps.")
    for key, values in _plans(results).items():
        if len(values) > 1:
            told = "; ".join(f"{value} in {', '.join(sorted(arms))}" for value, arms in values.items())
            problems.append(f"Not trained alike: {key} is {told}.")
    return Comparison(label, results[0].network, _data(results[0]), rows, without[0] if without else None, problems)


def _rows(results: list[Result], problems: list[str]) -> list[Row]:
    trained: dict[str, dict[int, Result]] = {}
    for result in results:
        seeds = trained.setdefault(_plain({**_arm(result), "name": result.arm}), {})
        if result.seed in seeds:
            problems.append(f"{result.title}: seed {result.seed} is there more than once; the last one counts.")
        seeds[result.seed] = result
    firsts = [next(iter(seeds.values())) for seeds in trained.values()]
    titles = _titles(firsts)
    rows = [
        Row(first.arm, title, kind(_arm(first)), _arm(first), seeds)
        for first, title, seeds in zip(firsts, titles, trained.values(), strict=True)
    ]
    return sorted(rows, key=lambda row: (KINDS.index(row.kind), row.name != BASELINE, -(row.mean("auc_unseen") or 0.0)))


def _titles(results: Sequence[Result]) -> list[str]:
    """Each arm's title, with what tells it from others of the same title."""
    titles = []
    for result in results:
        same = [_arm(other) | {"name": other.arm} for other in results if other.title == result.title]
        own = _arm(result) | {"name": result.arm}
        extra = [f"{key} {own.get(key)}" for key in own if any(other.get(key) != own.get(key) for other in same)]
        titles.append((result.title or result.arm) + (f" ({', '.join(extra)})" if extra else ""))
    return titles


def _labels(places: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """What differs between the comparisons: the network, or settings of the data."""
    several = len({network for network, _ in places}) > 1
    labels = []
    for network, data in places:
        differing = [k for k in data if any(other.get(k) != data[k] for _, other in places)]
        labels.append(", ".join(([network] if several else []) + [f"{k} {data[k]}" for k in differing]))
    return labels


def _without_fingerprint(result: Result, by_place: dict[tuple[str, str], list[Result]]) -> list[Result]:
    if "fingerprint" not in _data(result):
        return []
    return by_place.get((result.network, _plain(_data(result) | {"fingerprint": "none"})), [])


def _plans(results: list[Result]) -> dict[str, dict[str, set[str]]]:
    """Each hyper-parameter's values, and the arms that have them; how fast it ran is none."""
    plans: dict[str, dict[str, set[str]]] = {}
    for result in results:
        for key, value in result.settings.get("plan", {}).items():
            if key not in ("workers", "compiled"):
                plans.setdefault(key, {}).setdefault(str(value), set()).add(result.title)
    return plans


def _data(result: Result) -> dict[str, Any]:
    data: dict[str, Any] = result.settings.get("data", {})
    return data


def _arm(result: Result) -> dict[str, Any]:
    arm: dict[str, Any] = result.settings.get("arm", {})
    return arm


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _named(word: str, numbers: list[int]) -> str:
    many = len(numbers) > 1
    return f"{word}{'s' if many else ''} {', '.join(map(str, numbers))} {'are' if many else 'is'}"
