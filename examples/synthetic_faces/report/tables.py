"""The tables of the study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from .comparison import KINDS, Comparison, Row
from .statistics import Estimate, Resampled, Resampling, authentic, unseen
from .table import Cell, Table

ABSENT = Cell("-")
FORMS = {
    "auc": "{:.3f}",
    "flip": "{:.2f}",
    "called": "{:.2f}",
    "authentic": "{:.2f}",
    "logit": "{:+.1f}",
    "alignment": "{:.2f}",
}


@dataclass(frozen=True)
class Estimates:
    """Each arm's mean AUC on unseen generators and what it gains over cross-entropy, by the arm's title."""

    means: dict[str, Estimate]
    gains: dict[str, Estimate]

    @classmethod
    def of(cls, comparison: Comparison) -> Estimates:
        """Resamples every arm on the same images; arms without scores, or tested on other images, are left out."""
        scores = {row.title: {seed: r.scores for seed, r in row.by_seed.items()} for row in comparison.rows}
        baseline = comparison.baseline
        order = ([baseline.title] if baseline else []) + [row.title for row in comparison.rows]
        usable = [s for title in order for s in scores[title].values() if unseen(s) and len(authentic(s))]
        if not usable:
            return cls({}, {})
        draws = Resampling.draw(usable[0])
        arms = {title: Resampled(draws, found) for title, found in scores.items()}
        means = {title: arm.mean() for title, arm in arms.items()}
        plain = arms[baseline.title] if baseline else None
        gains = {title: arm.minus(plain) for title, arm in arms.items() if plain is not None and arm is not plain}
        return cls(*({title: e for title, e in found.items() if e is not None} for found in (means, gains)))


def generalisation(comparison: Comparison, estimates: Estimates) -> Table:
    """AUC per unseen generator, their mean, and the difference from cross-entropy."""
    groups = comparison.groups
    columns = ("auc_unseen", *(f"auc/{group}" for group in groups))
    headings = ("arm", "mean", "difference from cross-entropy", *(group.removeprefix("unseen/") for group in groups))
    rows = {
        row.title: (
            spread(row, columns[0]),
            difference(row, comparison, estimates),
            *(spread(row, column) for column in columns[1:]),
        )
        for row in comparison.rows
    }
    seeds = len(comparison.seeds)
    note = "AUC of authentic against synthetic test faces, by generators that no network was trained on. "
    note += f"Mean ± standard deviation over {seeds} seeds. " if seeds > 1 else "One seed: no interval over seeds. "
    if seeds > 1:
        note += "Differences are paired by seed; their 95 % intervals resample seeds, generators and images."
        note += "" if seeds >= 10 else f" {seeds} seeds are few: claims need 10."
    return _table("AUC on unseen generators", headings, comparison, rows, note)


def pairs(comparison: Comparison) -> Table | None:
    """What happens to fakes of the training generator whose fingerprint or defect is taken away; None: no pairs."""
    columns = {
        "AUC without fingerprint": "auc_fingerprint_free",
        "fingerprint removed: flips": "flip_rate_fingerprint",
        "defect repaired: flips": "flip_rate_defect",
        "fingerprint removed: logit": "logit_change_fingerprint",
        "defect repaired: logit": "logit_change_defect",
        "fakes called fake": "called_fake/training/training",
        "authentic called fake": "authentic_called_fake",
    }
    note = (
        "Pairs of renders of the same face: the share of decisions that flip at the network's own threshold, and how "
        "far its logit moves. A network that decides by the defect has small numbers where the fingerprint is removed "
        "and large ones where the defect is repaired; one that calls everything fake, or nothing, flips nowhere, which "
        "the last two columns show. Logits of different arms differ in scale."
    )
    paired = any(row.values("flip_rate_fingerprint") for row in comparison.rows)
    return _measures("Paired renders", columns, comparison, note) if paired else None


def alignment(comparison: Comparison) -> Table | None:
    """How the networks' maps agree with human ones; None where nobody measured it."""
    columns = {
        "own human map": "alignment",
        "another face's map": "alignment_shuffled",
        "own, by occlusion": "alignment_occlusion",
        "another's, by occlusion": "alignment_occlusion_shuffled",
    }
    note = (
        "Correlation of the network's map with the human map of the same face, and of another face of its class: only "
        "what the first has above the second says that a network looks where people looked in that image. No arm was "
        "trained on occlusion."
    )
    return _measures("Alignment with human maps", columns, comparison, note)


def spread(row: Row, metric: str) -> Cell:
    """Mean and, with several seeds, standard deviation."""
    values = row.values(metric)
    if not values:
        return ABSENT
    form, centre = FORMS[metric.split("/")[0].split("_")[0]], sum(values) / len(values)
    if len(values) < 2:
        return Cell(form.format(centre), {"mean": centre})
    sd = stdev(values)
    return Cell(f"{form.format(centre)} ± {form.format(sd).lstrip('+')}", {"mean": centre, "sd": sd})


def difference(row: Row, comparison: Comparison, estimates: Estimates) -> Cell:
    """The paired difference and its interval, and of which seeds where some are missing."""
    found = estimates.gains.get(row.title)
    if found is None:
        return ABSENT
    numbers = {"value": found.value}
    if found.interval is None:
        return Cell(f"{found.value:+.3f}", numbers)
    low, high = found.interval
    fewer = f", {len(found.seeds)} seeds" if len(found.seeds) < len(comparison.seeds) else ""
    return Cell(f"{found.value:+.3f} [{low:+.3f}, {high:+.3f}]{fewer}", numbers | {"low": low, "high": high})


def _measures(title: str, columns: dict[str, str], comparison: Comparison, note: str) -> Table | None:
    present = {h: m for h, m in columns.items() if any(row.values(m) for row in comparison.rows)}
    rows = {row.title: tuple(spread(row, metric) for metric in present.values()) for row in comparison.rows}
    return _table(title, ("arm", *present), comparison, rows, note) if present else None


def _table(
    title: str, headings: Sequence[str], comparison: Comparison, cells: dict[str, tuple[Cell, ...]], note: str
) -> Table:
    groups = {
        kind: [(Cell(row.title), *cells[row.title]) for row in comparison.rows if row.kind == kind] for kind in KINDS
    }
    label = f"{title} ({comparison.label})" if comparison.label else title
    return Table(label, tuple(headings), {kind: rows for kind, rows in groups.items() if rows}, note)
