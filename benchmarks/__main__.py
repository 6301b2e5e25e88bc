"""Runs all suites: ``python -m benchmarks``, or a few small rows of each: ``python -m benchmarks --quick``.

Parity comes first; a suite whose parity fails is not timed, and the exit code says so. Tables are printed, and results
written to ``<output>/<version>/<suite>--<device>.json``, row by row, so that what was measured is there whatever comes
after; ``python -m docs.benchmark_page`` makes the page of the documentation from them. ``--gpu`` is what a machine with
a GPU is for: its tests first, then all suites in seven minutes.
"""

import argparse
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.conditions import ROOT, conditions, slug
from benchmarks.parity import ParityError, require
from benchmarks.records import check_record, write_record
from benchmarks.schema import SCHEMA, Record, SuiteName
from benchmarks.settings import Budget, Settings
from benchmarks.suites import SUITES
from benchmarks.timing import Timer
from benchmarks.traffic import measure_copy

_TESTS = 240.0  # seconds for the tests on the GPU
_COPY = {"cpu": 2**28, "cuda": 2**30}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few small rows of each suite")
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="a folder: benchmarks/results, or runs/benchmarks if quick")
    parser.add_argument("--rounds", type=int, help="in which all variants of a row take turns: 9, quick 5")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--minutes", type=float, help="after which no row is started; what is left out is said")
    parser.add_argument("--no-peers", action="store_true", help="time no other packages")
    parser.add_argument("--commit", help="of what is measured, where there is no repository to ask")
    parser.add_argument("--gpu", action="store_true", help="--device cuda --minutes 7, after the tests marked gpu")
    options = parser.parse_args(arguments)
    options.output = options.output or ROOT / ("runs/benchmarks" if options.quick else "benchmarks/results")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 where parity, a test or a suite failed; the other suites run all the same."""
    started = time.monotonic()
    options = parse(arguments)
    device = "cuda" if options.gpu else options.device
    if device == "cuda" and not torch.cuda.is_available():
        _say("There is no CUDA device: torch.cuda.is_available() is False. Use --device cpu.")
        return 1
    if options.gpu and not _tests_pass():
        _say("Nothing is timed, since tests on the GPU failed.")
        return 1
    torch.set_num_threads(options.threads)
    settings = Settings(
        device=device,
        quick=options.quick,
        rounds=options.rounds or (5 if options.quick else 9),
        threads=options.threads,
        peers=not options.no_peers,
        minutes=options.minutes or (7.0 if options.gpu else None),
    )
    timer, failed = settings.timer(), False
    end = started + 60 * settings.minutes if settings.minutes else float("inf")
    chosen = [name for name in SUITES if name in options.suite]
    for number, name in enumerate(chosen):
        rest = sum(SUITES[other].share for other in chosen[number:])
        now = time.monotonic()
        budget = Budget(deadline=now + (end - now) * SUITES[name].share / rest)
        try:
            run(name, settings, budget, timer, options.output, options.commit)
        except ParityError as error:
            _say(f"{name}: {error}")
            failed = True
        except Exception:
            _say(f"{name}: broken off; the file holds the rows before it.\n{traceback.format_exc()}")
            failed = True
    return int(failed)


def run(
    name: SuiteName, settings: Settings, budget: Budget, timer: Timer, output: Path, commit: str | None = None
) -> Path:
    """Parity, rows, table and file of one suite; no file where a row differs from its definition.

    Raises:
        ParityError: What would be timed differs from its definition.
    """
    suite = SUITES[name]
    torch.manual_seed(0)
    started = time.monotonic()
    where = conditions(settings.device)
    compared = suite.parity(settings, budget)
    require(compared)
    _say(f"{name}: {len(compared)} comparisons passed in {time.monotonic() - started:.0f} s")
    record: Record = {
        **where,
        "schema": SCHEMA,
        "suite": name,
        "commit": where["commit"] or commit,
        "settings": settings.as_dict(),
        "copy": measure_copy(settings.device, _COPY[settings.device], timer, settings.rounds),
        "parity": compared,
        "rows": [],
        "left_out": budget.left_out,
    }
    path = output / record["version"] / f"{name}--{slug(record['device'])}.json"
    try:
        for row in suite.measure(settings, budget, timer, record["copy"]):
            record["rows"].append(row)
            write_record(record, path)
            _say(f"{name}: {len(record['rows'])} rows in {time.monotonic() - started:.0f} s")
    except ParityError:
        path.unlink(missing_ok=True)
        raise
    check_record(record)
    write_record(record, path)
    print(f"\n{name} on {record['device']}, torch {record['torch']}, {time.monotonic() - started:.0f} s: {path}\n")
    print(suite.table(record["rows"]))
    for one in budget.left_out:
        print(f"left out: {one['row']}: {one['reason']}")
    sys.stdout.flush()
    return path


def _tests_pass() -> bool:
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    if not files:
        _say("No test is marked gpu.")
        return False
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *map(str, files)]
        return subprocess.run(command, cwd=ROOT, check=False, timeout=_TESTS).returncode == 0
    except subprocess.TimeoutExpired:
        _say(f"The tests took longer than {_TESTS} s.")
        return False


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
