"""Tables of the results, for the terminal and for a Markdown file."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from .arms import Arm
from .experiment import Gate
from .generators import UNSEEN

Summary = dict[str, dict[str, list[float]]]
"""Each metric's values over seeds, by arm."""

FORMS = {"auc": "{:.3f}", "flip": "{:.2f}", "logit": "{:+.1f}", "alignment": "{:.2f}"}

TABLES = {
    "AUC of authentic against synthetic faces": {
        "auc_unseen": "unseen generators, mean",
        "auc_training_generator": "training generator",
        "auc_fingerprint_free": "fingerprint removed",
    },
    "Pairs of renders: share of flipped decisions, change of the logit": {
        "flip_rate_fingerprint": "fingerprint removed, flips",
        "logit_change_fingerprint": "logit",
        "flip_rate_defect": "defect repaired, flips",
        "logit_change_defect": "logit",
    },
    "Correlation of the network's map with the human map": {
        "alignment": "of the same face",
        "alignment_shuffled": "of another face of the class",
    },
    "AUC by unseen generator": {f"auc_{generator}": generator for generator in UNSEEN},
}

MARKDOWN = {
    "AUC, unseen generators": ("auc_unseen",),
    "AUC, training generator": ("auc_training_generator",),
    "AUC, fingerprint removed": ("auc_fingerprint_free",),
    "Fingerprint removed: flips; logit": ("flip_rate_fingerprint", "logit_change_fingerprint"),
    "Defect repaired: flips; logit": ("flip_rate_defect", "logit_change_defect"),
    "Map and human map: same face; another": ("alignment", "alignment_shuffled"),
}

LEGEND = """AUC tells authentic from synthetic test faces. *Fingerprint removed* and *defect repaired* follow pairs of
renders of the training generator's fakes: the share whose decision flips at the network's own threshold, and how
far the logit moves. A network that decides by the defect has small numbers in the first and large ones in the
second (logits of different arms differ in scale). The last column correlates the network's map with the human map
of the same face, and of another face of its class. {seeds}; alpha is the task's share of the loss."""


def summarise(results: list[dict[str, Any]]) -> Summary:
    """Collects the metrics of all trainings with fingerprint."""
    summary: Summary = {}
    for result in results:
        if result["fingerprint"]:
            by_generator = {f"auc_{name}": value for name, value in result["auc_by_generator"].items()}
            for key, value in {**result["metrics"], **by_generator}.items():
                summary.setdefault(result["arm"], {}).setdefault(key, []).append(value)
    return summary


def cell(values: dict[str, list[float]], *keys: str) -> str:
    """Mean and, with several seeds, standard deviation of each metric."""
    texts = []
    for key in keys:
        form = FORMS[key.split("_")[0]]
        spread = f" ± {form.format(stdev(values[key])).lstrip('+')}" if len(values[key]) > 1 else ""
        texts.append(form.format(mean(values[key])) + spread)
    return "; ".join(texts)


def print_tables(console: Console, arms: list[Arm], results: list[dict[str, Any]]) -> None:
    """Prints every table."""
    summary = summarise(results)
    for title, columns in TABLES.items():
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("arm", min_width=18)
        for heading in columns.values():
            table.add_column(heading, justify="right")
        for arm in arms:
            table.add_row(arm.title, *(cell(summary[arm.name], key) for key in columns))
        console.print(table)


def markdown(arms: list[Arm], results: list[dict[str, Any]], gate: Gate, seeds: int) -> str:
    """The gate, the table and how to read it."""
    summary = summarise(results)
    verdict = "Gate passed." if gate.passed else "**Gate FAILED: the comparison below is invalid.**"
    rows = [["Arm", "alpha", *MARKDOWN], ["---", *["---:"] * (len(MARKDOWN) + 1)]]
    for arm in arms:
        alpha = "" if arm.extractor is None else f"{arm.alpha:g}"
        rows.append([arm.title, alpha, *(cell(summary[arm.name], *keys) for keys in MARKDOWN.values())])
    table = ["| " + " | ".join(row) + " |" for row in rows]
    spread = f"Mean ± standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    lines = [
        *(f"- {line}" for line in gate.lines),
        "",
        verdict,
        "",
        *table,
        "",
        LEGEND.format(seeds=spread),
        "",
    ]
    return "\n".join(lines)
