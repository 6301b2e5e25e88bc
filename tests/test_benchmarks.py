"""Benchmarks refuse what is wrong, leave nothing out silently, and the page says what the result files say."""

import copy
import doctest
import importlib
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import divergences, scaling, traffic
from benchmarks.grid import Case
from benchmarks.parity import ParityError, allowed, require
from benchmarks.records import check_record, read_record, stored, within
from benchmarks.scaling import exponent
from benchmarks.settings import Budget, Settings
from benchmarks.suites import SUITES, Suite
from benchmarks.timing import CPUTimer, Sample, Work, interleave, ratio, spread, times
from benchmarks.variants import draw, fusable, make
from docs import benchmark_page
from docs.benchmark_plots import draw as plot
from saliency_losses.kernels.plan import KINDS

ROOT = Path(__file__).parents[1]
SMALL = [
    Case("mse", 4, 7, directions=("both", "forward")),
    Case("kl", 4, 9),
    Case("mse, enlarge", 3, 5, "float32", ("both",), ("eager",), 10),
]


@pytest.fixture
def quick(monkeypatch):
    """Three small rows, and no process for the interpreter."""
    monkeypatch.setattr(divergences, "cases", lambda settings: SMALL)
    monkeypatch.setattr(divergences, "in_interpreter", lambda sizes, dtypes: [])
    monkeypatch.setattr(command, "_COPY", {"cpu": 2**20})


