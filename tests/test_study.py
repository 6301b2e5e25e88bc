"""The study: arms and their settings, measures on scores made by hand, and the commands."""

import json
import multiprocessing
import re
import shlex
import time

import numpy as np
import pytest
import torch

import saliency_losses as sl
from examples.synthetic_faces import __main__ as commands
from examples.synthetic_faces import arm as arms
from examples.synthetic_faces import jobs, settings
from examples.synthetic_faces import plan as plans
from examples.synthetic_faces.claim import Busy, claimed
from examples.synthetic_faces.evaluate import align, measure
from examples.synthetic_faces.results import Result
from examples.synthetic_faces.study import load_results

TINY = ["--plan", "images=32", "validation=12", "test=12", "epochs=1", "batch=16"]


def main(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["study", *map(str, arguments)])
    return commands.main()


@pytest.mark.parametrize("name", arms.names())
def test_every_arm_has_a_title_and_builds(name):
    arm = arms.load(name)
    assert arm.title != name
    guided = arm.guide(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)))
    assert isinstance(guided, sl.SaliencyGuidedLoss)
    assert arm.control == (arm.maps in ("shuffled", "class_mean", "displaced", "uniform", "face"))


def test_an_arm_is_changed_on_the_command_line():
    arm = arms.load("cyborg+saliency_weight=3+divergence=kl+annotated=0.05")
    assert (arm.alpha, arm.saliency_weight, arm.divergence, arm.annotated) == (None, 3, "kl", 0.05)
    assert arm.name == "cyborg+saliency_weight=3+divergence=kl+annotated=0.05"
    assert "annotated 0.05" in arm.title
    assert arms.load("cyborg+divergence_options={sizing: 'max'}").name == "cyborg+divergence_options=-sizing-max"
    scheduled = arms.load("cyborg+unguided_epochs=2").guide(torch.nn.Linear(2, 2))
    assert scheduled.weighting.schedule == sl.weighting.OffUntil(2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cyborgg", "unknown arm 'cyborgg'; did you mean 'cyborg'?"),
        ("nowhere.yaml", "unknown arm 'nowhere.yaml'"),
        ("cyborg+alpah=1", "arm has no setting 'alpah'; did you mean 'alpha'?"),
        ("cyborg+alpha", "'alpha' is not of the form setting=value"),
        ("cyborg+alpha=high", "arm has alpha='high', expected float or nothing"),
        ("cyborg+alpha={", "the value of 'alpha={' cannot be read as YAML"),
        ("cyborg+maps=mine", "has maps='mine'; choose from own, shuffled"),
        ("cyborg+annotated=5", "has annotated=5; it is a share, from 0 to 1"),
        ("cyborg+data=0", "has data=0; it is a whole number"),
        ("cross_entropy+maps=shuffled", "nothing that uses a map; give an extractor"),
        ("cyborg+alpha=1+saliency_weight=1", "gives alpha and saliency_weight; give one"),
        (
            "cyborg+weighting=dynamic+unguided_epochs=2",
            "gives weighting and unguided_epochs; a schedule",
        ),
    ],
)
def test_arms_that_cannot_be(spec, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        arms.load(spec)


def test_files_of_settings(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("title: mine\nextractor: cam\nalpha: 0.3\n")
    assert arms.load(str(path)) == arms.Arm("mine", title="mine", extractor="cam", alpha=0.3)
    path.write_text("- a list\n")
    with pytest.raises(ValueError, match="holds list, expected lines of the form setting: value"):
        arms.load(str(path))
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="cannot be read as YAML"):
        arms.load(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as YAML"):
        arms.load(str(path))
    path.write_text("epochs: 3\noptimizer: adam\n")
    with pytest.raises(ValueError, match="plan has optimizer='adam', expected 'adamw' or 'sgd'"):
        plans.load(str(path))


def test_the_published_preset():
    plan = plans.load("cyborg_2023")
    assert (plan.rate, plan.momentum, plan.weight_decay, plan.epochs, plan.batch) == (0.005, 0.9, 1e-6, 50, 20)
    assert (plan.schedule, plan.step_epochs, plan.step_factor, plan.keep) == ("steps", 12, 0.1, "best")


def test_measures_on_scores_made_by_hand():
    metrics = measure(
        {
            "authentic/a": np.array([-2.0, -1.0]),
            "authentic/b": np.array([1.0]),
            "training/training": np.array([3.0, 0.5]),
            "paired/fingerprint removed": np.array([2.0, -1.5]),
            "paired/defect repaired": np.array([3.0, 0.5]),
            "unseen/x": np.array([2.0, 2.0]),
            "unseen/y": np.array([1.0, -3.0]),
        }
    )
    assert metrics["authentic_called_fake"] == pytest.approx(1 / 3)
    assert metrics["auc/unseen/x"] == 1.0
    assert metrics["auc/unseen/y"] == pytest.approx(2.5 / 6)
    assert metrics["auc_unseen"] == pytest.approx((1 + 2.5 / 6) / 2)
    assert metrics["auc_training"] == pytest.approx(5 / 6)
    assert metrics["auc_fingerprint_free"] == pytest.approx(4 / 6)
    assert (metrics["flip_rate_fingerprint"], metrics["logit_change_fingerprint"]) == (0.5, -1.5)
    assert (metrics["flip_rate_defect"], metrics["logit_change_defect"]) == (0.0, 0.0)


def test_real_data_has_no_pairs():
    assert set(measure({"authentic/a": np.zeros(2), "unseen/x": np.ones(2)})) == {
        "authentic_called_fake",
        "auc/unseen/x",
        "called_fake/unseen/x",
        "auc_unseen",
    }


def test_alignment_knows_the_own_map_from_another():
    human = torch.rand(5, 8, 8)
    own, other = align(3.0 * human - 1.0, human)
    assert own == pytest.approx(1.0)
    assert abs(other) < 0.5


def test_a_result_comes_back_as_it_was(tmp_path):
    result = Result("a", "A", "small", 3, {"x": 1}, {"auc": 0.5}, [{"epoch": 1.0}], {"unseen/x": np.arange(3.0)},
                    {"gallery/unseen/x": np.ones((2, 3, 3))}, 1.5)  # fmt: skip
    result.save(tmp_path)
    back = Result.load(tmp_path)
    assert (back.arm, back.seed, back.metrics, back.epochs) == (result.arm, 3, result.metrics, result.epochs)
    np.testing.assert_array_equal(back.scores["unseen/x"], result.scores["unseen/x"])
    assert back.maps["gallery/unseen/x"].shape == (2, 3, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", "arrays.npz"}


def test_listed_commands_run_are_skipped_and_report(monkeypatch, tmp_path, capsys):
    sweep = ["sweep", "--output", tmp_path, "--seeds", 1, "--arms", "cross_entropy", "cyborg+annotated=0.5", *TINY]
    assert main(monkeypatch, *sweep, "--list") == 0
    listed = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in listed] == [["python", "-m", "examples.synthetic_faces", "run"]] * 3
    for line in listed[:2]:
        assert main(monkeypatch, *line[3:]) == 0
    capsys.readouterr()
    assert main(monkeypatch, *sweep, "--list") == 0
    left = capsys.readouterr().out.splitlines()
    assert [shlex.split(line) for line in left] == listed[2:]
    results = load_results(tmp_path)
    assert [(r.arm, r.settings["data"]["fingerprint"]) for r in results] == [
        ("cross_entropy", "none"), ("cross_entropy", "outside"),
    ]  # fmt: skip
    assert all(np.isfinite(value) for r in results for value in r.metrics.values())
    assert main(monkeypatch, *sweep[:-1], "batch=8") == 2
    assert "plan.batch: 16 there, 8 here" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_that_fails_is_named_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    sweep = ["sweep", "--output", tmp_path, "--seeds", 1, "--no-gate", *TINY]
    bad = "cyborg+divergence_options={no_such_option: 1}"
    assert main(monkeypatch, *sweep, "--arms", bad, "cross_entropy", "--processes", 1) == 1
    assert "FAILED: cyborg+divergence_options" in capsys.readouterr().out
    assert [result.arm for result in load_results(tmp_path)] == ["cross_entropy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "--arms", "cyborgg"], "unknown arm 'cyborgg'"),
        (["sweep", "--preset", "smal"], "unknown preset 'smal'; did you mean 'small'?"),
        (["sweep", "--plan", "epocs=3"], "plan has no setting 'epocs'; did you mean 'epochs'?"),
        (["run", "--arm", "cyborg", "--plan", "images=2"], "must be at least 6"),
    ],
)
def test_bad_commands(monkeypatch, tmp_path, capsys, arguments, message):
    assert main(monkeypatch, *arguments, "--output", tmp_path) == 2
    assert message in capsys.readouterr().err


def test_no_result_to_report(monkeypatch, tmp_path, capsys):
    assert main(monkeypatch, "report", "--output", tmp_path) == 1
    assert "No finished training" in capsys.readouterr().out


def test_settings_know_their_types():
    assert settings.parse(["a=1", "b=x", "c={d: 2}", "e=null"]) == {"a": 1, "b": "x", "c": {"d": 2}, "e": None}
    with pytest.raises(ValueError, match="plan has compiled=1, expected bool"):
        settings.changed(plans.Plan(), {"compiled": 1})
    with pytest.raises(ValueError, match="plan has epochs=True, expected int"):
        settings.changed(plans.Plan(), {"epochs": True})
    assert json.dumps(plans.Plan().__dict__)


def test_a_training_belongs_to_one_process_at_a_time(tmp_path):
    with claimed(tmp_path), pytest.raises(Busy, match="another process trains in"), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


def test_two_sweeps_share_a_folder(monkeypatch, tmp_path, capsys):
    sweep = ["sweep", "--output", tmp_path, "--seeds", 1, "--no-gate", "--arms", "cross_entropy", "--processes", 1]
    monkeypatch.setattr(commands, "run_all", lambda rest, *_: [_outcome(training) for training in rest])
    (training,) = commands.planned(commands.parse([*map(str, sweep), *TINY]))
    training.folder.mkdir(parents=True)
    with claimed(training.folder):
        assert main(monkeypatch, *sweep, *TINY) == 0
        assert "Left to another process: cross_entropy" in capsys.readouterr().out
        run = ["run", "--output", tmp_path, "--arm", "cross_entropy", *TINY]
        assert main(monkeypatch, *run) == 2
        assert "another process trains in" in capsys.readouterr().err
    assert main(monkeypatch, *sweep, *TINY) == 0
    result = training.folder / "result.json"
    before = result.stat().st_mtime_ns
    assert training.run(print) == training.folder
    assert result.stat().st_mtime_ns == before, "what another process finished meanwhile is not done again"


def _outcome(training):
    try:
        return training.run(lambda _: None)
    except Busy as error:
        return error


class Sleeper:
    """A job that outlasts the test."""

    title, steps = "sleeper", 1

    def run(self, report):
        multiprocessing.Event().wait(25)


def test_an_interrupted_sweep_ends_its_workers(monkeypatch, tmp_path, capsys):
    def interrupt(futures, *_):
        assert multiprocessing.active_children()
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "_follow", interrupt)
    monkeypatch.setattr(commands, "run_all", lambda rest, *others: jobs.run_all([Sleeper()] * 3, *others))
    start = time.monotonic()
    assert main(monkeypatch, "sweep", "--output", tmp_path, "--processes", 1, *TINY) == 130
    assert time.monotonic() - start < 20
    assert "the same command goes on" in capsys.readouterr().err
    assert not multiprocessing.active_children()


def test_a_folder_that_cannot_be(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(monkeypatch, "sweep", "--output", tmp_path / "file" / "study", *TINY) == 2
    assert "Not a directory" in capsys.readouterr().err


def test_two_arms_of_one_name(monkeypatch, tmp_path, capsys):
    mine = tmp_path / "cyborg.yaml"
    mine.write_text("extractor: cam\nalpha: 0.3\n")
    assert main(monkeypatch, "sweep", "--output", tmp_path, "--arms", "cyborg", mine, *TINY) == 2
    assert "two arms are called 'cyborg'" in capsys.readouterr().err


def test_a_file_of_an_arm_survives_the_list(monkeypatch, tmp_path, capsys):
    mine = tmp_path / "an arm.yaml"
    mine.write_text("extractor: cam\nalpha: 0.3\n")
    sweep = ["sweep", "--output", tmp_path / "my study", "--seeds", 1, "--no-gate", "--list", "--arms", mine, *TINY]
    assert main(monkeypatch, *sweep) == 0
    (line,) = capsys.readouterr().out.splitlines()
    words = commands.parse(shlex.split(line)[3:])
    assert (words.arm, words.output) == (str(mine), tmp_path / "my study")
