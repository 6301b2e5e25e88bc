"""A training of the study is what its plan says, and what it leaves in its folder survives a kill at any moment."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import one_of
from tiny_study import ARMS, Images, TinySource, trial
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import saliency_losses as sl
from examples.synthetic_faces import checkpoint, distributed, networks
from examples.synthetic_faces import train as training
from examples.synthetic_faces.loader import seed_of, shuffled
from examples.synthetic_faces.train import train

ROOT = Path(__file__).parents[1]
CLOSE = 1e-5


class Killed(BaseException):
    """Nobody catches a kill."""


def run(folder, arm="cam", source=None, report=None, **plan):
    return train(trial(arm, **plan), source or TinySource(), folder, report=report)


def log_of(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)


def assert_same(folder, other):
    """Bit for bit."""
    assert log_of(folder) == log_of(other)
    assert_same_weights(weights(folder), weights(other))


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An arm's training that nothing interrupted, once per arm and plan."""
    made = {}

    def get(arm="cam", **plan):
        key = arm, json.dumps(plan, sort_keys=True)
        if key not in made:
            made[key] = tmp_path_factory.mktemp(arm)
            run(made[key], arm, **plan)
        return made[key]

    return get


def by_hand(arm, source, epochs=3, batch=8, rate=6e-3):
    """The default plan without everything around it."""
    data = source.training(arm, 0)
    torch.manual_seed(0)
    model = networks.build(trial().plan).to(memory_format=torch.channels_last)
    guided = arm.guide(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    steps = epochs * (len(data) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for epoch in range(1, epochs + 1):
        for indices in shuffled(len(data), batch, seed_of(0, epoch)):
            chosen = data.__getitems__(indices)
            chosen["images"] = chosen["images"].contiguous(memory_format=torch.channels_last)
            out = guided(**chosen)
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            schedule.step()
        guided.weighting.step()
    return model


@pytest.mark.parametrize("arm", ["cross_entropy", "cam", "grad_cam"])
def test_default_plan_is_the_plain_loop(arm, whole):
    source = TinySource()
    assert_same_weights(by_hand(ARMS[arm], source).state_dict(), weights(whole(arm)))


def test_batches_are_whole_and_depend_on_seed_and_epoch_alone():
    batches = shuffled(21, 4, seed_of(3, 1))
    assert [len(batch) for batch in batches] == [4] * 5
    assert len({index for batch in batches for index in batch}) == 20
    torch.rand(5)
    assert shuffled(21, 4, seed_of(3, 1)) == batches
    assert len({str(shuffled(21, 4, seed_of(seed, epoch))) for seed in range(4) for epoch in range(4)}) == 16


def test_what_is_left_behind(tmp_path):
    said = []
    trained = run(tmp_path, report=said.append)
    assert {path.name for path in tmp_path.iterdir()} == {"settings.json", "log.jsonl", "model.pt", "tensorboard"}
    assert not trained.guided.training
    names = ["epoch", "loss", "task_loss", "saliency_loss", "train_accuracy", "validation_accuracy", "seconds"]
    assert [list(entry) for entry in trained.epochs] == [names] * 3
    assert [text.partition(":")[0] for text in said] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert trained.epochs[0]["saliency_loss"] == 0 < trained.epochs[1]["saliency_loss"]
    data, model = TinySource().validation(), trained.guided.model
    with torch.no_grad():
        right = model(data.images).argmax(1) == data.targets
    assert trained.epochs[-1]["validation_accuracy"] == pytest.approx(right.double().mean().item())

    again = run(tmp_path, report=said.append)
    assert len(said) == 3
    assert again.epochs == trained.epochs
    assert_same_weights(again.guided.model.state_dict(), model.state_dict())


def test_logged_loss_is_that_of_the_terms(whole):
    for entry in log_of(whole("grad_cam")):
        assert entry["loss"] == pytest.approx(entry["task_loss"] + 0.7 * entry["saliency_loss"], rel=1e-5)
    for entry in log_of(whole("map_head")):
        assert entry["loss"] == pytest.approx(entry["task_loss"] + 0.5 * entry["map_head_loss"], rel=1e-5)
        assert entry["map_head_loss"] > 0


def test_map_head_trains_the_features_and_is_left_behind(whole):
    head, plain = weights(whole("map_head")), weights(whole("cross_entropy"))
    assert head.keys() == plain.keys()
    assert not torch.equal(head["features.0.0.weight"], plain["features.0.0.weight"])


def test_map_head_looks_at_annotated_maps_only(tmp_path, whole):
    class Replaced(TinySource):
        def training(self, arm, seed):
            data = Images(self.images, seed)
            data.human[~data.annotated] = 1 - data.human[~data.annotated]
            return data

    run(tmp_path, "map_head", Replaced())
    assert_same(tmp_path, whole("map_head"))


def test_keeps_the_best_epoch_of_equals_the_last(tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.8, 0.8, 0.6])
    seen = []

    def accuracy(model, *args):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return next(accuracies)

    monkeypatch.setattr(training, "accuracy", accuracy)
    trained = run(tmp_path, keep="best", epochs=4)
    assert_same_weights(trained.guided.model.state_dict(), seen[2])
    assert_same_weights(weights(tmp_path), seen[2])


def test_patience_ends_a_training(tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.8, 0.8, 0.6, 0.9])
    monkeypatch.setattr(training, "accuracy", lambda *args: next(accuracies))
    assert len(run(tmp_path, patience=2, epochs=9).epochs) == 4


