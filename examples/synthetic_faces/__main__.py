"""The study's commands: ``python -m examples.synthetic_faces``."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from . import arm as arms
from . import plan as plans
from . import settings, sources
from .claim import Busy
from .jobs import run_all
from .sources import RenderedSource, Source
from .study import Training, load_results
from .trial import Trial

PROGRAM = "python -m examples.synthetic_faces"
FIRST_SEED = 100
COMMANDS = "commands.txt"
OUTPUT = Path("runs/synthetic_faces")
SMALL = (
    "cross_entropy",
    "cross_entropy_7x",
    "cyborg",
    "cam_kl",
    "cam_correlation",
    "shuffled",
    "class_mean",
    "background_blurred",
)
DEMO = ("cross_entropy", "cyborg", "cam_kl", "cam_correlation", "grad_cam", "shuffled", "class_mean")
QUICK = ("images=128", "validation=20", "test=24", "epochs=1", "batch=32")
GATE = "cross_entropy"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Do human saliency maps make a network give up a shortcut? Trains arms of a study, measures what "
        "each network decides by, and reports. Without a command: demo.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="a small sweep on rendered faces, and its report")
    run = commands.add_parser("run", help="one training, which goes on where it was interrupted")
    sweep = commands.add_parser("sweep", help="arms x networks x seeds; skips what is finished")
    report = commands.add_parser("report", help="tables, pictures and a page of all finished trainings")
    for command in (demo, run, sweep, report):
        command.add_argument(
            "--output",
            type=Path,
            default=OUTPUT,
            help="the study's folder (default: %(default)s)",
        )
    for command in (demo, sweep):
        command.add_argument("--processes", type=_count, default=2, help="one thread each (default: %(default)s)")
        command.add_argument(
            "--seeds", type=_count, default=2 if command is demo else 10, help="(default: %(default)s)"
        )
        command.add_argument("--first-seed", type=int, default=FIRST_SEED, help="(default: %(default)s)")
    for command in (run, sweep):
        command.add_argument("--preset", default="small", help="of hyper-parameters (default: %(default)s)")
        command.add_argument("--plan", nargs="+", default=[], metavar="SETTING=VALUE", help="changes to the preset")
        sources.add_arguments(command)
    demo.add_argument("--quick", action="store_true", help="few faces, one seed: shows that it runs, nothing else")
    run.add_argument("--arm", required=True, help=ARM_HELP)
    run.add_argument("--seed", type=int, default=FIRST_SEED, help="(default: %(default)s)")
    sweep.add_argument("--arms", nargs="+", default=list(SMALL), metavar="ARM", help=ARM_HELP)
    sweep.add_argument("--networks", nargs="+", metavar="NETWORK", help="instead of the preset's")
    sweep.add_argument("--no-gate", action="store_true", help="do not train cross-entropy without fingerprint, too")
    sweep.add_argument("--list", action="store_true", help="print the commands, one a line, and run nothing")
    given = sys.argv[1:] if arguments is None else arguments
    commandless = not given or (given[0].startswith("-") and given[0] not in ("-h", "--help"))
    return parser.parse_args(["demo", *given] if commandless else given)


ARM_HELP = f"one of {', '.join(arms.names())}, or a YAML file, with changes, such as cyborg+alpha=0.1+divergence=kl"


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def planned(options: argparse.Namespace) -> list[Training]:
    """The trainings that a command asks for, gate first.

    Raises:
        ValueError: An arm, a preset, a setting or the data cannot be had.
    """
    plan = settings.changed(plans.load(options.preset), settings.parse(options.plan))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    chosen: list[arms.Arm] = []
    for arm in map(arms.load, options.arms):
        if any(arm.name == other.name and arm != other for other in chosen):
            raise ValueError(f"two arms are called {arm.name!r} and would share a folder: rename a file")
        chosen += [] if arm in chosen else [arm]
    trainings = []
    for network in options.networks or [plan.network]:
        own = replace(plan, network=network)
        source = sources.from_arguments(options, own)
        gate: list[Source] = []
        if isinstance(source, RenderedSource) and source.fingerprint == "outside" and not options.no_gate:
            gate = [RenderedSource(plan.images, plan.validation, plan.test, "none", source.drawn)]
        pairs = [(data, arms.load(GATE)) for data in gate] + [(source, arm) for arm in chosen]
        trainings += [Training(Trial(arm, own, seed), data, options.output) for seed in seeds for data, arm in pairs]
    return trainings


def run(options: argparse.Namespace, console: Console) -> int:
    """One training, in this process, or in those of ``torchrun``."""
    plan = settings.changed(plans.load(options.preset), settings.parse(options.plan))
    trial = Trial(arms.load(options.arm), plan, options.seed)
    training = Training(trial, sources.from_arguments(options, plan), options.output)
    if training.finished or training.run(lambda text: console.print(f"{training.title}: {text}", markup=False)):
        console.print(f"The result lies in {training.folder}", soft_wrap=True)
    return 0


def sweep(options: argparse.Namespace, console: Console) -> int:
    """All trainings that are not finished, in several processes."""
    trainings = planned(options)
    rest = [training for training in trainings if not training.finished]
    if getattr(options, "list", False):
        for training in rest:
            print(command_of(training, options))
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / COMMANDS).open("a", encoding="utf-8") as listed:
        print(PROGRAM, shlex.join(sys.argv[1:]), file=listed)
    console.print(f"{len(trainings) - len(rest)} of {len(trainings)} trainings are finished.")
    results = run_all(rest, options.processes, console, "trainings") if rest else []
    failed = [(t, e) for t, e in zip(rest, results, strict=True) if isinstance(e, BaseException)]
    busy = [training for training, error in failed if isinstance(error, Busy)]
    failed = [(training, error) for training, error in failed if training not in busy]
    for training in busy:
        console.print(f"Left to another process: {training.title}", markup=False)
    for training, error in failed:
        console.print(f"FAILED: {training.title}: {type(error).__name__}: {error}", style="bold red", markup=False)
    return int(bool(failed))


def command_of(training: Training, options: argparse.Namespace) -> str:
    """The command that does one training of a sweep."""
    trial, data = training.trial, training.source.describe()
    arm = next((spec for spec in options.arms if arms.load(spec).name == trial.arm.name), trial.arm.name)
    words = [*PROGRAM.split(), "run", "--arm", arm, "--seed", str(trial.seed), "--output", str(options.output)]
    words += ["--preset", options.preset, "--plan", *options.plan, f"network={trial.plan.network}"]
    words += sources.to_arguments(data)
    return shlex.join(words)


def report(options: argparse.Namespace, console: Console) -> int:
    """Tables, pictures and the page."""
    from .report import print_tables, write_report

    results = load_results(options.output)
    if not results:
        console.print(f"No finished training lies in {options.output}", style="bold red")
        return 1
    listed = options.output / COMMANDS
    commands = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    page = write_report(results, options.output, sources.from_description, list(dict.fromkeys(commands)))
    print_tables(console, results)
    console.print(f"The report: {page}", soft_wrap=True)
    return 0


def demo(options: argparse.Namespace, console: Console) -> int:
    """A small sweep, and its report."""
    given = argparse.Namespace(**vars(options), preset="small", plan=[], networks=None, arms=list(DEMO), no_gate=False)
    given.data, given.fingerprint, given.drawn = "rendered", "outside", "test"
    if options.quick:
        given.seeds, given.plan, given.arms = 1, list(QUICK), list(DEMO[:2])
        if options.output == OUTPUT:
            given.output = OUTPUT.with_name(f"{OUTPUT.name}_quick")
    return sweep(given, console) or report(given, console)


def main() -> int:
    """Runs the command."""
    options, console = parse(None), Console(width=None if sys.stdout.isatty() else 120)
    try:
        return {"demo": demo, "run": run, "sweep": sweep, "report": report}[options.command](options, console)
    except (OSError, ValueError, FloatingPointError, Busy) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; the same command goes on from each training's last epoch", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
