"""The report of a study: what it says, what it refuses to compare, and that nothing in it can do harm."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score
from study_results import GENERATORS, TWELVE, FakeSource, result, results

from examples.synthetic_faces.report import print_tables, statistics, write_report
from examples.synthetic_faces.report.comparison import arrange
from examples.synthetic_faces.report.gate import Gate
from examples.synthetic_faces.report.relations import spaced
from examples.synthetic_faces.report.statistics import Resampled, Resampling, auc, estimate, resampled_auc
from examples.synthetic_faces.report.table import Cell, Table
from examples.synthetic_faces.report.tables import Estimates, generalisation

RNG = np.random.default_rng(0)
FEW = ("cross_entropy", "cam_correlation", "shuffled")


# Statistics


@pytest.mark.parametrize("levels", [3, 1000])
def test_auc_equals_scikit_learn(levels):
    real, fake = RNG.integers(0, levels, 40) / levels, RNG.integers(0, levels, 31) / levels + 0.1
    expected = roc_auc_score([0] * 40 + [1] * 31, [*real, *fake])
    assert auc(real, fake) == pytest.approx(expected, abs=1e-12)


def test_resampled_auc_is_the_auc_of_the_drawn_images():
    real, fake = RNG.integers(0, 9, 12), RNG.integers(2, 11, 7)
    drawn = [RNG.integers(0, len(one), (len(one), 5)) for one in (real, fake)]
    times = [np.stack([np.bincount(d[:, b], minlength=len(d)) for b in range(5)], 1).astype(np.float32) for d in drawn]
    found = resampled_auc(real, fake, *times)
    for b in range(5):
        assert found[b] == pytest.approx(auc(real[drawn[0][:, b]], fake[drawn[1][:, b]]))


def simulated(seeds, generators, images, gain, spread, random):
    """Scores of two arms by seed; the gain differs between seeds and generators, images are hard for both arms."""
    hard = {
        name: random.standard_normal(images) for name in ("authentic/a", *(f"unseen/{g}" for g in range(generators)))
    }
    extra = gain + spread * random.standard_normal(generators)
    arms = []
    for of_arm in (np.zeros(generators), extra):
        by_seed = {}
        for seed in range(seeds):
            own = spread * random.standard_normal()
            by_seed[seed] = {
                name: values + 0.5 * random.standard_normal(images)
                + (0.0 if name.startswith("authentic") else 0.5 + own + of_arm[int(name.split("/")[1])])
                for name, values in hard.items()
            }  # fmt: skip
        arms.append(by_seed)
    return arms


def test_interval_holds_what_seeds_generators_and_images_each_add(monkeypatch):
    monkeypatch.setattr(statistics, "tail", lambda drawn: 0.025)
    plain, better = simulated(4, 3, 40, 0.5, 0.3, np.random.default_rng(3))
    draws = Resampling.draw(plain[0], 400)
    whole = Resampled(draws, better).minus(Resampled(draws, plain))
    low, high = whole.interval
    assert low < whole.value < high
    by_hand = np.mean([
        auc(s["authentic/a"], s[f"unseen/{g}"]) * sign
        for arm, sign in ((better, 1), (plain, -1)) for s in arm.values() for g in range(3)
    ])  # fmt: skip
    assert whole.value == pytest.approx(2 * by_hand)
    for part in ("authentic", "fakes", "generators"):
        counts = getattr(draws, part)
        fixed = {g: np.ones_like(c) for g, c in counts.items()} if isinstance(counts, dict) else np.ones_like(counts)
        still = replace(draws, **{part: fixed})
        narrow = np.subtract(*Resampled(still, better).minus(Resampled(still, plain)).interval[::-1])
        assert narrow < high - low
    still = replace(draws, generators=np.ones_like(draws.generators))
    differing = {seed: np.full((3, 400), float(seed)) for seed in range(4)}
    low, high = estimate(differing, dict.fromkeys(range(4), 0.0), still).interval
    assert (low, high) == (0.5, 2.5)
    assert estimate({0: differing[1], 1: differing[1]}, {0: 1.0, 1: 1.0}, still).interval == (1.0, 1.0)


def test_an_arm_against_itself_differs_by_nothing():
    plain, _ = simulated(3, 2, 20, 0.0, 0.2, np.random.default_rng(1))
    draws = Resampling.draw(plain[0], 50)
    arm = Resampled(draws, plain)
    assert arm.minus(arm).interval == (0.0, 0.0)


def test_pairs_are_by_seed_and_of_the_same_images():
    plain, better = simulated(3, 2, 20, 1.0, 0.2, np.random.default_rng(1))
    draws = Resampling.draw(plain[0], 50)
    fewer = Resampled(draws, {2: better[2], 7: better[0]})
    assert fewer.minus(Resampled(draws, plain)).seeds == (2,)
    assert fewer.minus(Resampled(draws, plain)).interval is None
    assert Resampled(draws, {5: better[0]}).minus(Resampled(draws, plain)) is None
    other_images = {0: {group: scores[:-1] for group, scores in better[0].items()}}
    assert Resampled(draws, other_images).mean() is None


@pytest.mark.slow
def test_coverage():
    normal = NormalDist().cdf
    truth = normal(0.9 / np.sqrt(2.5 + 2 * 0.09)) - normal(0.5 / np.sqrt(2.5 + 0.09))
    covered, trials = 0, 150
    for trial in range(trials):
        plain, better = simulated(10, 6, 60, 0.4, 0.3, np.random.default_rng(trial))
        draws = Resampling.draw(plain[0], 1000)
        low, high = Resampled(draws, better).minus(Resampled(draws, plain)).interval
        covered += low <= truth <= high
    assert covered / trials >= 0.9


# What is compared


def test_gate():
    def gate(without, printed):
        return Gate(without, printed)

    assert gate(0.95, 0.6).state == "passed"
    assert gate(0.89, 0.6).state == gate(0.95, 0.76).state == gate(0.89, None).state == "failed"
    assert gate(None, 0.9).state == gate(0.95, None).state == "not run"
    assert "FAILED" in " ".join(gate(0.95, 0.8).lines)
    assert gate(0.95, 0.8).verdict.startswith("INVALID")
    assert "no planted shortcut" in Gate(None, 0.6, planted=False).verdict
    (comparison,) = arrange(results(FEW, seeds=(1, 2)))
    assert Gate.of(comparison).state == "passed"
    assert Gate.of(comparison).with_fingerprint == pytest.approx(comparison.baseline.mean("auc_unseen"))


def test_networks_and_data_are_not_mixed():
    mixed = results(FEW, (1,)) + results(FEW, (1,), network="resnet50")
    mixed += results(FEW, (1,), gate=False, fingerprint="overlap")
    found = arrange(mixed)
    assert [c.label for c in found] == ["small, fingerprint outside", "resnet50, fingerprint outside",
                                        "small, fingerprint overlap"]  # fmt: skip
    assert all(len(c.rows) == 3 and all(len(row.by_seed) == 1 for row in c.rows) for c in found)
    assert [c.unspoilt is not None for c in found] == [True, True, True]
    assert {r.network for row in found[1].rows for r in row.by_seed.values()} == {"resnet50"}


def test_problems_are_named():
    some = [*results(FEW[:2], (1, 2)), result("shuffled", 2), result("shuffled", 2), result("cam_kl", 1, maps=False)]
    some[-1].metrics.pop("flip_rate_fingerprint")
    some[-1].settings["plan"]["epochs"] = 20
    (comparison,) = arrange(some)
    text = "\n".join(comparison.problems)
    alike = "epochs is 8 in CAM, correlation, control: shuffled maps, cross-entropy; 20 in CAM, KL"
    said = ("control: shuffled maps: seed 1 is missing", "seed 2 is there more than once", "CAM, KL: no maps", alike)
    for part in (*said, "CAM, KL: no paired renders"):
        assert part in text
    (without,) = arrange(results(FEW[1:], (1,)))
    assert "nothing to take differences against" in " ".join(without.problems)


def test_arms_of_one_title_are_told_apart():
    shares = [result("cam_kl", 1, changes={"annotated": share}) for share in (1.0, 0.05)]
    (comparison,) = arrange(shares)
    assert {row.title for row in comparison.rows} == {"CAM, KL (annotated 1.0)", "CAM, KL (annotated 0.05)"}


# Tables


def test_table_in_every_form():
    table = Table(
        "a|b", ("arm", "auc"), {"<i>": [(Cell("=cmd()"), Cell("0.5 ± 0.1", {"mean": 0.5, "sd": 0.1}))]}, "n<o>te"
    )
    assert "| =cmd() | 0.5 ± 0.1 |" in table.markdown()
    assert "&lt;i\\>" in table.markdown()
    assert list(csv.reader(io.StringIO(table.csv()))) == [
        ["group", "arm", "auc, mean", "auc, sd"], ["<i>", "'=cmd()", "0.5", "0.1"],
    ]  # fmt: skip
    assert table.records() == [{"group": "<i>", "arm": "=cmd()", "auc": {"mean": 0.5, "sd": 0.1}}]
    assert "<i>" not in table.html()
    assert "n&lt;o&gt;te" in table.html()
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table.rich(console.width))
    assert "0.5 ± 0.1" in console.export_text()


def test_generalisation_agrees_with_the_metrics():
    (comparison,) = arrange(results(FEW, (1, 2, 3)))
    estimates = Estimates.of(comparison)
    table = generalisation(comparison, estimates)
    assert table.headings[:3] == ("arm", "mean", "difference from cross-entropy")
    assert set(table.headings[3:]) == set(GENERATORS)
    best = comparison.best_guided
    found = estimates.gains[best.title]
    assert found.value == pytest.approx(best.mean("auc_unseen") - comparison.baseline.mean("auc_unseen"), abs=1e-6)
    assert "few: claims need 10" in table.note
    (single,) = arrange(results(FEW, (1,)))
    assert "One seed: no interval" in generalisation(single, Estimates.of(single)).note


def test_labels_do_not_overlap():
    places = spaced([0.1, 0.1, 0.11, 0.98, 1.0], 0.1, 0.0, 1.0)
    assert np.diff(places).min() > 0.0999
    assert min(places) >= 0.0
    assert max(places) <= 1.0


# The page


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    hostile = result("cam_kl", 100)
    hostile = replace(hostile, arm="evil", title="<script>alert(1)</script>$x_{$ \"'&")
    hostile.settings["arm"]["maps"] = "</pre><img src=x onerror=alert(2)>"
    folder = tmp_path_factory.mktemp("report")
    shares = [result("cam_correlation", seed, changes={"annotated": 0.05}) for seed in (100,)]
    trained = [*results(FEW, (100, 101)), *shares, hostile]
    return write_report(trained, folder, lambda data: FakeSource(), ["python -m <b>study</b>"])


def test_page_is_whole_and_escapes(whole):
    text = whole.read_text()
    names = {path.name for path in whole.parent.iterdir()}
    pictures = {
        "auc.png",
        "pairs.png",
        "alignment.png",
        "annotation.png",
        "average_maps.png",
        "epochs.png",
        "gallery.png",
    }
    assert pictures | {"table.md", "results.csv", "results.json", "table_1.csv"} <= names
    assert text.count("<img") >= 6
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "<b>study" not in text
    assert not re.search(r'(src|href)="(?!data:)[^"]*[:/]', text)
    assert "&lt;script&gt;" in text
    for part in ("Gate passed", "the shortcut is planted", "Hits: ", "Misses: ", "95 % interval", "torch"):
        assert part in text
    assert all(name in names for name in re.findall(r'href="([^"]+)"', text) if not name.startswith("data:"))
    record = json.loads((whole.parent / "results.json").read_text())
    assert record["comparisons"][0]["gate"]["state"] == "passed"
    assert len(record["trainings"]) == 10
    assert len((whole.parent / "results.csv").read_text().splitlines()) == 11


def test_failed_gate_marks_everything(tmp_path):
    bad = [replace(r, metrics={"auc_unseen": 0.7}, maps={}, epochs=[]) for r in results(FEW[:2], (1,))]
    page = write_report(bad, tmp_path).read_text()
    assert '<div class="stamp">INVALID' in page
    assert '<div class="invalid">' in page
    assert "**INVALID" in (tmp_path / "table.md").read_text()
    console = Console(width=120, file=io.StringIO(), record=True)
    print_tables(console, bad)
    assert "INVALID" in console.export_text()


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        ([], "No finished training"),
        ([replace(result("cam_kl", 1), maps={}, epochs=[])], "nothing to take differences against"),
        ([replace(result("cross_entropy", 1), scores={}, maps={}, metrics={}, epochs=[])], "Gate not run"),
        ([replace(result("cross_entropy", 1), settings={}, metrics={})], "No gate"),
        ([result("cross_entropy", 1, fingerprint="none")], "No finished training"),
    ],
)
def test_incomplete_studies_give_a_page(trained, said, tmp_path):
    assert said in write_report(trained, tmp_path, lambda data: FakeSource()).read_text()


@pytest.mark.slow
def test_twelve_arms_and_chromium(tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium to open the page with")
    page = write_report(results(TWELVE), tmp_path, lambda data: FakeSource())
    check = (
        "<script>addEventListener('load', () => { const images = [...document.images];"
        "document.title = images.length + ' images, ' + images.filter(i => !i.naturalWidth).length + ' broken, ' +"
        "(document.documentElement.scrollWidth - innerWidth) + ' over'; })</script>"
    )
    copy = tmp_path / "checked.html"
    copy.write_text(page.read_text() + check)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
               f"--user-data-dir={tmp_path / 'profile'}", copy.as_uri()]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    images, broken = re.search(r"<title>(\d+) images, (\d+) broken", shown.stdout).groups()
    assert int(images) >= 20
    assert int(broken) == 0
    assert "CONSOLE" not in shown.stderr
