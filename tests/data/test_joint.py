"""The joint transform of a sample: image and map stay aligned in every pipeline; what would part them is refused."""

import pickle

import pytest
import torch
from blobs import blob, distance
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

from saliency_losses.data import JointTransform, SaliencyMap
from saliency_losses.data.pipeline import CONTAINERS, JOINT, REFUSED

SIZE = (48, 64)
BILINEAR = v2.InterpolationMode.BILINEAR
MOVING = {
    "affine": lambda: v2.RandomAffine(30, translate=(0.2, 0.2), scale=(0.8, 1.3), shear=10, interpolation=BILINEAR),
    "affine, nearest": lambda: v2.RandomAffine(20, translate=(0.1, 0.1)),
    "center crop": lambda: v2.CenterCrop((41, 50)),
    "crop": lambda: v2.RandomCrop((40, 50), padding=3, pad_if_needed=True),
    "elastic": lambda: v2.ElasticTransform(alpha=60.0, sigma=4.0),
    "horizontal flip": lambda: v2.RandomHorizontalFlip(p=1.0),
    "pad": lambda: v2.Pad([3, 5, 7, 2]),
    "pad by reflection": lambda: v2.Pad([3, 5, 7, 2], padding_mode="reflect"),
    "perspective": lambda: v2.RandomPerspective(0.4, p=1.0),
    "resize": lambda: v2.RandomResize(32, 70),
    "resize by nearest": lambda: v2.Resize((61, 55), interpolation=v2.InterpolationMode.NEAREST_EXACT),
    "resized crop": lambda: v2.RandomResizedCrop((40, 52), scale=(0.3, 1.0)),
    "rotation": lambda: v2.RandomRotation(60, interpolation=BILINEAR),
    "rotation, expanded": lambda: v2.RandomRotation(60, interpolation=BILINEAR, expand=True),
    "rotation by 90": lambda: v2.RandomRotation((90, 90), expand=True),
    "scale jitter": lambda: v2.ScaleJitter((48, 64), scale_range=(0.7, 1.3)),
    "vertical flip": lambda: v2.RandomVerticalFlip(p=1.0),
    "zoom out": lambda: v2.RandomZoomOut(side_range=(1.0, 1.4), p=1.0),
}
RECOLOURING = {
    "blur": lambda: v2.GaussianBlur(3, sigma=0.4),
    "brightness": lambda: v2.ColorJitter(brightness=0.2),
    "channels": lambda: v2.RandomChannelPermutation(),
    "dtype": lambda: v2.ToDtype(torch.float64),
    "grey": lambda: v2.Grayscale(3),
    "bytes": lambda: v2.Compose([v2.ToDtype(torch.uint8, scale=True), v2.ToDtype(torch.float32, scale=True)]),
    "noise": lambda: v2.GaussianNoise(sigma=0.002),
    "normalize": lambda: v2.Normalize([0.0] * 3, [1.25] * 3),
}
HOLDING = {
    "apply": lambda part: v2.RandomApply([part], p=0.5),
    "choice": lambda part: v2.RandomChoice([part, v2.Identity()]),
    "order": lambda part: v2.RandomOrder([part, v2.RandomHorizontalFlip()]),
    "sequential": lambda part: nn.Sequential(part),
    "itself": lambda part: part,
}


def sample_at(y, x, size=SIZE):
    human = blob(*size, y, x)
    return {
        "image": 0.6 * human.expand(3, *size).clone(),
        "target": 1,
        "human_saliency": human,
        "annotated": True,
        "name": "a.png",
    }


def moved_apart(transform, sample, seed=0):
    torch.manual_seed(seed)
    moved = transform(sample)
    return distance(moved["image"], moved["human_saliency"])


@st.composite
def pipelines(draw):
    """A pipeline, and how far it may take image and map apart: images resampled by nearest are off by up to half."""
    parts = MOVING | RECOLOURING
    smooth = draw(st.booleans())
    names = draw(
        st.lists(st.sampled_from([n for n in parts if not (smooth and "nearest" in n)]), min_size=1, max_size=4)
    )
    held = [HOLDING[draw(st.sampled_from(sorted(HOLDING)))](parts[name]()) for name in names]
    return v2.Compose(held), 0.3 if smooth else 0.95


@settings(deadline=None, max_examples=150)
@given(pipelines(), st.floats(0, SIZE[0] - 1), st.floats(0, SIZE[1] - 1), st.integers(0, 2**31))
def test_a_marked_place_stays_marked_in_every_pipeline(pipeline_and_tolerance, y, x, seed):
    pipeline, tolerance = pipeline_and_tolerance
    assert moved_apart(JointTransform(pipeline), sample_at(y, x), seed) < tolerance


