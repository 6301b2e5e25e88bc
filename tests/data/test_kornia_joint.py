"""kornia's augmentations on a batch: maps move with their images, and what would part them is refused."""

import kornia.augmentation as K
import pytest
import torch
from blobs import blob, distance
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from saliency_losses.data import KorniaJoint

SIZE = (40, 56)
ANYWHERE = torch.tensor([-0.3, 0.3])
MOVING = {
    "affine": lambda: K.RandomAffine(30.0, translate=(0.2, 0.2), scale=(0.8, 1.3), shear=10.0, p=0.7),
    "affine, mirrored": lambda: K.RandomAffine(30.0, translate=(0.2, 0.2), padding_mode="reflection", p=0.7),
    "centre crop": lambda: K.CenterCrop((32, 40), p=1.0),
    "crop": lambda: K.RandomCrop((32, 44), padding=3, pad_if_needed=True, p=1.0),
    "crop by sampling": lambda: K.RandomCrop((32, 44), pad_if_needed=True, p=1.0, cropping_mode="resample"),
    "elastic": lambda: K.RandomElasticTransform((21, 21), (6.0, 6.0), (2.0, 2.0), p=0.7),
    "fisheye": lambda: K.RandomFisheye(ANYWHERE, ANYWHERE, torch.tensor([0.7, 1.0]), p=0.7),
    "horizontal flip": lambda: K.RandomHorizontalFlip(p=0.5),
    "longest": lambda: K.LongestMaxSize(48, p=1.0),
    "pad": lambda: K.PadTo((80, 80)),
    "perspective": lambda: K.RandomPerspective(0.4, p=0.7),
    "quarter turns": lambda: K.RandomRotation90((-1, 1), p=0.7),
    "resize": lambda: K.Resize((37, 51), p=1.0),
    "resized crop": lambda: K.RandomResizedCrop((32, 44), scale=(0.4, 1.0), p=1.0),
    "resized crop by sampling": lambda: K.RandomResizedCrop((32, 44), p=1.0, cropping_mode="resample"),
    "rotation": lambda: K.RandomRotation(60.0, p=0.7),
    "shear": lambda: K.RandomShear(15.0, p=0.7),
    "shortest": lambda: K.SmallestMaxSize(33, p=1.0),
    "spline": lambda: K.RandomThinPlateSpline(0.15, p=0.7),
    "translation": lambda: K.RandomTranslate((-0.2, 0.2), (-0.2, 0.2), p=0.7),
    "vertical flip": lambda: K.RandomVerticalFlip(p=0.5),
}
RECOLOURING = {
    "blur": lambda: K.RandomGaussianBlur((3, 3), (0.3, 0.5), p=0.5),
    "channels": lambda: K.RandomChannelShuffle(p=0.5),
    "gamma": lambda: K.RandomGamma((0.9, 1.1), p=0.7),
    "grey": lambda: K.RandomGrayscale(p=0.5),
    "normalize": lambda: K.Normalize(torch.zeros(3), torch.full((3,), 1.25)),
}
PARTS = MOVING | RECOLOURING
HOLDING = {
    "augmentations": lambda parts: K.AugmentationSequential(*parts, data_keys=["input", "mask"]),
    "images": lambda parts: K.ImageSequential(*parts),
    "list": lambda parts: parts,
    "nested": lambda parts: K.AugmentationSequential(K.ImageSequential(*parts), data_keys=["input"]),
    "random order": lambda parts: K.AugmentationSequential(*parts, data_keys=["input"], random_apply=True),
    "random parts": lambda parts: K.ImageSequential(*parts, random_apply=(1, 2)),
    "torch": lambda parts: [nn.Sequential(*parts)],
}


def batch_at(*places, size=SIZE):
    human = torch.stack([blob(*size, y, x) for y, x in places])
    images = 0.6 * human.unsqueeze(1).repeat(1, 3, 1, 1)
    return {"images": images, "targets": torch.arange(len(places)), "human_saliency": human, "annotated": None}