@pytest.fixture
def record(quick, tmp_path):
    """What a small run of the divergences wrote."""
    assert command.main(["--suite", "divergences", "--device", "cpu", "--rounds", "3", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/divergences--*.json")
    return read_record(path)


def test_stored_results_pass_the_schema():
    for path in stored(ROOT / "benchmarks" / "results"):
        assert not read_record(path)["settings"]["quick"], path


def test_a_run_writes_what_it_measured(record):
    assert [row["direction"] for row in record["rows"]] == ["both", "forward", "both", "both"]
    assert record["rows"][0]["ratios"].keys() == {"eager / plain"}
    assert record["rows"][3]["least_bytes"] == 4 * 3 * (3 * 25 + 2 * 100)
    assert record["settings"]["rounds"] == 3
    assert record["left_out"] == []


BROKEN = {
    "schema: expected 1": lambda record: record.update(schema=0),
    r"record: expected the keys": lambda record: record.pop("torch"),
    "threads: expected int": lambda record: record.update(threads=1.5),
    "suite: expected one of": lambda record: record.update(suite="speed"),
    r"rows\[0\].least_bytes: expected int": lambda record: record["rows"][0].update(least_bytes="many"),
    r"rows\[0\]: expected the keys": lambda record: record["rows"][0].update(speed=3),
    "expected low <= median <= high": lambda record: record["copy"]["seconds"].update(low=1e9),
    "expected a finite number": lambda record: record["copy"].update(bandwidth=math.inf),
    "nothing was measured": lambda record: record.update(rows=[]),
    "a comparison failed": lambda record: record["parity"].append(failing()),
}


def failing():
    """A comparison that failed."""
    wrong = {"value": 0.5, "gradient": 0.0}
    right = {"value": 1e-7, "gradient": 1e-7}
    return {"case": "kl 3 x 7 x 7", "errors": wrong, "eager": right, "allowed": allowed(right, "float32")}


def test_a_broken_file_is_refused(record, tmp_path):
    for message, spoil in BROKEN.items():
        other = copy.deepcopy(record)
        spoil(other)
        with pytest.raises(ValueError, match=message):
            check_record(other)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(record).replace(": 1,", ": NaN,"))
    with pytest.raises(ValueError, match="NaN is not JSON"):
        read_record(path)


def test_a_suite_whose_parity_fails_is_not_timed(monkeypatch, tmp_path, capsys):
    def measure(*arguments):
        raise AssertionError("timed")

    suite = Suite(lambda settings, budget: [failing()], measure, scaling.table, 1.0)
    monkeypatch.setitem(SUITES, "scaling", suite)
    assert command.main(["--suite", "scaling", "--device", "cpu", "--output", str(tmp_path)]) == 1
    assert "Nothing is timed, since these differ:\n  kl 3 x 7 x 7" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_a_suite_that_breaks_off_keeps_its_rows_and_does_not_stop_the_others(quick, monkeypatch, tmp_path, capsys):
    whole = divergences.measure

    def measure(*arguments):
        yield next(whole(*arguments))
        raise OSError("no space")

    monkeypatch.setitem(SUITES, "divergences", SUITES["divergences"]._replace(measure=measure))
    monkeypatch.setitem(SUITES, "scaling", Suite(lambda *_: [failing()], measure, scaling.table, 1.0))
    both = ["--suite", "divergences", "scaling", "--device", "cpu", "--rounds", "2", "--output", str(tmp_path)]
    assert command.main(both) == 1
    said = capsys.readouterr().err
    assert "broken off; the file holds the rows before it" in said
    assert "OSError: no space" in said
    assert "scaling: Nothing is timed" in said
    assert [len(read_record(path)["rows"]) for path in tmp_path.rglob("*.json")] == [1]


def test_a_row_that_differs_leaves_no_file(quick, monkeypatch, tmp_path, capsys):
    wrong = {"kl": lambda model, human: (model - human).flatten(1).sum(1)}
    true = make
    monkeypatch.setattr(
        divergences,
        "make",
        lambda name, variant: wrong[name] if (name, variant) == ("kl", "plain") else true(name, variant),
    )
    assert command.main(["--suite", "divergences", "--device", "cpu", "--rounds", "2", "--output", str(tmp_path)]) == 1
    assert "kl 4 x 9 x 9 float32: plain: {'value': " in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_parity_allows_rounding_and_twice_eagers_error():
    eager = {"value": 1e-4, "gradient": 1e-7}
    single, half = (allowed(eager, dtype) for dtype in ("float32", "bfloat16"))
    assert single == {"value": 2e-4, "gradient": 1e-5}
    assert half == {"value": 2e-4, "gradient": 2**-6}
    assert within(single, single)
    assert not within({"value": 2.1e-4, "gradient": 0.0}, single)
    assert not within({"value": 0.0, "gradient": 1.1e-5}, single)
    assert not within({"value": math.nan, "gradient": 0.0}, single)
    with pytest.raises(ParityError, match="kl 3 x 7 x 7"):
        require([failing()])


def test_what_may_have_a_kernel_is_found_by_its_option():
    assert set(fusable()) == set(KINDS)


def test_least_bytes():
    model, human, _ = draw(2, 7, torch.bfloat16, "cpu", human_size=14)
    sizes = [traffic.least_bytes(model, human.float(), direction) for direction in ("forward", "backward", "both")]
    assert sizes == [2 * (49 * 2 + 196 * 4), 2 * (2 * 49 * 2 + 196 * 4), 2 * (3 * 49 * 2 + 2 * 196 * 4)]


def test_peak_memory_is_counted_in_batches_of_maps():
    model = torch.ones(64, 1024, requires_grad=True)
    held = traffic.peak_maps(Work(lambda state: (model.detach() * 2.0, model.detach() * 3.0)), model)
    assert held == pytest.approx(2.0, abs=0.01)


def test_exponents_of_known_growth():
    assert exponent([8, 16, 64], [5.0 * size**1.5 for size in (8, 16, 64)]) == pytest.approx(1.5)
    assert exponent([1, 10, 100], [2.0, 2.0, 2.0]) == pytest.approx(0.0, abs=1e-12)


def test_variants_take_turns_in_alternating_order():
    order = []
    works = {name: Work(lambda _, name=name: (order.append(name), time.sleep(6e-3))) for name in "ab"}
    samples = interleave(works, CPUTimer(), rounds=3)
    assert "".join(order) == "aaabbb" + "ba" + "ab" + "ba"
    assert [len(column) for column in samples.values()] == [3, 3]
    assert all(sample.wall >= 6e-3 for sample in samples["a"])


def test_ratios_are_formed_round_by_round_on_the_device():
    ours, theirs = (
        [Sample(wall, 0.1, device) for wall, device in pairs] for pairs in ([(3, 1), (6, 4)], [(3, 2), (2, 8)])
    )
    assert ratio(ours, theirs) == {"low": 0.5, "median": 0.5, "high": 0.5}
    assert ratio(ours, theirs, by="wall") == {"low": 1.5, "median": 2.0, "high": 2.5}
    assert times(ours)["device"] == {"low": 1.75, "median": 2.5, "high": 3.25}
    with pytest.raises(ValueError, match="at least two rounds, got 1"):
        spread([1.0])


def test_what_there_is_no_time_for_is_said(quick, capsys, tmp_path):
    late = ["--suite", "divergences", "--device", "cpu", "--minutes", "1e-9", "--output", str(tmp_path)]
    assert command.main(late) == 0
    (path,) = tmp_path.rglob("*.json")
    assert [one["row"] for one in read_record(path)["left_out"]] == list(map(str, SMALL))
    assert "left out: kl 4 x 9 x 9 float32: the time was up" in capsys.readouterr().out


def test_what_cannot_run_is_left_out_with_its_reason():
    budget = Budget()
    with budget.leaving_out("mse", RuntimeError):
        raise RuntimeError("no compiler\nand more")
    assert budget.left_out == [{"row": "mse", "reason": "RuntimeError: no compiler"}]
    with pytest.raises(TypeError), budget.leaving_out("mse", RuntimeError):
        raise TypeError


def test_quick_results_do_not_replace_stored_ones():
    assert command.parse(["--quick"]).output == ROOT / "runs" / "benchmarks"
    assert command.parse([]).output == ROOT / "benchmarks" / "results"
    assert command.parse(["--quick", "--suite", "step", "scaling"]).suite == ["step", "scaling"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_suites_are_refused(capsys):
    assert command.main(["--gpu"]) == 1
    assert "There is no CUDA device" in capsys.readouterr().err


def as_of_a_gpu(record):
    """What the record of a GPU would look like: with a kernel, times on the device, graphs and launches."""
    record = {**copy.deepcopy(record), "device_type": "cuda", "device": "GPU 9000", "driver": "1.2", "cuda": "13.0"}
    for row in record["rows"]:
        row["variants"]["triton"] = copy.deepcopy(row["variants"]["eager"])
        row["ratios"]["triton / eager"] = {"low": 1.25, "median": 1.5, "high": 1.75}
        for variant in row["variants"].values():
            wall = variant["times"]["wall"]
            variant.update(times={"wall": wall, "host": wall, "device": wall}, launches=3, kernel_seconds=1e-5)
            variant["graph"] = variant["times"] if row["direction"] == "both" else None
    check_record(record)
    return record


def test_the_page_tells_what_was_measured_and_what_was_not(record, tmp_path):
    text = benchmark_page.page([record])
    assert text.count("Not measured yet.") == 5
    assert f"### On a CPU: {record['device']}\n" in text
    assert "| mse | 4 x 7 x 7 |" in text
    assert "| mse, enlarge | 3 x 5 x 5 against 10 x 10 |" in text
    record["left_out"].append({"row": "js", "reason": "the time was up"})
    gpu = as_of_a_gpu(record)
    text = benchmark_page.page([gpu, record])
    assert text.count("Not measured yet.") == 4
    assert "- js: the time was up" in text
    assert "- triton / eager, forward alone, 4 x 7 x 7: mse 1.50" in text
    assert "| mse | 4 x 7 x 7 | triton | 3 | 10.0 |" in text
    for number, one in enumerate((record, gpu)):
        plot(one, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 10_000


def test_the_newest_version_counts(record, tmp_path):
    for version in ("0.9.0", "0.10.0"):
        folder = tmp_path / "stored" / version
        folder.mkdir(parents=True)
        (folder / "divergences--cpu.json").write_text(json.dumps({**record, "version": version}))
        (folder / "kernels--sm_90.json").write_text("{}")
    assert [one["version"] for one in benchmark_page.load(tmp_path / "stored")] == ["0.10.0"]


def test_the_stored_page_is_the_stored_results():
    records = benchmark_page.load()
    remedy = "run: python -m docs.benchmark_page"
    assert (ROOT / "docs" / "benchmarks.md").read_text() == benchmark_page.page(records), remedy
    readme = (ROOT / "README.md").read_text()
    assert readme == benchmark_page.fill(readme, records), remedy
    assert all((ROOT / "docs" / benchmark_page.picture(record)).exists() for record in records), remedy


@pytest.mark.parametrize("module", ["conditions", "scaling", "traffic"])
def test_examples_in_docstrings(module):
    result = doctest.testmod(importlib.import_module(f"benchmarks.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.slow
def test_quick_suites_run_in_minutes(tmp_path):
    started = time.monotonic()
    run = [sys.executable, "-m", "benchmarks", "--quick", "--device", "cpu", "--output", tmp_path]
    result = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - started < 300
    records = [read_record(path) for path in tmp_path.rglob("*.json")]
    assert {record["suite"] for record in records} == set(SUITES)
    assert all(record["settings"] == Settings(quick=True, rounds=5).as_dict() for record in records)
    assert any("interpreter" in row["case"] for record in records for row in record["parity"])
    text = benchmark_page.page(records)
    assert text.count("Not measured yet.") == 3