@pytest.mark.parametrize("name", MOVING)
def test_each_transform_moves_the_map_with_its_image(name):
    transform = JointTransform(MOVING[name]())
    assert max(moved_apart(transform, sample_at(20.0, 17.0), seed) for seed in range(4)) < 0.5


@pytest.mark.parametrize("name", [name for name in MOVING if name not in ("center crop", "zoom out")])
def test_a_map_left_behind_is_seen(name):
    sample = sample_at(14.0, 11.0)
    torch.manual_seed(1)
    height, width = (image := JointTransform(MOVING[name]())(sample)["image"]).shape[-2:]
    stayed = torch.zeros(max(height, SIZE[0]), max(width, SIZE[1]))
    stayed[: SIZE[0], : SIZE[1]] = sample["human_saliency"]
    assert distance(image, stayed[:height, :width]) > 0.95


def test_all_else_in_a_sample_is_as_it_was():
    sample = {**sample_at(20.0, 17.0), "readers": torch.arange(3), "annotated": False}
    sample["human_saliency"] = torch.zeros(SIZE)
    before = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in sample.items()}
    moved = JointTransform(v2.Compose([v2.RandomAffine(30), v2.ColorJitter(0.5)]))(sample)
    assert moved.keys() == sample.keys()
    assert (moved["target"], moved["annotated"], moved["name"]) == (1, False, "a.png")
    assert torch.equal(moved["readers"], torch.arange(3))
    assert not moved["human_saliency"].any()
    assert all(type(moved[key]) is torch.Tensor for key in ("image", "human_saliency"))
    for key, value in before.items():
        assert torch.equal(sample[key], value) if isinstance(value, torch.Tensor) else sample[key] == value


def test_several_maps_move_as_one_would():
    sample = sample_at(20.0, 17.0)
    maps = torch.stack([sample["human_saliency"], blob(*SIZE, 30.0, 40.0)])
    transform = JointTransform(v2.Compose([v2.RandomResizedCrop(32), v2.RandomRotation(40)]))
    moved = []
    for human in (maps, maps[0], maps[1]):
        torch.manual_seed(3)
        moved.append(transform({**sample, "human_saliency": human})["human_saliency"])
    assert torch.equal(moved[0], torch.stack(moved[1:]))


def test_known_pixels_move_and_what_comes_from_outside_is_unknown():
    sample = {**sample_at(20.0, 17.0), "annotated": torch.ones(SIZE, dtype=torch.bool)}
    sample["annotated"][:, 32:] = False
    transform = JointTransform(v2.Compose([v2.RandomHorizontalFlip(p=1.0), v2.Pad([4, 0], fill=1.0)]))
    known = transform(sample)["annotated"]
    assert known.dtype == torch.bool
    assert known[:, 36:68].all()
    assert known.sum() == 32 * SIZE[0]


def test_boxes_in_the_sample_move_too():
    boxes = tv_tensors.BoundingBoxes([[1, 2, 5, 6]], format="XYXY", canvas_size=SIZE)
    moved = JointTransform(v2.RandomHorizontalFlip(p=1.0))({**sample_at(3.0, 3.0), "boxes": boxes})
    assert moved["boxes"].tolist() == [[59, 2, 63, 6]]


def test_erasing_leaves_the_map_and_does_not_warn():
    sample = sample_at(20.0, 17.0)
    moved = JointTransform(v2.RandomErasing(p=1.0, scale=(0.5, 0.6)))(sample)
    assert torch.equal(moved["human_saliency"], sample["human_saliency"])
    assert not torch.equal(moved["image"], sample["image"])


def test_workers_get_a_copy():
    transform = pickle.loads(pickle.dumps(JointTransform(v2.RandomHorizontalFlip(p=1.0))))
    assert moved_apart(transform, sample_at(20.0, 5.0)) < 0.1
    assert repr(transform) == "JointTransform(RandomHorizontalFlip(p=1.0))"


class Shift(v2.Transform):
    """Someone's transform of images, which knows no maps."""

    def transform(self, inpt, params):
        return tv_tensors.wrap(inpt.roll(3, -1), like=inpt) if isinstance(inpt, tv_tensors.Image) else inpt


class Brighter(v2.Transform):
    """Someone's transform that forgets types."""

    def transform(self, inpt, params):
        return inpt * 1.1


class Cropped(v2.Transform):
    """Someone's transform that crops the image alone."""

    def transform(self, inpt, params):
        return tv_tensors.wrap(inpt[..., 1:], like=inpt) if isinstance(inpt, tv_tensors.Image) else inpt