def moved_apart(augment, batch, seed=0):
    torch.manual_seed(seed)
    moved = augment(batch)
    return max(map(distance, moved["images"], moved["human_saliency"]))


place = st.tuples(st.floats(0, SIZE[0] - 1), st.floats(0, SIZE[1] - 1))


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=3),
    st.sampled_from(sorted(HOLDING)),
    place,
    place,
    st.integers(0, 2**31),
)
def test_marked_places_stay_marked_under_every_augmentation(names, holding, first, second, seed):
    assume(not {"pad", "elastic"} <= {*names})  # kornia before 0.9 draws the warp for the size before padding
    augment = KorniaJoint(HOLDING[holding]([PARTS[name]() for name in names]))
    assert moved_apart(augment, batch_at(first, second), seed) < 0.35


@pytest.mark.parametrize("name", MOVING)
def test_maps_move_as_images_that_are_resampled_smoothly(name):
    torch.manual_seed(1)
    batch = batch_at((20.0, 17.0), (9.0, 40.0), (30.0, 8.0))
    moved = KorniaJoint(MOVING[name]())(batch)
    torch.testing.assert_close(moved["images"][:, 0], 0.6 * moved["human_saliency"], atol=0.02, rtol=0)
    assert not torch.equal(moved["human_saliency"], batch["human_saliency"])


@pytest.mark.parametrize("name", RECOLOURING)
def test_what_changes_values_leaves_the_maps(name):
    batch = batch_at((20.0, 17.0), (9.0, 40.0))
    assert torch.equal(KorniaJoint(RECOLOURING[name]())(batch)["human_saliency"], batch["human_saliency"])


def test_images_are_what_they_are_without_maps():
    augmentation = K.AugmentationSequential(K.RandomAffine(30.0), K.ColorJiggle(0.2, 0.2), data_keys=["input"])
    batch = batch_at((20.0, 17.0), (9.0, 40.0))
    torch.manual_seed(5)
    alone = augmentation(batch["images"])
    torch.manual_seed(5)
    assert torch.equal(KorniaJoint(augmentation)(batch)["images"], alone)


def test_each_sample_of_a_batch_has_its_own_draw():
    batch = batch_at(*[(20.0, 17.0)] * 12)
    moved = KorniaJoint(K.RandomHorizontalFlip(p=0.5))(batch)["human_saliency"]
    flipped = (moved == batch["human_saliency"].flip(-1)).flatten(1).all(1)
    assert 0 < flipped.sum() < 12


def filled():
    """An affine transform that fills with ones, which kornia has since 0.9."""
    if "fill_value" not in K.RandomAffine(30.0).flags:
        return K.RandomAffine(30.0, padding_mode="zeros", p=1.0)
    return K.RandomAffine(30.0, padding_mode="fill", fill_value=torch.ones(3), p=1.0)


def test_maps_take_neither_fill_nor_sampling_from_their_images():
    batch = batch_at((20.0, 17.0))
    batch["human_saliency"] += 0.2
    for image, plain in (
        (K.PadTo((60, 60), pad_value=0.7), K.PadTo((60, 60))),
        (K.RandomCrop((50, 60), padding=8, fill=1, p=1.0), K.RandomCrop((50, 60), padding=8, p=1.0)),
        (K.RandomRotation(30.0, resample="nearest", p=1.0), K.RandomRotation(30.0, p=1.0)),
        (filled(), K.RandomAffine(30.0, p=1.0)),
    ):
        moved = []
        for augmentation in (image, plain):
            torch.manual_seed(2)
            moved.append(KorniaJoint(augmentation)(batch)["human_saliency"])
        assert torch.equal(*moved)


