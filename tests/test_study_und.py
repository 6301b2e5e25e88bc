"""Data in the layout of the UND collection: found, read as the arms want it, and every broken file named."""

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from und_folder import SIDE, write_und_folder

from examples.synthetic_faces import sources
from examples.synthetic_faces.__main__ import main, parse, planned
from examples.synthetic_faces.arm import Arm
from examples.synthetic_faces.plan import Plan
from examples.synthetic_faces.results import Result

CYBORG = Arm("cyborg", extractor="cam", alpha=0.5)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return write_und_folder(tmp_path_factory.mktemp("und") / "Data")


@pytest.fixture
def broken(collection, tmp_path):
    """A copy of the folder, to be broken."""
    return Path(shutil.copytree(collection, tmp_path / "Data"))


def source_of(root, *arguments, network="small"):
    parser = argparse.ArgumentParser()
    sources.add_arguments(parser)
    options = parser.parse_args(["--data", "und", "--root", str(root), *map(str, arguments)])
    return sources.from_arguments(options, Plan(network=network))


def everything(dataset):
    return dataset.__getitems__(range(len(dataset)))


def drawn(index):
    """The map in the folder for the training image of this index."""
    human = torch.zeros(SIDE, SIDE)
    human[2 * index : 2 * index + 8, 20:28] = 1.0
    return human


def test_folder_is_read(collection):
    source = source_of(collection)
    training, validation = source.training(CYBORG, seed=1), source.validation()
    assert (len(training), len(validation), len(source.training(Arm("large", data=7), 1))) == (8, 4, 56)
    batch = everything(training)
    assert batch["images"].shape == (8, 3, SIDE, SIDE)
    assert batch["images"].min() >= 0.0
    assert batch["images"].max() <= 1.0
    assert batch["targets"].tolist() == [0, 1] * 4
    assert batch["annotated"].tolist() == [False] * 2 + [True] * 6
    expected = torch.stack([torch.zeros(SIDE, SIDE)] * 2 + [drawn(index) for index in range(2, 8)])
    torch.testing.assert_close(batch["human_saliency"], expected)
    assert not everything(validation)["annotated"].any()


def test_training_without_maps_needs_none(collection):
    source = source_of(collection)
    assert not everything(source.training(Arm("cross_entropy"), 1))["annotated"].any()


def test_images_have_the_networks_size(collection):
    batch = source_of(collection, network="xception").training(CYBORG, 1).__getitems__([3])
    assert batch["images"].shape == (1, 3, 299, 299)
    assert batch["human_saliency"].shape == (1, 299, 299)


def test_groups(collection):
    found = source_of(collection, "--training-sets", "progan").tests()
    assert list(found) == ["authentic/celeba-hq", "authentic/ffhq", "training/progan", "unseen/stylegan3"]
    assert all(len(dataset) == 4 for dataset in found.values())
    assert everything(found["unseen/stylegan3"])["targets"].tolist() == [1] * 4
    named = source_of(collection, "--test-csv", "real=csvs/gan_test_sets/ffhq.csv", "mixed=csvs/original.csv").tests()
    assert {name: len(dataset) for name, dataset in named.items()} == {
        "authentic/real": 4,
        "authentic/mixed": 2,
        "unseen/mixed": 2,
    }


def maps_of(collection, **options):
    training = source_of(collection).training(Arm("arm", extractor="cam", **options), seed=3)
    batch = everything(training)
    assert not batch["human_saliency"][~batch["annotated"]].any()
    return batch["human_saliency"], batch["annotated"]


def test_shuffled_maps_are_those_of_others_of_the_class(collection):
    maps, annotated = maps_of(collection, maps="shuffled")
    assert annotated.tolist() == [False] * 2 + [True] * 6
    for index in range(2, 8):
        donors = [other for other in range(2, 8) if torch.allclose(maps[index], drawn(other))]
        assert len(donors) == 1
        assert donors[0] != index
        assert donors[0] % 2 == index % 2