def test_every_transform_of_torchvision_is_judged():
    public = {name for name, each in vars(v2).items() if isinstance(each, type) and issubclass(each, v2.Transform)}
    assert public - {"Transform", "Lambda"} <= {*JOINT, *REFUSED, *CONTAINERS}


ARGUMENTS = {
    "CutMix": {"num_classes": 2},
    "FiveCrop": {"size": 8},
    "LinearTransformation": {"transformation_matrix": torch.eye(3), "mean_vector": torch.zeros(3)},
    "MixUp": {"num_classes": 2},
    "TenCrop": {"size": 8},
    "UniformTemporalSubsample": {"num_samples": 2},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_parts_image_and_map_is_refused_wherever_it_is(name):
    transform = getattr(v2, name)(**ARGUMENTS.get(name, {}))
    with pytest.raises(ValueError, match=f"cannot take {name}: it .*;"):
        JointTransform(v2.Compose([v2.RandomApply([v2.RandomChoice([v2.Identity(), transform])])]))


@pytest.mark.parametrize(
    "transform", [Shift(), v2.Lambda(torch.clone), torch.fliplr], ids=["class", "lambda", "function"]
)
def test_what_is_not_known_is_refused_until_trusted(transform):
    with pytest.raises(ValueError, match=r"does not know .*trusted=\["):
        JointTransform(v2.Compose([transform]))
    JointTransform(v2.Compose([transform]), trusted=[transform])
    if isinstance(transform, nn.Module):
        JointTransform(nn.Sequential(transform), trusted=[type(transform)])


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (v1.RandomHorizontalFlip(), r"use torchvision.transforms.v2.RandomHorizontalFlip"),
        (v1.Compose([v2.RandomHorizontalFlip()]), r"use torchvision.transforms.v2.Compose"),
        ([v2.RandomHorizontalFlip()], r"make it v2.Compose"),
        (None, r"takes a v2 transform, got None"),
    ],
)
def test_what_is_no_v2_pipeline_is_refused(pipeline, message):
    with pytest.raises(TypeError, match=message):
        JointTransform(pipeline)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"human_saliency": torch.zeros(24, 32)}, ValueError, r"size \(24, 32\), its image \(48, 64\).*resize"),
        ({"human_saliency": torch.zeros(4, 1, *SIZE)}, TypeError, r"\(H, W\) or \(K, H, W\), got shape"),
        ({"human_saliency": None}, TypeError, r"got NoneType"),
        ({"human_saliency": torch.zeros(SIZE, dtype=torch.uint8)}, TypeError, r"must be float, got torch.uint8"),
        ({"image": torch.zeros(2, 3, *SIZE)}, TypeError, r"\(C, H, W\), got shape .*KorniaJoint"),
        ({"image": "a.png"}, TypeError, r"got str; a picture"),
        ({"annotated": torch.ones(3, 3)}, ValueError, r"annotated'\] has shape \(3, 3\), expected one bool"),
    ],
)
def test_a_sample_that_cannot_move_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        JointTransform(v2.Identity())({**sample_at(3.0, 3.0), **change})


def test_what_is_no_sample_is_refused():
    with pytest.raises(TypeError, match=r"dict with 'image' and 'human_saliency', got the keys \['image'\]"):
        JointTransform(v2.Identity())({"image": torch.zeros(3, 4, 4)})
    with pytest.raises(TypeError, match=r"got tuple"):
        JointTransform(v2.Identity())((torch.zeros(3, 4, 4), 1))


@pytest.mark.parametrize(
    ("transform", "error", "message"),
    [
        (Cropped(), ValueError, r"after the pipeline the map has size \(48, 64\) and its image \(48, 63\)"),
        (Brighter(), TypeError, r"returned Tensor for 'image', expected Image: .*tv_tensors.wrap"),
        (lambda sample: (sample["image"], 1), TypeError, r"must return the sample, a dict with .*, got tuple"),
        (lambda sample: {"image": sample["image"]}, TypeError, r"got the keys \['image'\]"),
    ],
    ids=["crops alone", "forgets types", "tuple", "loses keys"],
)
def test_a_trusted_transform_that_breaks_the_sample_is_seen(transform, error, message):
    with pytest.raises(error, match=message):
        JointTransform(transform, trusted=[transform])(sample_at(3.0, 3.0))


def test_a_map_in_any_structure_moves_without_the_joint_transform():
    image, human = tv_tensors.Image(sample_at(20.0, 5.0)["image"]), SaliencyMap(blob(*SIZE, 20.0, 5.0))
    pipeline = v2.Compose([v2.RandomResizedCrop(40), v2.RandomAffine(20, interpolation=BILINEAR)])
    (image, [human]), target = pipeline(((image, [human]), 1))
    assert distance(image, human.as_subclass(torch.Tensor)) < 0.1
    assert target == 1
