"""Stored results as tables in Markdown."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks.timing import decisive

DIRECTIONS = {"both": "Forward and backward", "forward": "Forward alone", "backward": "Backward alone"}
VARIANTS = ("plain", "eager", "compile", "triton", "triton in compile")
SMALL = 14
WHERE = """*kernels* is the sum of what ran on the GPU, *host* what the host takes until it may go on, *wall* until
all is done; *replayed* as a CUDA graph."""


def divergences(record: Any) -> list[str]:
    """One table for each pass, what was lost, and where the time of small maps goes on a GPU."""
    parts = []
    own = ours(record)
    for direction, title in DIRECTIONS.items():
        rows = [row for row in record["rows"] if row["direction"] == direction]
        rows.sort(
            key=lambda row: (row["dtype"] != "float32", row["dtype"], -row["batch"] * row["size"] ** 2, row["size"])
        )
        if rows:
            parts += [f"**{title}.**", _compared(rows, own)]
    parts += ["**Where it loses.** " + _losses(record["rows"], own)]
    small = [row for row in record["rows"] if row["size"] <= SMALL and row["direction"] == "both"]
    if record["device_type"] == "cuda" and small:
        parts += ["**Small maps**, forward and backward: microseconds. " + WHERE, _small(small)]
    return [*parts, _accuracy(record)]


def ours(record: Any) -> str:
    """What this package chooses on the record's device."""
    return "triton" if record["device_type"] == "cuda" else "eager"


def _compared(rows: Sequence[Any], own: str) -> str:
    shown = [name for name in VARIANTS if any(name in row["variants"] for row in rows)]
    ratios = [key for key in (f"{own} / {name}" for name in VARIANTS) if any(key in row["ratios"] for row in rows)]
    counted = any(row["variants"][own]["launches"] is not None for row in rows if own in row["variants"])
    heading = ["divergence", "maps", *(f"{name} ms" for name in shown), *ratios, f"{own} of copy", f"{own} maps held"]
    return table([*heading, f"{own} launches"] if counted else heading, _lines(rows, own, shown, ratios, counted))


def _lines(
    rows: Iterable[Any], own: str, shown: Sequence[str], ratios: Sequence[str], counted: bool
) -> Iterator[list[str]]:
    for row in rows:
        variants = row["variants"]
        found = variants.get(own)
        line = [row["divergence"], shape(row)]
        line += [milliseconds(decisive(variants[name]["times"])) if name in variants else "" for name in shown]
        line += [with_quartiles(row["ratios"][key]) if key in row["ratios"] else "" for key in ratios]
        line += [f"{found['copy_share']:.1%}", f"{found['peak_maps']:.1f}"] if found else ["", ""]
        yield [*line, str(found["launches"]) if found else ""] if counted else line


def shape(row: Any) -> str:
    """The maps of a row; float32 is not said."""
    other = f" against {row['human_size']} x {row['human_size']}" if row["human_size"] != row["size"] else ""
    dtype = f" {row['dtype']}" if row["dtype"] != "float32" else ""
    return f"{row['batch']} x {row['size']} x {row['size']}{other}{dtype}"


def _losses(rows: Iterable[Any], own: str) -> str:
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for key, ratio in row["ratios"].items():
            if key in {f"{own} / {other}" for other in VARIANTS} and ratio["low"] > 1.0:
                where = f"{key}, {DIRECTIONS[row['direction']].lower()}, {shape(row)}"
                found[where].append(f"{row['divergence']} {ratio['median']:.2f}")
    if not found:
        return "Nowhere: no ratio has its lower quartile above 1."
    return "Ratios whose lower quartile is above 1:\n\n" + "\n".join(
        f"- {key}: {', '.join(found[key])}" for key in found
    )


def _small(rows: Iterable[Any]) -> str:
    heading = ["divergence", "maps", "variant", "launches", "kernels", "host", "wall", "replayed", "replayed wall"]
    return table(heading, (line for row in rows for line in _times(row)))


def _times(row: Any) -> Iterator[list[str]]:
    for name, variant in row["variants"].items():
        times, graph = variant["times"], variant["graph"]
        seconds = [variant["kernel_seconds"], times["host"]["median"], times["wall"]["median"]]
        seconds += [graph["device"]["median"], graph["wall"]["median"]] if graph else [None, None]
        cells = ["" if value is None else f"{1e6 * value:.1f}" for value in seconds]
        yield [row["divergence"], shape(row), name, str(variant["launches"]), *cells]


def _accuracy(record: Any) -> str:
    worst: dict[tuple[str, str], float] = defaultdict(float)
    for row in record["rows"]:
        for name, variant in row["variants"].items():
            error = max(variant["errors"]["value"], variant["errors"]["gradient"])
            worst[row["dtype"], name] = max(worst[row["dtype"], name], error)
    dtypes = sorted({dtype for dtype, _ in worst}, key=("float32", "bfloat16", "float16").index)
    shown = [name for name in VARIANTS if any((dtype, name) in worst for dtype in dtypes)]
    cells = [[f"{worst[dtype, name]:.0e}" if (dtype, name) in worst else "" for name in shown] for dtype in dtypes]
    lines = [[dtype, *line] for dtype, line in zip(dtypes, cells, strict=True)]
    return "**Largest error** against float64, of values and gradients, as a share of the largest:\n\n" + table(
        ["dtype", *shown], lines
    )


def steps(record: Any) -> list[str]:
    """One table for each network."""
    parts = []
    kernels = any(row["kernel_share"] for row in record["rows"])
    heading = ["step", "x plain", "limit", "ms", "saved MiB"]
    for key in dict.fromkeys((row["model"], row["batch"], row["pixels"]) for row in record["rows"]):
        rows = [row for row in record["rows"] if (row["model"], row["batch"], row["pixels"]) == key]
        model, batch, pixels = key
        parts += [
            f"{model}, {batch} images of {pixels} x {pixels}:",
            table([*heading, "kernel saves"] if kernels else heading, (_step(row, kernels) for row in rows)),
        ]
    return parts


def _step(row: Any, kernels: bool) -> list[str]:
    limit, share = row["limit"], row["kernel_share"]
    line = [row["name"], with_quartiles(row["ratio"]), "" if limit is None else f"{limit:.2f}"]
    line += [milliseconds(decisive(row["times"])), f"{row['saved_bytes'] / 2**20:.1f}"]
    return [*line, f"{share['median']:.1%}" if share else ""] if kernels else line


def scaling(record: Any) -> list[str]:
    """One table."""
    heading = ["grows", "of", "variant", "from", "to", "ms", "exponent", "at the end"]
    return [table(heading, map(_growth, record["rows"]))]


def _growth(row: Any) -> list[str]:
    points, seconds = row["points"], row["seconds"]
    line = [row["axis"], row["case"], row["variant"], str(points[0]), str(points[-1])]
    line.append(f"{milliseconds(seconds[0])} to {milliseconds(seconds[-1])}")
    return [*line, with_quartiles(row["exponent"]), f"{row['last_exponent']['median']:.2f}"]


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the first column is text, the others are numbers."""
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def milliseconds(spread: Any) -> str:
    """A median, with three digits."""
    value = 1e3 * float(spread["median"])
    return next(f"{value:.{digits}f}" for digits, end in ((3, 1), (2, 10), (1, 100), (0, float("inf"))) if value < end)


def with_quartiles(spread: Any) -> str:
    """A median and its quartiles."""
    return f"{spread['median']:.2f} ({spread['low']:.2f}-{spread['high']:.2f})"
