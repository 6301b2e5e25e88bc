"""Runs the experiment: ``python -m examples.synthetic_faces``."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import saliency_losses as sl

from . import arms as arm_settings
from .arms import ARMS, Arm
from .data import FIRST_SEED
from .experiment import Gate, Trial
from .jobs import run_all
from .report import markdown, print_tables
from .train import Plan

QUICK = Plan(images=128, epochs=1, batch=32, test=20)


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.synthetic_faces",
        description="Does training with human saliency maps make a network give up a shortcut? Renders faces, "
        "trains every arm on them, and measures what each network decides by.",
    )
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="trainings per arm (default: %(default)s)")
    parser.add_argument(
        "--arms",
        nargs="+",
        default=list(ARMS),
        metavar="ARM",
        help=f"which arms to compare: {', '.join(ARMS)} (default: all)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/synthetic_faces"),
        help="folder for results (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each (default: %(default)s)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one epoch, few faces, one seed: shows that everything runs, and nothing else",
    )
    options = parser.parse_args()
    if options.seeds < 1 or options.workers < 1:
        parser.error("--seeds and --workers must be at least 1")
    try:
        options.arms = arm_settings.load(list(dict.fromkeys(options.arms)))
    except ValueError as error:
        parser.error(str(error))
    return options


def run(arms: list[Arm], seeds: int, plan: Plan, workers: int, console: Console) -> tuple[Gate, list[dict[str, Any]]]:
    """Trains plain cross-entropy without and with fingerprint, judges the gate, then trains the arms."""
    plain = arm_settings.load(["cross_entropy"])[0]
    numbers = range(FIRST_SEED, FIRST_SEED + seeds)
    first = [Trial(plain, seed, plan, printed) for printed in (False, True) for seed in numbers]
    results = run_all(first, workers, console, "gate")
    gate = Gate.of(results)
    console.print(*gate.lines, sep="\n")
    if not gate.passed:
        console.print("GATE FAILED: what follows is INVALID as a comparison of arms.", style="bold white on red")
    rest = [Trial(arm, seed, plan) for seed in numbers for arm in arms if arm.name != plain.name]
    return gate, results + run_all(rest, workers, console, "arms") if rest else results


def main() -> None:
    """Runs, prints and saves everything."""
    options, console = parse(), Console(width=None if sys.stdout.isatty() else 120)
    options.output.mkdir(parents=True, exist_ok=True)
    seeds, plan = (1, QUICK) if options.quick else (options.seeds, Plan())
    start = time.perf_counter()
    gate, results = run(options.arms, seeds, plan, options.workers, console)
    training_seconds = time.perf_counter() - start

    record = {
        "valid": gate.passed,
        "quick": options.quick,
        "gate": {**asdict(gate), "lines": gate.lines},
        "plan": asdict(plan),
        "seeds": seeds,
        "arms": [asdict(arm) for arm in options.arms],
        "chosen": arm_settings.chosen(),
        "results": [{k: v for k, v in result.items() if not k.endswith("_maps")} for result in results],
        "training_seconds": training_seconds,
        "workers": options.workers,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "saliency_losses": sl.__version__,
        },
    }
    (options.output / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    (options.output / "table.md").write_text(markdown(options.arms, results, gate, seeds))
    from .pictures import draw_all  # here, since every worker imports this module and none needs matplotlib

    draw_all(options.output, options.arms, results, gate, plan.test)
    print_tables(console, options.arms, results)
    if not gate.passed:
        console.print("INVALID: the gate failed, see above.", style="bold white on red")
    console.print(f"Training took {training_seconds:.0f} s. Results lie in {options.output}", soft_wrap=True)


if __name__ == "__main__":
    main()