def test_other_kinds_of_maps(collection):
    mean = torch.stack([drawn(2), drawn(4), drawn(6)]).mean(0)
    torch.testing.assert_close(maps_of(collection, maps="class_mean")[0][4], mean)
    assert (maps_of(collection, maps="uniform")[0][5] == 1.0).all()
    shift = round(0.35 * SIDE)
    torch.testing.assert_close(maps_of(collection, maps="displaced")[0][5], drawn(5).roll((shift, shift), (0, 1)))
    parts, annotated = maps_of(collection, maps="parts")
    torch.testing.assert_close(parts[0], drawn(0).T)
    assert annotated.all()
    assert (maps_of(collection, maps="face")[0] == 1.0).all()
    blurred = maps_of(collection, map_blur=0.05)[0][5]
    assert 0.0 < blurred.max() < 1.0
    torch.testing.assert_close(blurred.sum(), drawn(5).sum(), rtol=0.02, atol=0)


def test_share_of_annotations_grows(collection):
    few, some = (maps_of(collection, annotated=share)[1] for share in (0.3, 0.7))
    assert (int(few.sum()), int(some.sum())) == (2, 4)
    assert (some | ~few).all()


def test_background_is_blurred_outside_the_maps(collection):
    source = source_of(collection)
    plain = everything(source.training(CYBORG, 1))
    training = source.training(Arm("blurred", background_blur=0.1), 1)
    batch = everything(training)
    inside = plain["human_saliency"][:, None].expand_as(plain["images"]) == 1.0
    torch.testing.assert_close(batch["images"][inside], plain["images"][inside])
    changed = (batch["images"] - plain["images"]).abs().amax((1, 2, 3)) > 0
    assert not changed[:2].any()
    assert changed[2:].any()
    alone = training.__getitems__([7, 3])
    torch.testing.assert_close(alone["images"], batch["images"][[7, 3]])


def test_annotated_images_are_those_of_validation_where_they_have_maps(collection, broken):
    compared = source_of(collection).annotated()
    assert len(compared) == 6
    assert everything(compared)["annotated"].all()
    for name in ("v0_real.png", "v1_fake.png", "v3_fake.png"):
        shutil.copy(broken / MAP, broken / "train" / "heatmaps" / name)
    assert everything(source_of(broken).annotated())["targets"].tolist() == [0, 1, 1]
    shutil.rmtree(broken / "train" / "heatmaps")
    assert source_of(broken).annotated() is None


def test_description_makes_the_same_source(collection):
    source = source_of(collection, "--training-sets", "progan", "--stretch-maps")
    data = json.loads(json.dumps(source.describe()))
    assert data == source.describe()
    assert sources.from_description(data).describe() == data
    parser = argparse.ArgumentParser()
    sources.add_arguments(parser)
    again = sources.from_arguments(parser.parse_args(sources.to_arguments(data)), Plan())
    assert again.describe() == data


def test_description_knows_another_table(broken):
    before = source_of(broken).describe()
    table = broken / "csvs" / "original.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[1:]))
    after = source_of(broken).describe()
    assert {key for key in before if before[key] != after[key]} == {"sha256"}


def test_tables_beside_the_root(broken):
    shutil.move(broken / "csvs", broken.parent / "csvs")
    assert len(source_of(broken).training(CYBORG, 1)) == 8