@pytest.mark.parametrize(
    ("plan", "close"),
    [
        ({"precision": "float64"}, 1e-3),
        ({"precision": "bfloat16"}, 0.1),
        pytest.param({"precision": "float16"}, 0.1, marks=pytest.mark.slow),
    ],
)
def test_precisions_give_about_the_same_first_epoch(plan, close, tmp_path, whole):
    first, reference = run(tmp_path, epochs=3, **plan).epochs[0], log_of(whole())[0]
    assert first["loss"] == pytest.approx(reference["loss"], rel=close)
    assert first["loss"] != reference["loss"]


def test_sgd_steps_down(tmp_path):
    rates = []

    def note(optimizer, args, kwargs):
        rates.append((type(optimizer).__name__, optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))

    handle = register_optimizer_step_pre_hook(note)
    try:
        run(tmp_path, optimizer="sgd", schedule="steps", step_epochs=2, rate=0.01, momentum=0.8, epochs=4)
    finally:
        handle.remove()
    assert rates == [("SGD", pytest.approx(rate), 0.8) for rate in [0.01] * 10 + [0.001] * 10]


def test_workers_change_nothing(tmp_path, whole):
    run(tmp_path, workers=1)
    assert_same(tmp_path, whole())


# Kills


STEPS = ("train", "journal", "torch.save", "torch.save, halfway", "fsync", "replace", "replaced", "log", "finish")


def kill_at(step, monkeypatch):
    """The second time that the training comes to the step, it dies, as a kill would have it: nothing is cleaned up."""
    left = [2]

    def dying(function, before=True, only=lambda args: True):
        def call(*args, **kwargs):
            if not only(args):
                return function(*args, **kwargs)
            left[0] -= 1
            if left[0] == 0 and before:
                raise Killed
            result = function(*args, **kwargs)
            if left[0] == 0:
                raise Killed
            return result

        return call

    def halfway(state, file):
        left[0] -= 1
        if left[0] == 0:
            file.write(b"PK\x03\x04 half a file")
            file.flush()
            raise Killed
        return save(state, file)

    def to(name):
        return lambda args: Path(args[-1]).name == name

    save = torch.save
    if step == "train":
        monkeypatch.setattr(training, "accuracy", dying(training.accuracy))
    elif step == "journal":
        monkeypatch.setattr(training.Journal, "write", dying(training.Journal.write, before=False))
    elif step == "torch.save":
        monkeypatch.setattr(torch, "save", dying(save))
    elif step == "torch.save, halfway":
        monkeypatch.setattr(torch, "save", halfway)
    elif step == "fsync":
        left[0] = 4
        monkeypatch.setattr(os, "fsync", dying(os.fsync))
    elif step in ("replace", "replaced"):
        before = step == "replace"
        monkeypatch.setattr(os, "replace", dying(os.replace, before, to("checkpoint.pt")))
    elif step == "log":
        monkeypatch.setattr(os, "replace", dying(os.replace, True, to("log.jsonl")))
    else:
        left[0] = 1
        monkeypatch.setattr(os, "replace", dying(os.replace, False, to("model.pt")))


