"""What a dataset does with its rows: sizes, caches, subsets, workers, and what transforms may return."""

import dataclasses
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_files import grey, picture, write
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import saliency_losses as sl
from saliency_losses.data import (
    AnnotatedBatchSampler,
    DataError,
    File,
    JointTransform,
    MapFiles,
    Row,
    SaliencyDataset,
    collate,
    from_csv,
    from_folders,
)
from saliency_losses.data.fitting import fit_maps, has_shape_of


@pytest.fixture
def table(tmp_path):
    lines = ["image,label,map"]
    for number in range(6):
        picture(tmp_path / f"{number}.png", (12, 8), seed=number)
        grey(tmp_path / f"m{number}.png", np.random.default_rng(number).integers(0, 256, (8, 12)))
        lines.append(f"{number}.png,{number % 2},{f'm{number}.png' if number < 4 else ''}")
    return write(tmp_path / "rows.csv", "\n".join(lines))


def dark(path):
    return np.zeros((8, 12), dtype=np.uint8)


def imaginary(count=6, classes=2, annotated=None):
    """A dataset whose files nobody reads."""
    rows = []
    for number in range(count):
        file = File(f"/data/{number}", "/data", f"line {number}")
        has_map = annotated is None or annotated[number]
        maps = (MapFiles(file.where, "mean", (file,)) if has_map else None,)
        rows.append(Row(file, number % classes, maps, file.where, "train"))
    return SaliencyDataset(rows)


def test_a_sample(table):
    dataset = from_csv(table, map_column="map")
    sample = dataset[1]
    assert list(sample) == ["image", "target", "human_saliency", "annotated"]
    assert (sample["target"], sample["annotated"]) == (1, True)
    assert (type(sample["target"]), type(sample["annotated"])) == (int, bool)
    assert sample["image"].shape == (3, 8, 12)
    expected = np.random.default_rng(1).integers(0, 256, (8, 12)) / 255
    np.testing.assert_allclose(sample["human_saliency"].numpy(), expected, atol=1e-6)
    assert torch.equal(dataset[-5]["image"], sample["image"])
    assert len(list(dataset)) == 6
    with pytest.raises(IndexError, match="index 6 of a dataset with 6 samples"):
        dataset[6]


def test_one_size_for_all_keeps_maps_on_their_image(tmp_path):
    pixels = np.zeros((40, 60), dtype=np.uint8)
    pixels[8:20, 30:48] = 255
    grey(tmp_path / "a.png", pixels)
    grey(tmp_path / "m.png", pixels[::2, ::2])
    path = write(tmp_path / "rows.csv", "image,label,map\na.png,0,m.png\n")
    sample = from_csv(path, map_column="map", size=(10, 10), channels=1)[0]
    assert sample["image"].shape == (1, 10, 10)
    assert sample["human_saliency"].shape == (10, 10)
    for axis in (0, 1):
        image, saliency = (one.sum(1 - axis) for one in (sample["image"][0], sample["human_saliency"]))
        where = torch.arange(10.0)
        assert float((where * image).sum() / image.sum()) == pytest.approx(
            float((where * saliency).sum() / saliency.sum())
        )
    assert sample["human_saliency"].nonzero().amin(0).tolist() == [2, 5]
    assert sample["human_saliency"].nonzero().amax(0).tolist() == [4, 7]
    assert from_csv(path, size=(7, 5))[0]["human_saliency"].shape == (7, 5)


def test_resized_images_stay_in_their_range(tmp_path):
    grey(tmp_path / "a.png", np.full((40, 60), 255))
    path = write(tmp_path / "rows.csv", "image,label\na.png,0\n")
    assert from_csv(path, size=(33, 77))[0]["image"].max() == 1


def test_resized_maps_stay_in_their_range():
    assert fit_maps([torch.ones(2, 2)], "mean", (40, 60), (40, 60), "by hand", stretch=True).max() == 1


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.01, 1), st.sampled_from([int, round, np.ceil]))
def test_rounded_sizes_have_the_same_shape(height, width, scale, rounded):
    short = max(1, int(rounded(min(height, width) * scale)))
    exact = short / min(height, width)
    small = tuple(
        max(1, int(rounded(side * exact + (-1e-9 if rounded is np.ceil else 1e-9)))) for side in (height, width)
    )
    assert has_shape_of(small, (height, width))
    assert has_shape_of((height, width), small)


def test_turned_and_stretched_sizes_have_another_shape():
    for small, large in (((12, 8), (8, 12)), ((224, 224), (224, 280)), ((7, 7), (224, 280)), ((50, 103), (100, 200))):
        assert not has_shape_of(small, large)
        assert not has_shape_of(large, small)


