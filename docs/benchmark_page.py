"""The page of benchmarks from stored results: ``python -m docs.benchmark_page`` writes it and its plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.conditions import slug
from benchmarks.records import read_record, stored
from docs import benchmark_tables

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER.parent / "benchmarks" / "results"
IMAGES = "images/benchmarks"
START, END = "<!-- benchmark -->", "<!-- /benchmark -->"
TITLES = {"divergences": "Divergences", "step": "Training steps", "scaling": "How costs grow"}
BODIES = {
    "divergences": benchmark_tables.divergences,
    "step": benchmark_tables.steps,
    "scaling": benchmark_tables.scaling,
}
DEVICES = {"cuda": "On a GPU", "cpu": "On a CPU"}
INTRODUCTION = """# Benchmarks

Written from the files in `benchmarks/results` by `python -m docs.benchmark_page`. `python -m benchmarks` measures anew,
`python -m benchmarks --gpu` on a machine with a GPU; `benchmarks/README.md` says how.

Numbers are medians over rounds in which all variants of a row take turns; a ratio is the median of the rounds' ratios,
with quartiles behind it. Nothing is timed before its values and gradients have been compared with float64."""
WORDS = {
    "divergences": """*plain* is the shortest PyTorch formula of the same value, which survives no flat, empty or partly
unknown map; *eager* is this package without a kernel; *compile* is `torch.compile` of that; *triton* is the kernel, and
*triton in compile* `torch.compile` of that. *of copy* is what the least bytes that the pass must move (forward two
maps; backward two, and the gradient) come to per second, as a share of what a copy within the device's memory moves,
measured in the same run. *maps held* is the peak of memory beyond the inputs, in batches of maps. Where large batches
are worked on a few maps at a time, on the CPU, the forward pass has computed the gradient too.""",
    "step": """A training step as a multiple of the plain step of the same model. The *limit* is 1 + f, where f is the
share of the forward pass's operations above the layer: the least for a step that differentiates that part twice. *by
hand* is a hook and one `autograd.grad`; *coupled* is `batch_statistics="coupled"`. *saved* is what the graph keeps for
the backward pass, without parameters; *kernel saves* is the share of the step without a kernel (*no kernel*) that the
kernel saves. Nothing can be trained through rows marked *maps only*.""",
    "scaling": """The exponent p of a cost that grows like the p-th power, fitted to the logarithms in each round; *at
the end* between the two largest points. Fixed costs pull exponents of small points to zero.""",
}


def load(folder: Path = RESULTS) -> list[Any]:
    """The newest version's record of each suite and device."""
    newest: dict[tuple[str, str], Any] = {}
    for path in stored(folder):
        record = read_record(path)
        newest[record["suite"], record["device"]] = record
    return sorted(newest.values(), key=lambda record: (record["device_type"] != "cuda", record["device"]))


def page(records: Sequence[Any]) -> str:
    """The text of the page."""
    parts = [INTRODUCTION]
    for suite, title in TITLES.items():
        parts += [f"## {title}", WORDS[suite]]
        for kind, where in DEVICES.items():
            found = [one for one in records if (one["suite"], one["device_type"]) == (suite, kind)]
            for record in found:
                parts += [f"### {where}: {record['device']}", conditions(record), f"![]({picture(record)})"]
                parts += BODIES[suite](record)
                parts += left_out(record)
            if not found:
                parts += [f"### {where}", "Not measured yet."]
    return "\n\n".join(parts) + "\n"


def picture(record: Any) -> str:
    """Where the plot of a record lies, from the page."""
    return f"{IMAGES}/{record['suite']}--{slug(record['device'])}.png"


def conditions(record: Any) -> str:
    """With what a record was measured."""
    software = [f"torch {record['torch']}", f"Python {record['python']}"]
    if record["device_type"] == "cuda":
        software += [f"triton {record['triton']}", f"CUDA {record['cuda']}", f"driver {record['driver']}"]
    else:
        software.append(f"{record['threads']} thread(s)")
    commit = f"commit {record['commit'][:7]}{' with changes' if record['dirty'] else ''}" if record["commit"] else ""
    copied = f"a copy moves {record['copy']['bandwidth'] / 1e9:.0f} GB/s"
    rounds = f"{record['settings']['rounds']} rounds"
    return ", ".join(filter(None, [*software, rounds, copied, commit, record["date"][:10]])) + "."


def left_out(record: Any) -> list[str]:
    """What was not measured."""
    lines = [f"- {one['row']}: {one['reason']}" for one in record["left_out"]]
    return ["Left out:", "\n".join(lines)] if lines else []


def fill(readme: str, records: Sequence[Any]) -> str:
    """The text with the steps of the first network on a CPU between its two marks, where they were measured."""
    found = [one for one in records if (one["suite"], one["device_type"]) == ("step", "cpu")]
    if not found:
        return readme
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{benchmark_tables.steps(found[0])[1]}\n{END}{after}"


def main() -> None:
    """Write the page, its plots, and the table in the README."""
    from docs.benchmark_plots import draw

    records = load()
    (FOLDER / "benchmarks.md").write_text(page(records))
    readme = FOLDER.parent / "README.md"
    readme.write_text(fill(readme.read_text(), records))
    for record in records:
        path = FOLDER / picture(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(record, path)


if __name__ == "__main__":
    main()
