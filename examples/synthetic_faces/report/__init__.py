"""The report of a study: tables, plots, average maps and a gallery, on one page and as files."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import saliency_losses as sl
from examples.synthetic_faces.results import Result

from .comparison import Comparison, arrange
from .files import markdown, record, trainings
from .gallery import OpenSource
from .gate import Gate
from .page import page
from .sections import build, tables
from .tables import Estimates

__all__ = ["print_tables", "write_report"]


def write_report(
    results: Sequence[Result], folder: Path, open_source: OpenSource | None = None, commands: Sequence[str] = ()
) -> Path:
    """Writes ``report.html``, ``table.md``, ``results.csv``, ``results.json``, a CSV of each table and the figures.

    Args:
        results: Of finished trainings; what is missing among them is named, and nothing else left out for it.
        folder: Made where it is not there.
        open_source: From the description of data to the source of a gallery's images; None: no gallery.
        commands: What made the results, for the page.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    comparisons = arrange(results)
    suffixes = [f"_{number + 1}" if len(comparisons) > 1 else "" for number in range(len(comparisons))]
    sections = [build(c, folder, open_source, suffix) for c, suffix in zip(comparisons, suffixes, strict=True)]
    about = _about(comparisons, results, commands)
    texts = {
        "table.md": markdown(sections),
        "results.csv": trainings(results),
        "results.json": record(sections, results, about),
    }
    for section, suffix in zip(sections, suffixes, strict=True):
        texts |= {f"table{suffix}_{number + 1}.csv": table.csv() for number, table in enumerate(section.tables)}
    files = [*map(folder.joinpath, texts), *(path for section in sections for path in section.files)]
    texts["report.html"] = page(sections, files, about)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "report.html"


def print_tables(console: Console, results: Sequence[Result]) -> None:
    """Prints the gate and every table of each comparison."""
    for comparison in arrange(results):
        gate = Gate.of(comparison)
        console.print(*gate.lines, sep="\n", markup=False)
        console.print(gate.verdict, style="bold white on red" if gate.state == "failed" else "bold", markup=False)
        for table in tables(comparison, Estimates.of(comparison)).values():
            console.print(table.rich(console.width))


def _about(comparisons: Sequence[Comparison], results: Sequence[Result], commands: Sequence[str]) -> dict[str, Any]:
    """Hyper-parameters, arms, data, versions and commands, under their headings."""
    about: dict[str, Any] = {}
    if commands:
        about["Commands"] = "\n".join(commands)
    for comparison in comparisons:
        label = f" ({comparison.label})" if comparison.label else ""
        firsts = [next(iter(row.by_seed.values())) for row in comparison.rows]
        about[f"Hyper-parameters{label}"] = firsts[0].settings.get("plan", {})
        about[f"Data{label}"] = comparison.data
        about[f"Arms{label}"] = {row.title: _told(row.settings) for row in comparison.rows}
        about[f"Seeds{label}"] = ", ".join(map(str, comparison.seeds))
    hours = sum(result.seconds for result in results) / 3600
    about["Versions"] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "saliency_losses": sl.__version__,
        "trainings": f"{len(results)}, {hours:.1f} hours in all",
    }
    return about


def _told(settings: dict[str, Any]) -> str:
    """An arm's settings, without what is off."""
    kept = {k: v for k, v in settings.items() if k != "title" and v not in (None, "", 0, {}, False)}
    return ", ".join(f"{key}: {value}" for key, value in kept.items())
