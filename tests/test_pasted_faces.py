"""The photographs of the pasted faces: nothing shared between splits, the shortcut really there and really swapped."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import pytest
import torch

from examples.pasted_faces.arms import ARMS, load
from examples.pasted_faces.data import (
    PAIRS,
    PATCHES,
    REGIONS,
    SIZE,
    mixed,
    paste,
    photographs,
    split_patches,
    swapped,
    tied,
    training_scenes,
    transplant,
)
from examples.pasted_faces.evaluate import held_out
from examples.pasted_faces.experiment import Gate
from examples.pasted_faces.report import interval, markdown
from examples.pasted_faces.train import maps_for
from examples.pasted_faces.tune import choose, opposite


def test_no_patch_is_in_two_splits_and_classes_are_balanced():
    splits = [split_patches(split).tolist() for split in PATCHES]
    assert sorted(chain(*splits)) == list(range(200))
    for split, patches in zip(PATCHES, splits, strict=True):
        assert sum(number < 100 for number in patches) == len(patches) / 2 == PATCHES[split]


def test_no_column_of_a_texture_is_in_two_splits():
    regions = sorted(REGIONS.values())
    assert regions[-1][1] == photographs()[1].shape[2]
    assert all(end <= start for (_, end), (start, _) in pairwise(regions))


@pytest.mark.parametrize("split", list(REGIONS))
def test_crops_stay_in_the_columns_of_their_split(split, monkeypatch):
    left, right = REGIONS[split]
    textures = torch.zeros(3, 512, 512)
    textures[:, :, left:right] = 1
    monkeypatch.setattr("examples.pasted_faces.data.photographs", lambda: (torch.ones(200, 25, 25), textures))
    scenes = paste(torch.arange(200), torch.zeros(200, dtype=torch.long), split, 0)
    assert scenes.images.min() >= 0.8  # darkened by a fifth at most


@pytest.mark.parametrize("seed", range(len(PAIRS)))
def test_textures_tell_the_label_in_training_and_are_swapped_in_testing(seed):
    patches = split_patches("test")
    faces = patches < 100
    trained, other = tied(patches, seed), swapped(patches, seed)
    assert len(trained[faces].unique()) == len(trained[~faces].unique()) == 1
    assert trained[faces][0] == other[~faces][0] != trained[~faces][0] == other[faces][0]
    random = mixed(patches, seed)
    assert {(bool(face), int(texture)) for face, texture in zip(faces, random, strict=True)} == {
        (face, texture) for face in (False, True) for texture in PAIRS[seed]
    }


def test_swapped_scenes_differ_in_the_texture_alone():
    trained, other = held_out("test", 1, 0, 3)
    assert torch.equal(trained.human, other.human)
    assert torch.equal(trained.patches, other.patches)
    sure = trained.human == 1
    inside = (trained.images - other.images)[:, 0].abs()[sure]
    outside = (trained.images - other.images)[:, 0].abs()[trained.human == 0]
    assert inside.median() == 0
    assert outside.mean() > 0.05


def test_human_map_covers_the_patch(monkeypatch):
    patches, textures = torch.ones(200, 25, 25), torch.zeros(3, 512, 512)
    monkeypatch.setattr("examples.pasted_faces.data.photographs", lambda: (patches, textures))
    scenes = paste(torch.arange(200), torch.zeros(200, dtype=torch.long), "training", 0)
    pasted = (scenes.images[:, 0] > 0).float()
    covered = (scenes.human * pasted).sum((1, 2)) / pasted.sum((1, 2))
    beside = (scenes.human * (1 - pasted)).sum((1, 2)) / pasted.sum((1, 2))
    assert covered.mean() > 0.8
    assert covered.min() > 0.5
    assert beside.mean() < 0.3
    assert scenes.human.min() == 0
    assert scenes.human.max() == 1
    assert not torch.equal((scenes.human > 0.5).float(), (pasted > 0.5).float()), "an annotator's hand is not exact"


def test_a_seed_gives_the_same_scenes_and_another_seed_others():
    first, again, other = (training_scenes(20, seed) for seed in (0, 0, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.images, other.images)
    assert set(first.patches.tolist()) <= set(split_patches("training").tolist())


def test_transplant_keeps_what_is_marked_and_takes_the_donors_surroundings():
    scenes = training_scenes(40, 0)._replace(images=torch.ones(40, 1, SIZE, SIZE))
    donors = opposite(scenes)._replace(images=torch.zeros(40, 1, SIZE, SIZE))
    assert (donors.targets != scenes.targets).all()
    moved = transplant(scenes, donors)[:, 0]
    assert (moved[donors.human > 0.1] == 1).all()
    assert moved.mean() < 0.6
    assert torch.equal(transplant(scenes, scenes), scenes.images)


def test_transplant_moves_what_is_marked_to_the_donors_mark():
    scenes = training_scenes(40, 0)
    donors = opposite(scenes)
    marks = scenes._replace(images=scenes.human.unsqueeze(1))
    moved = transplant(marks, donors._replace(images=torch.zeros(40, 1, SIZE, SIZE)))[:, 0]
    steps = torch.arange(SIZE, dtype=torch.float32)
    for axis in (1, 2):
        middles = [(maps.sum(axis) @ steps) / maps.sum((1, 2)) for maps in (moved, donors.human)]
        assert (middles[0] - middles[1]).abs().median() < 1
        away = (steps - middles[1].unsqueeze(1)).abs()
        assert away[moved.amax(axis) > 0].max() < 24, "a mark at the edge is not drawn out to the next edge"


def test_controls_see_other_maps():
    scenes = training_scenes(30, 0)
    torch.manual_seed(0)
    assert maps_for(ARMS["cross_entropy"], scenes) is None
    assert maps_for(ARMS["cyborg"], scenes) is scenes.human
    shuffled = maps_for(ARMS["shuffled"], scenes)
    assert not torch.equal(shuffled, scenes.human)
    assert torch.equal(shuffled.sum((1, 2)).sort().values, scenes.human.sum((1, 2)).sort().values)
    assert (maps_for(ARMS["uniform"], scenes) == 1).all()


def result(name, seed, groups):
    patches = [[accuracy] * 6 for accuracy in groups]
    keys = ("mean", "flips", "alignment", "alignment_other")
    return {
        "arm": name,
        "seed": seed,
        "patches": patches,
        "metrics": {**dict.fromkeys(keys, 0.5), "worst_group": min(groups)},
    }


def test_gate_and_table():
    results = [result(arm.name, seed, (0.9, 0.8, 1.0, 1.0)) for arm in load() for seed in (0, 1)]
    assert not Gate.of(results).passed
    plain = [result("cross_entropy", seed, (1.0, 0.1, 1.0, 0.2)) for seed in (0, 1)]
    results = [r for r in results if r["arm"] != "cross_entropy"] + plain
    gate = Gate.of(results)
    assert not gate.passed
    assert replace(gate, mixed=0.9).passed
    assert not replace(gate, mixed=0.9, tied=0.6).passed
    assert interval(results, "cyborg", "cross_entropy") == pytest.approx((0.7, 0.7))
    table = markdown(load(), results, gate, 2)
    assert "Gate FAILED" in table
    assert "+0.700 (+0.700 to +0.700)" in table


def test_tuning_takes_the_alpha_of_best_mean_criterion():
    scores = {(0.5, 0): 0.9, (0.5, 1): 0.5, (0.1, 0): 0.8, (0.1, 1): 0.8}
    results = [
        {"arm": "cyborg", "alpha": alpha, "seed": seed, "criterion": score, "plain": 1.0, "moved": 0.0}
        for (alpha, seed), score in scores.items()
    ]
    assert choose(results)["alpha"] == {"cyborg": 0.1}


@pytest.mark.slow
def test_quick_run(tmp_path):
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "examples.pasted_faces", "--quick", "--workers", "1", "--output", str(tmp_path)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "table.md", "worst_group.png", "gallery.png"}
    record = json.loads((tmp_path / "results.json").read_text())
    assert {r["arm"] for r in record["results"]} == set(ARMS)