@pytest.mark.parametrize(
    ("lost", "arguments", "use", "message"),
    [
        (".", [], None, "--root .*Data is not a folder"),
        (
            "csvs/original.csv",
            [],
            None,
            r"no table of training images: looked for .*original.csv and .* by --train-csv",
        ),
        ("csvs/gan_test_sets", [], None, r"no table of test images: looked for .*gan_test_sets/\*.csv.* by --test-csv"),
        ("train/heatmaps", [], CYBORG, r"no folder of human maps: looked for .*train/heatmaps. Name it by --maps"),
        ("train/masks/parts", [], Arm("m", extractor="cam", maps="parts"), r"masks for maps: parts.*parts. .*--masks"),
        (
            "csvs/large_dataset_7x.csv",
            [],
            Arm("l", data=7),
            r"table of the larger training set.* Name it by --large-csv",
        ),
        ("", ["--train-csv", "no.csv"], None, r"--train-csv no.csv does not exist; looked for .*Data/no.csv and"),
        ("", ["--maps", "no"], None, r"--maps no does not exist"),
        ("", ["--test-csv", "csvs/original.csv"], None, r"--test-csv csvs/original.csv: expected NAME=FILE"),
        (
            "",
            ["--training-sets", "stylegan"],
            None,
            r"--training-sets stylegan: no such test table; there are celeba-hq",
        ),
        ("", [], Arm("three", data=3), "data=1 or 7, not 3"),
    ],
)
def test_what_is_missing_is_named(lost, arguments, use, message, broken):
    if lost:
        shutil.rmtree(broken / lost) if (broken / lost).is_dir() else (broken / lost).unlink()
    with pytest.raises(ValueError, match=message):
        source_of(broken, *arguments).training(use or Arm("cross_entropy"), 1)


def test_root_is_asked_for():
    with pytest.raises(ValueError, match="--data und needs --root"):
        sources.from_arguments(argparse.Namespace(data="und", root=None), Plan())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train,Synthetic", "original.csv line 13: 2 cells, expected 3 without a header"),
        ("train,Fake,/train/a.png", "original.csv line 13: unknown class 'Fake'"),
        ("train,Real,/../../etc/passwd", "original.csv line 13: .*root"),
        ("split,class,path", "original.csv line 13: unknown class 'class'"),
    ],
)
def test_broken_lines_are_named(line, message, broken):
    with (broken / "csvs" / "original.csv").open("a") as table:
        table.write(f"{line}\n")
    with pytest.raises(ValueError, match=message):
        source_of(broken).training(CYBORG, 1)


def test_tables_of_one_kind_are_refused(broken):
    lines = (broken / "csvs" / "original.csv").read_text().splitlines(keepends=True)
    (broken / "csvs" / "train.csv").write_text("".join(line for line in lines if line.startswith("train")))
    with pytest.raises(ValueError, match=r"train.csv has lines of the split 'train' alone; expected others"):
        source_of(broken, "--validation-csv", "csvs/train.csv").validation()
    (broken / "csvs" / "test.csv").write_text("".join(line for line in lines if line.startswith("test")))
    with pytest.raises(ValueError, match="No row belongs to the split 'train'"):
        source_of(broken, "--train-csv", "csvs/test.csv").training(Arm("cross_entropy"), 1)
    for name, lacking in (("ffhq", "Synthetic"), ("progan", "Real")):
        with pytest.raises(ValueError, match=f"no test table has a line of class {lacking}: .*{name}.csv"):
            source_of(broken, "--test-csv", f"a=csvs/gan_test_sets/{name}.csv").tests()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def empty(path):
    path.write_bytes(b"")


def as_text(path):
    path.write_text("no picture")


def other_shape(path):
    Image.fromarray(np.full((SIDE, 2 * SIDE), 255, np.uint8)).save(path)


def coloured(path):
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(path)


def bomb(path):
    Image.new("1", (20_000, 10_000)).save(path)


IMAGE, MAP = "train/original_data/1_fake/p3_fake.png", "train/heatmaps/p3_fake.png"