def test_a_map_that_shrinks_keeps_its_small_marks():
    batch = {"images": torch.zeros(1, 3, 64, 64), "human_saliency": torch.zeros(1, 64, 64)}
    batch["human_saliency"][0, 13, 13] = 1.0
    assert KorniaJoint(K.Resize((8, 8)))(batch)["human_saliency"].sum() > 0.005


@pytest.mark.parametrize("shape", [(1,), (3,)])
def test_several_maps_move_as_one_would(shape):
    batch = batch_at((20.0, 17.0), (9.0, 40.0))
    augment = KorniaJoint([K.RandomAffine(30.0, p=1.0), K.RandomResizedCrop((30, 30), p=1.0)])
    moved = []
    for human in (batch["human_saliency"], batch["human_saliency"].unsqueeze(1).expand(2, *shape, *SIZE)):
        torch.manual_seed(4)
        moved.append(augment({**batch, "human_saliency": human})["human_saliency"])
    torch.testing.assert_close(moved[1], moved[0].unsqueeze(1).expand_as(moved[1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(2, *SIZE), (2, 1, *SIZE)])
def test_known_pixels_move_and_what_comes_from_outside_is_unknown(shape):
    known = torch.ones(shape, dtype=torch.bool)
    known[..., 30:] = False
    batch = {**batch_at((20.0, 17.0), (9.0, 40.0)), "annotated": known}
    moved = KorniaJoint([K.RandomHorizontalFlip(p=1.0), K.PadTo((40, 60))])(batch)
    expected = torch.zeros(*shape[:-1], 60, dtype=torch.bool)
    expected[..., 26:56] = True
    assert torch.equal(moved["annotated"], expected)


@pytest.mark.parametrize("annotated", [torch.tensor([True, False]), torch.ones(2, 3, dtype=torch.bool), None])
def test_all_else_in_a_batch_is_as_it_was(annotated):
    batch = {**batch_at((20.0, 17.0), (9.0, 40.0)), "annotated": annotated, "names": ["a", "b"]}
    before = batch["human_saliency"].clone()
    moved = KorniaJoint(K.RandomAffine(30.0, p=1.0))(batch)
    assert moved.keys() == batch.keys()
    assert moved["annotated"] is annotated
    assert moved["targets"] is batch["targets"]
    assert moved["names"] == ["a", "b"]
    assert torch.equal(batch["human_saliency"], before)


def test_a_batch_without_maps_is_augmented():
    images = batch_at((20.0, 17.0))["images"]
    for batch in ({"images": images}, {"images": images, "human_saliency": None}):
        assert torch.equal(KorniaJoint(K.RandomHorizontalFlip(p=1.0))(batch)["images"], images.flip(-1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_maps_keep_their_dtype_and_range_under_autocast(dtype):
    batch = batch_at((20.0, 17.0))
    augment = KorniaJoint(K.RandomAffine(30.0, p=1.0))
    torch.manual_seed(3)
    expected = augment(batch)["human_saliency"]
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        moved = augment({**batch, "human_saliency": batch["human_saliency"].to(dtype)})["human_saliency"]
    assert moved.dtype == dtype
    torch.testing.assert_close(moved.float(), expected, atol=2e-3, rtol=0)
    ones = {**batch, "human_saliency": torch.ones(1, *SIZE, dtype=dtype)}
    assert all(float(augment(ones)["human_saliency"].max()) <= 1.0 for _ in range(20))


def test_every_augmentation_of_images_is_judged():
    bases = (K.GeometricAugmentationBase2D, K.IntensityAugmentationBase2D, K.MixAugmentationBaseV2)
    public = [each for each in vars(K).values() if isinstance(each, type) and issubclass(each, nn.Module)]
    rest = {each.__name__ for each in public if not issubclass(each, (*bases, K.AugmentationBase3D))}
    assert rest - {"AugmentationBase2D", "RigidAffineAugmentationBase2D"} == {
        "AugmentationSequential",
        "ImageSequential",
        "ManyToManyAugmentationDispather",
        "ManyToOneAugmentationDispather",
        "PatchSequential",
        "RandomElasticTransform",
        "RandomFisheye",
        "RandomThinPlateSpline",
        "VideoSequential",
    }


class Shift(nn.Module):
    """Someone's module, which knows no maps."""

    def forward(self, images):
        return images.roll(3, -1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: K.RandomMixUpV2(), "cannot take RandomMixUpV2: it mixes"),
        (lambda: K.RandomCutMixV2(use_correct_lambda=True), "cannot take RandomCutMixV2: it mixes"),
        (lambda: K.RandomMosaic(), "cannot take RandomMosaic: it mixes"),
        (lambda: K.RandomJigsaw(), "cannot take RandomJigsaw: it mixes images, their parts"),
        (lambda: K.auto.RandAugment(2, 10), "cannot take RandAugment: .*one by one"),
        (lambda: K.PatchSequential(K.Resize((9, 9)), patchwise_apply=False), "cannot take PatchSequential: .*one"),
        (lambda: K.VideoSequential(K.RandomAffine(10.0)), "cannot take VideoSequential: .*one by one"),
        (lambda: K.RandomAffine3D(10.0), "cannot take RandomAffine3D: it is for volumes"),
        (Shift, r"does not know Shift: .*trusted=\[Shift\]"),
    ],
)
def test_what_parts_images_and_maps_is_refused_wherever_it_is(make, message):
    for augmentation in (make(), [make()], K.ImageSequential(K.ImageSequential(K.RandomHorizontalFlip(), make()))):
        with pytest.raises(ValueError, match=message):
            KorniaJoint(augmentation)


def test_what_is_not_known_is_taken_where_it_is_trusted():
    module = nn.Identity()
    batch = batch_at((20.0, 17.0))
    for trusted in (module, nn.Identity):
        moved = KorniaJoint([module, K.RandomVerticalFlip(p=1.0)], trusted=[trusted])(batch)
        assert torch.equal(moved["human_saliency"], batch["human_saliency"].flip(-2))


@pytest.mark.parametrize("augmentation", [None, [], [torch.fliplr], "flip"])
def test_what_is_no_augmentation_is_refused(augmentation):
    with pytest.raises(TypeError, match=r"takes kornia augmentations: .* got (none|NoneType|builtin|str|function)"):
        KorniaJoint(augmentation)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": torch.zeros(3, *SIZE)}, TypeError, r"\(B, C, H, W\), got shape \(3, 40, 56\); .*JointTransform"),
        ({"images": None}, TypeError, r"got NoneType"),
        ({"human_saliency": torch.zeros(1, *SIZE, dtype=torch.uint8)}, TypeError, r"float tensor, got torch.uint8"),
        ({"human_saliency": [1]}, TypeError, r"float tensor, got list"),
        (
            {"human_saliency": torch.zeros(1, 7, 7)},
            ValueError,
            r"\(1, 7, 7\), expected \(1, 40, 56\) or .*resize",
        ),
        ({"human_saliency": torch.zeros(2, *SIZE)}, ValueError, r"shape \(2, 40, 56\), expected \(1, 40, 56\)"),
        ({"annotated": torch.ones(1, 7, 7)}, ValueError, r"annotated'\] has shape \(1, 7, 7\), expected one bool"),
    ],
)
def test_a_batch_that_cannot_move_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        KorniaJoint(K.RandomHorizontalFlip())({**batch_at((20.0, 17.0)), **change})


@pytest.mark.parametrize("batch", [{"image": torch.zeros(3, 4, 4)}, torch.zeros(1, 3, 4, 4)])
def test_a_sample_is_no_batch(batch):
    with pytest.raises(TypeError, match=r"takes a batch, a dict with 'images', got .*; samples are for JointTransform"):
        KorniaJoint(K.RandomHorizontalFlip())(batch)
