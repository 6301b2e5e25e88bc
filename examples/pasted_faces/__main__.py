"""Runs the comparison: ``python -m examples.pasted_faces``."""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown

import saliency_losses as sl
from examples.synthetic_faces.jobs import run_all, succeeded

from .arms import chosen, load
from .experiment import Gate, Trial
from .report import markdown
from .train import Plan

QUICK = Plan(scenes=64, epochs=1, batch=32, renders=1)


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.pasted_faces",
        description="A planted shortcut on real photographs: does guidance make a network decide by the pasted patch "
        "that people marked, rather than by the texture around it?",
    )
    parser.add_argument("--seeds", type=int, default=12, metavar="N", help="trainings per arm (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/pasted_faces"), help="folder (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one seed and few scenes, to see that it runs")
    options = parser.parse_args()
    if min(options.seeds, options.workers) < 1:
        parser.error("--seeds and --workers must be at least 1")
    return options


def main() -> None:
    """Trains the arms of the gate, then the others, and saves the table, the numbers and the pictures."""
    options, console = parse(), Console()
    options.output.mkdir(parents=True, exist_ok=True)
    seeds, plan = (1, QUICK) if options.quick else (options.seeds, Plan())
    start = time.perf_counter()
    arms = load()
    trials = [Trial(arm, seed, plan) for seed in range(seeds) for arm in arms]
    in_gate = [trial for trial in trials if trial.arm.extractor is None and trial.arm.scenes != "moved"]
    results = succeeded(run_all(in_gate, options.workers, console, "gate"))
    gate = Gate.of(results)
    console.print(*gate.lines, sep="\n")
    if not gate.passed:
        console.print("GATE FAILED: what follows is INVALID as a comparison of arms.", style="bold white on red")
    rest = [trial for trial in trials if trial not in in_gate]
    results += succeeded(run_all(rest, options.workers, console, "arms"))

    record: dict[str, Any] = {
        "valid": gate.passed,
        "quick": options.quick,
        "gate": {**asdict(gate), "lines": gate.lines},
        "plan": asdict(plan),
        "seeds": seeds,
        "arms": [asdict(arm) for arm in arms],
        "chosen": chosen(),
        "results": [{key: value for key, value in result.items() if key != "gallery"} for result in results],
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "saliency_losses": sl.__version__,
        },
    }
    (options.output / "results.json").write_text(json.dumps(record) + "\n")
    table = markdown(arms, results, gate, seeds)
    (options.output / "table.md").write_text(table)
    from .pictures import draw_gallery, draw_scores  # here, since every worker imports this module without drawing

    draw_scores(options.output / "worst_group.png", arms, results, gate)
    draw_gallery(options.output / "gallery.png", arms, results)
    console.print(Markdown(table))
    console.print(f"Took {record['seconds']:.0f} s. Results lie in {options.output}", soft_wrap=True)


if __name__ == "__main__":
    main()