@pytest.mark.parametrize(
    ("name", "breaking", "message"),
    [
        (IMAGE, Path.unlink, "image .* is missing"),
        (IMAGE, truncate, "image .* cannot be read"),
        (IMAGE, empty, "image .* is empty"),
        (IMAGE, as_text, "image .* cannot be read"),
        (IMAGE, bomb, "image .* has more pixels"),
        (MAP, truncate, "map .* cannot be read"),
        (MAP, empty, "map .* is empty"),
        (MAP, other_shape, "not the same aspect ratio"),
        (MAP, coloured, "map .* is coloured"),
    ],
)
def test_broken_files_are_named_and_skipped_on_request(name, breaking, message, broken, caplog):
    breaking(broken / name)
    with pytest.raises(ValueError, match=f"original.csv line 4: .*{message}"):
        everything(source_of(broken).training(CYBORG, 1))
    training = source_of(broken, "--skip-unreadable").training(CYBORG, 1)
    assert len(everything(training)["images"]) == 7
    assert "left out: original.csv line 4" in caplog.text


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command of the study, in this process, and gives its exit status and what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["examples.synthetic_faces", *map(str, words)])
        status = main()
        return status, "".join(capsys.readouterr())

    return run


def test_study_runs_from_tables_to_report(collection, tmp_path, command):
    data = ["--data", "und", "--root", collection, "--training-sets", "progan", "--output", tmp_path]
    plan = ["--preset", "cyborg_2023", "--plan", "network=small", "epochs=2", "batch=4"]
    for arm in ("cross_entropy", "cyborg_2023"):
        status, printed = command("run", "--arm", arm, *data, *plan)
        assert status == 0, printed
    results = [Result.load(tmp_path / "und" / arm / "small" / "seed-100") for arm in ("cross_entropy", "cyborg_2023")]
    for result in results:
        assert list(result.scores) == ["authentic/celeba-hq", "authentic/ffhq", "training/progan", "unseen/stylegan3"]
        assert {"auc_unseen", "auc_training", "alignment", "alignment_shuffled"} <= result.metrics.keys()
        assert result.maps["average/synthetic"].shape == (12, 12)
    assert results[0].epochs[0]["saliency_loss"] == 0.0
    assert results[1].epochs[0]["saliency_loss"] > 0.0

    status, printed = command("report", "--output", tmp_path)
    assert status == 0, printed
    assert "stylegan3" in printed
    assert "CYBORG as published" in (tmp_path / "report.html").read_text()

    arms = ["cross_entropy", "cross_entropy_7x", "cyborg_2023"]
    status, printed = command("sweep", "--list", "--arms", *arms, "--seeds", 1, *data, *plan)
    assert status == 0, printed
    (left,) = printed.splitlines()
    assert "--arm cross_entropy_7x" in left
    status, printed = command(*shlex.split(left)[3:])
    assert status == 0, printed


def test_commands_say_what_is_broken(broken, tmp_path, command):
    (broken / IMAGE).unlink()
    words = ["run", "--arm", "cyborg", "--data", "und", "--root", broken, "--plan", "batch=8", "--output", tmp_path]
    status, printed = command(*words)
    assert status == 2
    assert "error: original.csv line 4: image" in printed
    status, printed = command(*words[:-4], "--plan", "batch=4", "epochs=1", "network=vgg", "--output", tmp_path)
    assert status == 2
    assert "unknown network 'vgg'" in printed


def test_each_network_of_a_sweep_gets_images_of_its_size(collection, tmp_path, command):
    words = ["sweep", "--list", "--data", "und", "--root", collection, "--arms", "cyborg_2023", "--seeds", 1]
    words += ["--networks", "densenet121", "xception", "--preset", "cyborg_2023", "--output", tmp_path]
    parsed = parse([str(word) for word in words])
    assert [training.source.size for training in planned(parsed)] == [224, 299]
    status, printed = command(*words)
    assert status == 0
    assert ["network=densenet121" in line for line in printed.splitlines()] == [True, False]


@pytest.mark.slow
def test_sweep_over_controls(collection, tmp_path, command):
    arms = ["shuffled", "class_mean", "background_blurred", "map_head", "cyborg_2023+maps=parts"]
    words = ["--arms", *arms, "--seeds", 1, "--data", "und", "--root", collection, "--output", tmp_path]
    status, printed = command("sweep", *words, "--plan", "epochs=1", "batch=4")
    assert status == 0, printed
    assert len(list(tmp_path.rglob("result.json"))) == 5
    assert command("report", "--output", tmp_path)[0] == 0