def test_the_cache_keeps_what_fits(table, monkeypatch):
    each = (3 + 1) * 8 * 12 * 4
    dataset = from_csv(table, map_column="map", cache_bytes=2 * each + 1)
    before = [dataset[index] for index in range(6)]
    before[0]["image"].zero_()
    for path in table.parent.glob("*.png"):
        path.unlink()
    assert dataset[0]["image"].any()
    dataset[0]["image"].zero_()
    assert dataset[torch.tensor(0)]["image"].any()
    assert torch.equal(dataset[1]["human_saliency"], before[1]["human_saliency"])
    with pytest.raises(DataError, match="is missing"):
        dataset[2]
    for other in (pickle.loads(pickle.dumps(dataset)), dataset.subset([0])):
        with pytest.raises(DataError, match="is missing"):
            other[0]


@pytest.mark.parametrize("wrap", [lambda flip: flip, lambda flip: v2.Compose([flip]), nn.Sequential])
def test_a_transform_that_would_leave_the_map_is_refused(wrap, table):
    transform = wrap(v2.RandomHorizontalFlip(p=1.0))
    with pytest.raises(TypeError, match=r"leave its map\. Wrap the pipeline: transform=.*JointTransform"):
        from_csv(table, map_column="map", transform=transform)
    dataset = from_csv(table, map_column="map")
    dataset.transform = transform
    with pytest.raises(TypeError, match=r"is torchvision's .*, which would move the image and leave its map"):
        dataset[0]
    with pytest.raises(TypeError, match="transform must be a callable from sample to sample, got 'flip'"):
        from_csv(table, transform="flip")
    flipped = from_csv(table, map_column="map", transform=JointTransform(v2.RandomHorizontalFlip(p=1.0)))[0]
    assert torch.equal(flipped["human_saliency"].flip(1), from_csv(table, map_column="map")[0]["human_saliency"])


def test_transforms_get_a_sample_and_give_one(table):
    dataset = from_csv(table, map_column="map", transform=lambda sample: {**sample, "image": sample["image"][:1]})
    assert dataset[0]["image"].shape == (1, 8, 12)
    dataset.transform = lambda sample: sample["image"]
    with pytest.raises(TypeError, match=r"transform must return a dict with image, target, .*, got Tensor"):
        dataset[0]
    dataset.transform = lambda sample: {"image": 0}
    with pytest.raises(TypeError, match=r"got \['image'\]"):
        dataset[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"size": 224}, r"size must be \(height, width\) in whole pixels, got 224"),
        ({"cache_bytes": -1}, "cache_bytes must be zero or more, got -1"),
        ({"map_names": ()}, "map_names is empty"),
        ({"map_names": ("a", "b")}, "line 0: 1 maps, expected 2, as map_names says"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        SaliencyDataset(imaginary().rows, **options)


def test_what_is_known_without_reading():
    dataset = imaginary(4, annotated=[True, False, True, False])
    assert dataset.annotated.tolist() == [True, False, True, False]
    assert dataset.annotated.dtype == torch.bool
    assert dataset.targets.tolist() == [0, 1, 0, 1]
    assert SaliencyDataset([]).annotated.shape == (0,)
    assert SaliencyDataset([], map_names=["a", "b"]).annotated.shape == (0, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.rows[0].target = 1


def test_subsets():
    dataset = imaginary(4, annotated=[True, False, True, False])
    assert [row.where for row in dataset.subset([2, 0]).rows] == ["line 2", "line 0"]
    assert [row.where for row in dataset.subset(~dataset.annotated).rows] == ["line 1", "line 3"]
    assert len(dataset.subset([True, False, False, False])) == 1
    assert len(dataset.subset([])) == 0
    with pytest.raises(ValueError, match=r"a mask of samples must have shape \(4,\), got \(1,\)"):
        dataset.subset([True])
    with pytest.raises(IndexError):
        dataset.subset([4])


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 4), st.integers(0, 3))
def test_fewer_annotations_are_a_share_of_each_class(annotated, classes, seed):
    dataset = imaginary(len(annotated), classes, annotated)
    previous = torch.zeros(len(annotated), dtype=torch.bool)
    for fraction in (0, 0.01, 0.2, 0.5, 1):
        limited = dataset.limit_annotations(fraction, seed=seed)
        kept = limited.annotated
        assert not (kept & ~dataset.annotated).any()
        assert not (previous & ~kept).any()
        for target in range(classes):
            of_class = dataset.targets == target
            before, after = int((dataset.annotated & of_class).sum()), int((kept & of_class).sum())
            assert after == (max(1, round(fraction * before)) if fraction and before else 0)
        assert torch.equal(limited.targets, dataset.targets)
        previous = kept
    assert torch.equal(previous, dataset.annotated)


def test_fewer_annotations_are_chosen_by_the_seed_alone():
    dataset = imaginary(40)
    torch.manual_seed(1)
    first = dataset.limit_annotations(0.25, seed=3).annotated
    state = torch.get_rng_state()
    assert torch.equal(first, dataset.limit_annotations(0.25, seed=3).annotated)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, dataset.limit_annotations(0.25, seed=4).annotated)
    with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\], got 5"):
        dataset.limit_annotations(5)


