"""The rendered faces: pairs differ only where they should, sets do not overlap, and maps are where the defects are."""

import pytest
import torch

from examples.synthetic_faces import arm as arms
from examples.synthetic_faces.rendered import cameras, generators, render
from examples.synthetic_faces.sources.maps import arrange, blurred_background
from examples.synthetic_faces.sources.rendered import RenderedSource

SMALL = {"images": 24, "validation": 8, "test": 9}


@pytest.fixture(scope="module")
def fakes():
    return {
        state: render(20, 3, True, generators.TRAINING if state[0] else None, place=state[1], defective=state[2])
        for state in (
            *((True, place, True) for place in ("outside", "face", "marked")),
            (True, "outside", False),
            (False, "outside", True),
        )
    }


def test_a_pair_differs_where_its_fingerprint_is_and_nowhere_else(fakes):
    plain = fakes[False, "outside", True]
    for place, elsewhere in (
        ("outside", plain.face),
        ("face", 1.0 - plain.face),
        ("marked", (plain.human < 1e-9).float()),
    ):
        difference = (fakes[True, place, True].images - plain.images).abs().amax(1)
        assert difference.max() <= generators.STRENGTH + 1e-6
        assert difference.mean() > generators.STRENGTH / 40
        assert difference[elsewhere == 1.0].max() < 1e-9
    assert all(torch.equal(faces.human, plain.human) for faces in fakes.values())


def test_repaired_defects_are_where_annotators_marked(fakes):
    difference = (fakes[True, "outside", True].images - fakes[True, "outside", False].images).abs().sum(1)
    human = fakes[True, "outside", True].human
    marked = (difference * human).sum((1, 2)) / difference.sum((1, 2))
    assert marked.mean() > 3 * human.mean()


def test_rendering_is_a_function_of_the_seed_and_a_larger_set_holds_the_smaller():
    first = render(100, 5, False)
    assert torch.equal(render(200, 5, False).images[:100], first.images)
    assert not torch.equal(render(100, 6, False).images, first.images)
    assert not torch.equal(render(100, 5, True).images, first.images)


def test_masks_are_masks_and_parts_lie_in_the_face():
    faces = render(40, 1, False)
    assert set(faces.parts.unique().tolist()) == {0.0, 1.0}
    assert (faces.parts * faces.face).sum() > 0.8 * faces.parts.sum()
    assert 0.0 <= faces.human.min() <= faces.human.max() <= 1.0
    assert faces.human[faces.parts == 1.0].mean() > 4 * faces.human[faces.parts == 0.0].mean()


@pytest.mark.parametrize("seed", [0, 20_261_124])
def test_unseen_fingerprints_are_unlike_that_of_training(seed):
    own = generators.TRAINING.fingerprint(48).flatten()
    drawn = generators.unseen(seed)
    assert [generator.name for generator in drawn] == list(generators.FAMILIES)
    for generator in drawn:
        other = generator.fingerprint(48).flatten()
        assert torch.corrcoef(torch.stack([own, other]))[0, 1].abs() < 0.2
        assert float(other.std()) == pytest.approx(float(own.std()), rel=0.35)
    assert drawn == generators.unseen(seed)


def test_cameras_leave_their_mark():
    images = render(6, 0, False, cameras=(cameras.STUDIO,)).images
    warm = cameras.PHONE.photograph(images)
    assert (warm[:, 0].mean() / warm[:, 2].mean()) > (images[:, 0].mean() / images[:, 2].mean())
    assert warm.diff(dim=-1).abs().mean() < images.diff(dim=-1).abs().mean()


def test_the_source_has_its_groups_and_its_sets_do_not_overlap():
    source = RenderedSource(**SMALL)
    tests = source.tests()
    assert {group.partition("/")[0] for group in tests} == {"authentic", "training", "paired", "unseen"}
    assert sum(group.startswith("unseen/") for group in tests) == 6
    assert sum(group.startswith("authentic/") for group in tests) == 3
    training = source.training(arms.load("cross_entropy"), 100)
    everything = [training, source.validation(), tests["authentic/studio"], tests["training/training"]]
    images = torch.cat([batches.images for batches in everything])
    assert len(images.flatten(1).unique(dim=0)) == len(images)
    assert training.targets.float().mean() == 0.5
    development = RenderedSource(**SMALL, drawn="development").tests()
    assert not torch.equal(development["unseen/rows"].images, tests["unseen/rows"].images)
    large = source.training(arms.load("cross_entropy_7x"), 100)
    assert len(large) == 7 * len(training)


