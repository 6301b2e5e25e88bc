"""What the report says, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from examples.synthetic_faces.results import Result

from .page import Section


def markdown(sections: Sequence[Section]) -> str:
    """Gates and tables, for a README or a docs page."""
    lines = []
    for section in sections:
        verdict = section.gate.verdict
        lines += [f"## {section.comparison.label}\n"] if section.comparison.label else []
        lines += [f"- {line}" for line in section.gate.lines]
        lines += ["", f"**{verdict}**" if section.invalid else verdict, ""]
        lines += [f"- {problem}" for problem in section.comparison.problems]
        lines += ["", *(table.markdown() for table in section.tables)]
    return "\n".join(lines).strip() + "\n"


def trainings(results: Sequence[Result]) -> str:
    """One line per training with all its metrics, as CSV."""
    metrics = sorted({key for result in results for key in result.metrics})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["arm", "network", "seed", "fingerprint", "annotated", "seconds", *metrics])
    for result in results:
        settings = result.settings
        about = [settings.get("data", {}).get("fingerprint", ""), settings.get("arm", {}).get("annotated", "")]
        numbers = [result.metrics.get(key, "") for key in metrics]
        writer.writerow([result.arm, result.network, result.seed, *about, result.seconds, *numbers])
    return out.getvalue()


def record(sections: Sequence[Section], results: Sequence[Result], about: dict[str, Any]) -> str:
    """Gates, tables, differences and every training, as JSON."""
    comparisons = [
        {
            "label": section.comparison.label,
            "network": section.comparison.network,
            "data": section.comparison.data,
            "gate": {"state": section.gate.state, "lines": section.gate.lines, **asdict(section.gate)},
            "problems": section.comparison.problems,
            "differences": {title: asdict(found) for title, found in section.estimates.gains.items()},
            "tables": {table.title: table.records() for table in section.tables},
        }
        for section in sections
    ]
    kept = ("arm", "title", "network", "seed", "settings", "metrics", "epochs", "seconds")
    single = [{key: getattr(result, key) for key in kept} for result in results]
    whole = {"about": about, "comparisons": comparisons, "trainings": single}
    return json.dumps(_finite(whole), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """None in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