def test_a_batch_is_a_guided_step(table):
    dataset = from_csv(table, map_column="map")
    loader = DataLoader(
        dataset, batch_sampler=AnnotatedBatchSampler(dataset, 3, annotated_per_batch=2), collate_fn=collate
    )
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    guided = sl.SaliencyGuidedLoss(net)
    for batch in loader:
        assert int(batch["annotated"].sum()) >= 2
        guided(**batch).loss.backward()
    assert net[0].weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_workers_that_start_anew_read_the_same(table):
    dataset = from_csv(table, map_column="map", decode_map=dark, cache_bytes=10**6)
    loader = DataLoader(dataset, batch_size=3, num_workers=1, multiprocessing_context="spawn", collate_fn=collate)
    here = [collate([dataset[index] for index in range(start, start + 3)]) for start in (0, 3)]
    for there, own in zip(loader, here, strict=True):
        assert all(torch.equal(there[key], own[key]) for key in own)


@pytest.mark.slow
def test_errors_reach_the_caller_through_workers(table):
    (table.parent / "1.png").unlink()
    loader = DataLoader(from_csv(table), batch_size=3, num_workers=1, collate_fn=collate)
    with pytest.raises(DataError, match=r"rows.csv line 3: image '.*1.png' is missing"):
        list(loader)


def test_no_file_stays_open(table):
    dataset = from_csv(table, map_column="map")
    before = len(os.listdir("/proc/self/fd"))
    kept = [dataset[index] for index in range(6)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(kept) == 6


# Folders


def test_folders(tmp_path):
    for name in ("real/a.jpg", "fake/b.PNG", "fake/deep/c.png", "fake/.ipynb_checkpoints/b.png"):
        picture(tmp_path / "images" / name)
    write(tmp_path / "images" / "fake" / "notes.txt", "")
    grey(tmp_path / "maps" / "real" / "a.png", np.full((4, 6), 255))
    grey(tmp_path / "maps" / "fake" / "deep" / "c.png", np.zeros((4, 6)))
    dataset = from_folders(tmp_path / "images", tmp_path / "maps")
    assert dataset.classes == ("fake", "real")
    assert dataset.targets.tolist() == [0, 0, 1]
    assert dataset.annotated.tolist() == [False, True, True]
    assert dataset[2]["human_saliency"].eq(1).all()
    assert from_folders(tmp_path / "images", classes=["real", "fake"]).targets.tolist() == [1, 1, 0]
    assert dataset.rows[1].where == "images/fake/deep/c.png"


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"images '.*nowhere' is not a folder"):
        from_folders(tmp_path / "nowhere")
    (tmp_path / "images" / "real").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no file that ends in one of \.bmp, .*; see suffixes="):
        from_folders(tmp_path / "images")
    picture(tmp_path / "images" / "real" / "a.png")
    with pytest.raises(DataError, match="unknown class 'real'; the classes are 'fake'"):
        from_folders(tmp_path / "images", classes=["fake"])
    grey(tmp_path / "maps" / "real" / "b.png", np.zeros((4, 6)))
    with pytest.raises(DataError, match=r"None of the 1 maps .* a map is 'real/b.png', an image 'real/a.png'"):
        from_folders(tmp_path / "images", tmp_path / "maps")
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "maps")
    with pytest.raises(DataError, match="linked' is a link to a folder, which is not followed"):
        from_folders(tmp_path / "images")
    (tmp_path / "images" / "linked").unlink()
    picture(tmp_path / "images" / "loose.png")
    with pytest.raises(DataError, match=r"'loose.png' lies in no class's folder; expected .*/CLASS/loose.png"):
        from_folders(tmp_path / "images")


def test_a_map_belongs_to_one_image(tmp_path):
    for name in ("real/a.jpg", "real/a.png", "fake/b.png"):
        picture(tmp_path / "images" / name)
    grey(tmp_path / "maps" / "real" / "a.png", np.zeros((4, 6)))
    with pytest.raises(DataError, match=r"^images/real/a.png and images/real/a.jpg: .* both would take the map .* Ren"):
        from_folders(tmp_path / "images", tmp_path / "maps")


@pytest.mark.parametrize("inside", ["", "maps"])
def test_maps_are_no_images(inside, tmp_path):
    picture(tmp_path / "real" / "a.png")
    grey(tmp_path / "maps" / "real" / "a.png", np.zeros((4, 6)))
    with pytest.raises(DataError, match=r"lies in the folder of images .*, so that maps would be images, too"):
        from_folders(tmp_path, tmp_path / inside)


@pytest.mark.parametrize(("image", "other"), [("A.png", "a.png"), ("\u00fc.jpg", "u\u0308.png")])
def test_names_that_look_alike_are_not_taken_for_a_missing_map(image, other, tmp_path):
    for name in (image, "b.png"):
        picture(tmp_path / "images" / "real" / name)
    for name in (other, "b.png"):
        grey(tmp_path / "maps" / "real" / name, np.zeros((4, 6)))
    with pytest.raises(DataError, match="differs from it in upper and lower case, or in how accents are encoded"):
        from_folders(tmp_path / "images", tmp_path / "maps")