def test_too_few_faces():
    with pytest.raises(ValueError, match="images=4, validation=8 and test=9 must be at least 6"):
        RenderedSource(4, 8, 9)


def test_without_fingerprint_only_training_changes():
    with_, without = RenderedSource(**SMALL), RenderedSource(**SMALL, fingerprint="none")
    arm = arms.load("cross_entropy")
    assert not torch.equal(with_.training(arm, 1).images, without.training(arm, 1).images)
    assert torch.equal(with_.tests()["unseen/rows"].images, without.tests()["unseen/rows"].images)


@pytest.mark.parametrize("name", ["cyborg", "cyborg_parts", "face", "shuffled", "class_mean", "displaced", "uniform"])
def test_each_kind_of_map(name):
    source, arm = RenderedSource(**SMALL), arms.load(name)
    batches = source.training(arm, 2)
    own = source.training(arms.load("cyborg"), 2)
    assert torch.equal(batches.images, own.images)
    assert batches.annotated.all()
    assert torch.equal(batches.human, own.human) == (name == "cyborg")


def test_shuffled_maps_stay_in_their_class_and_none_stays_in_place():
    human = torch.arange(10.0)[:, None, None].expand(10, 2, 2)
    targets = torch.tensor([0, 1] * 5)
    moved = arrange("shuffled", human, targets, torch.Generator().manual_seed(0))
    assert sorted(moved[:, 0, 0].tolist()) == list(range(10))
    assert (moved != human).all()
    assert torch.equal(moved[:, 0, 0] % 2, targets.float())


def test_class_mean_displaced_and_uniform_maps():
    human, targets = torch.rand(6, 8, 8), torch.tensor([0, 0, 0, 1, 1, 1])
    rng = torch.Generator()
    mean = arrange("class_mean", human, targets, rng)
    torch.testing.assert_close(mean[4], human[3:].mean(0))
    displaced = arrange("displaced", human, targets, rng)
    torch.testing.assert_close(displaced.sum((1, 2)), human.sum((1, 2)))
    assert torch.equal(displaced[:, 3, 3], human[:, 0, 0])
    assert arrange("uniform", human, targets, rng).unique().tolist() == [1.0]


def test_a_background_is_blurred_outside_the_map_alone():
    images, maps = torch.rand(40, 3, 16, 16), torch.zeros(40, 16, 16)
    maps[:, 4:8, 4:8] = 1.0
    blurred = blurred_background(images, maps, 0.2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(blurred[..., 4:8, 4:8], images[..., 4:8, 4:8])
    rough = (blurred - images).abs().mean((1, 2, 3))
    assert (rough == 0).any()
    assert rough.max() > 0.1


@pytest.mark.parametrize(("share", "kept"), [(1.0, 24), (0.5, 12), (0.01, 2), (0.0, 0)])
def test_a_share_of_each_class_is_annotated(share, kept):
    arm = arms.load(f"cyborg+annotated={share}")
    batches = RenderedSource(**SMALL).training(arm, 1)
    assert batches.annotated.sum() == kept
    assert batches.targets[batches.annotated].float().mean() == (
        0.5 if kept else pytest.approx(float("nan"), nan_ok=True)
    )


def test_a_background_is_blurred_only_where_there_is_a_map():
    source = RenderedSource(**SMALL)
    sharp = source.training(arms.load("cross_entropy"), 1)
    some = source.training(arms.load("background_blurred+annotated=0.5"), 1)
    changed = (some.images != sharp.images).flatten(1).any(1)
    assert changed.any()
    assert not changed[~some.annotated].any()
    assert changed.sum() > 0.6 * some.annotated.sum()