@pytest.mark.parametrize("step", STEPS)
def test_goes_on_from_a_kill_at_each_step(step, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(Killed):
            run(tmp_path, keep="best")
    said = []
    trained = run(tmp_path, keep="best", report=said.append)
    assert_same(tmp_path, whole(keep="best"))
    assert {entry["epoch"] for entry in trained.epochs} == {1, 2, 3}
    assert len(said) == {"replaced": 1, "log": 1, "finish": 0}.get(step, 2)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("arm", one_of(["grad_cam", "rise", "normalised", "map_head"], "rise", "normalised"))
def test_every_state_goes_on(arm, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        kill_at("log", patch)
        with pytest.raises(Killed):
            run(tmp_path, arm)
    torch.rand(3)
    run(tmp_path, arm)
    assert_same(tmp_path, whole(arm))


@pytest.mark.slow
def test_gradient_scaler_goes_on(tmp_path, monkeypatch, whole):
    plan = {"precision": "float16", "optimizer": "sgd"}
    with monkeypatch.context() as patch:
        kill_at("log", patch)
        with pytest.raises(Killed):
            run(tmp_path, **plan)
    run(tmp_path, **plan)
    assert_same(tmp_path, whole(**plan))


def test_tensorboard_shows_each_epoch_once(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with monkeypatch.context() as patch:
        kill_at("torch.save", patch)  # the second epoch is in TensorBoard, but in no checkpoint
        with pytest.raises(Killed):
            run(tmp_path)
    trained = run(tmp_path)
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in shown.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in shown.Scalars("loss")] == pytest.approx([e["loss"] for e in trained.epochs])
    assert [event.step for event in shown.Images("validation")] == [1, 2, 3]


@pytest.mark.slow
def test_goes_on_from_ten_random_kills(tmp_path):
    """Ten runs of one training, each killed at a random moment, then one that finishes."""
    plan = json.dumps({"epochs": 60, "keep": "best"})
    script = [sys.executable, str(ROOT / "tests" / "tiny_study.py"), "cam"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run([*script, str(tmp_path / "whole"), plan], env=environment, check=True, capture_output=True)
    took = time.perf_counter() - start
    rng, killed, folder = random.Random(), 0, tmp_path / "killed"
    while killed < 10:
        process = subprocess.Popen([*script, str(folder), plan], env=environment, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()  # an epoch is done: starting up takes longer than all epochs
        time.sleep(rng.uniform(0, took / 60))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it finished before it was killed ten times"
        killed += 1
    assert (folder / "cam" / "checkpoint.pt").exists()
    subprocess.run([*script, str(folder), plan], env=environment, check=True, capture_output=True)
    assert_same(folder / "cam", tmp_path / "whole" / "cam")


# Errors


def test_another_training_is_refused(tmp_path):
    run(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"holds a training with other settings: plan\.epochs is 1 there and 2 here; "
                       r"plan\.rate is 0\.006 there and 0\.1 here\. Give another folder"):  # fmt: skip
        run(tmp_path, epochs=2, rate=0.1)
    with pytest.raises(ValueError, match=r"data\.images is 40 there and 41 here"):
        run(tmp_path, epochs=1, source=TinySource(images=41))


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "pickle"])
def test_damaged_checkpoint_names_itself(damage, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at("log", patch)
        with pytest.raises(Killed):
            run(tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = path.read_bytes()
    if damage == "pickle":
        torch.save({"model": nn.Linear(1, 1)}, path)
    else:
        path.write_bytes(
            {"empty": b"", "truncated": content[: len(content) // 2], "flipped": b"no" + content[2:]}[damage]
        )
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read: it is damaged.*Delete it, and the training"):
        run(tmp_path)


def test_full_disk_names_the_file_and_leaves_the_last_checkpoint(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        calls = [0]

        def fsync(descriptor):
            calls[0] += 1
            if calls[0] == 4:
                raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match=r"checkpoint\.pt cannot be written .*No space left.*make room"):
            run(tmp_path)
    assert checkpoint.read(tmp_path / "checkpoint.pt")["log"][-1]["epoch"] == 1
    run(tmp_path)
    assert_same(tmp_path, whole())


def test_a_loss_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(FloatingPointError, match=r"the loss of epoch \d is nan; lower the plan's rate"):
        run(tmp_path, "cross_entropy", optimizer="sgd", rate=1e30)
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize(
    ("arm", "plan", "message"),
    [
        ("cam", {"batch": 41}, r"batch=41 does not fit a training set of 40 images.*from 1 to 40"),
        ("cam", {"epochs": 0}, r"epochs=0 and patience=None must be at least 1"),
        ("cam", {"patience": 0}, r"patience=0 must be at least 1"),
        ("map_head", {"compiled": True}, r"compiled=true: the map head is reached by a hook.*Set compiled=false"),
        ("rise", {"compiled": True}, r"compiled=true: the maps of RISE.* cannot become part of a compiled graph"),
    ],
)
def test_plans_that_do_not_fit_are_refused(arm, plan, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, arm, **plan)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["cross_entropy", "cam", "grad_cam"])
def test_compiled_trains_as_eager_does(arm, tmp_path):
    for compiled in (False, True):
        run(tmp_path / str(compiled), arm, compiled=compiled, precision="float64")
    for one, other in zip(log_of(tmp_path / "True"), log_of(tmp_path / "False"), strict=True):
        assert one == pytest.approx(other, rel=1e-8)


# Several processes


RANKED = ("cross_entropy", "cam", "grad_cam", "map_head", "normalised")


def torchrun(folder, arms, **plan):
    """What two processes that train the arms print, and how they end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    shared = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, str(ROOT / "tests" / "tiny_study.py"), ",".join(arms), str(folder), json.dumps(plan)]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    return [(*process.communicate(timeout=100), process.returncode) for process in processes]


def assert_close(folder, other):
    """The log and the weights of another training, up to the order of sums."""
    for one, expected in zip(log_of(folder), log_of(other), strict=True):
        assert one == pytest.approx(expected, rel=CLOSE, abs=CLOSE)
    for name, tensor in weights(other).items():
        torch.testing.assert_close(weights(folder)[name], tensor, rtol=CLOSE, atol=CLOSE, msg=name)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, whole):
    ended = torchrun(tmp_path, RANKED, precision="float64")
    assert [code for _, _, code in ended] == [0, 0], ended
    assert ended[0][0].count("epoch") == 3 * len(RANKED)
    assert ended[1][0] == ""
    for arm in RANKED:
        assert_close(tmp_path / arm, whole(arm, precision="float64"))


@pytest.mark.slow
def test_two_processes_go_on_where_one_was_killed(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        kill_at("log", patch)
        with pytest.raises(Killed):
            run(tmp_path / "cam", precision="float64")
    ended = torchrun(tmp_path, ["cam"], precision="float64")
    assert [code for _, _, code in ended] == [0, 0], ended
    assert ended[0][0].count("epoch") == 1
    assert_close(tmp_path / "cam", whole("cam", precision="float64"))


@pytest.mark.slow
def test_errors_reach_both_processes(tmp_path):
    for _, said, code in torchrun(tmp_path / "odd", ["cam"], batch=9):
        assert code == 1
        assert "batch=9 is the global batch, which 2 processes cannot share equally" in said
    run(tmp_path / "cam", epochs=1)
    for _, said, code in torchrun(tmp_path, ["cam"], epochs=2):
        assert code == 1
        assert "holds a training with other settings: plan.epochs is 1 there and 2 here" in said


def test_batch_norm_of_one_process_is_that_of_pytorch():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()
    synced = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()
    synced.load_state_dict(plain.state_dict())
    distributed.synchronised(synced, torch.device("cpu"))
    for _ in range(2):
        images = torch.rand(5, 3, 7, 7, dtype=torch.float64, requires_grad=True)
        for model in (plain, synced):
            model.zero_grad()
        ours, theirs = (torch.autograd.grad(m(images).pow(3).sum(), [images, *m.parameters()]) for m in (synced, plain))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[name], tensor, msg=name)


def test_gradient_maps_above_a_synchronised_batch_norm_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    distributed.synchronised(net, torch.device("cpu"))
    guided = sl.SaliencyGuidedLoss(net, sl.create_extractor("grad_cam", layer="0"))
    with pytest.raises(RuntimeError, match="SyncBatchNorm has no double backward"):
        guided(torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0]), torch.rand(4, 9, 9))


def test_batch_norm_that_does_more_is_refused():
    class Activated(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    with pytest.raises(ValueError, match=r"1 is a Activated, whose statistics cannot be taken over several processes"):
        distributed.synchronised(nn.Sequential(nn.Conv2d(3, 4, 3), Activated(4)), torch.device("cpu"))
