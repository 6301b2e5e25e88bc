"""What each of torchvision's functionals does to a human map."""

import copy
import importlib.util
import inspect
import sys

import pytest
import torch
from blobs import blob
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from saliency_losses.data import SaliencyMap, saliency_kernels
from saliency_losses.data.saliency_kernels import GEOMETRIC, PHOTOMETRIC, register_kernels, unknown_functionals

SIZE = (24, 32)
CORNERS = [[0, 0], [31, 0], [31, 23], [0, 23]]
MOVES = {
    "affine": {"angle": 20.0, "translate": [3, 2], "scale": 1.2, "shear": [5.0, 3.0]},
    "center_crop": {"output_size": [20, 40]},
    "crop": {"top": -2, "left": 3, "height": 20, "width": 40},
    "elastic": {"displacement": 0.2 * torch.sin(torch.arange(24 * 32 * 2.0)).view(1, 24, 32, 2)},
    "five_crop": {"size": [10, 12]},
    "horizontal_flip": {},
    "pad": {"padding": [1, 2, 3, 4]},
    "perspective": {"startpoints": CORNERS, "endpoints": [[3, 2], [29, 1], [31, 20], [1, 23]]},
    "resize": {"size": [11, 9]},
    "resized_crop": {"top": 2, "left": 3, "height": 15, "width": 20, "size": [9, 30]},
    "rotate": {"angle": 33.0, "expand": True},
    "ten_crop": {"size": [10, 12], "vertical_flip": True},
    "vertical_flip": {},
}
CHANGES = {
    "adjust_brightness": {"brightness_factor": 0.5},
    "adjust_contrast": {"contrast_factor": 0.5},
    "adjust_gamma": {"gamma": 2.0},
    "adjust_hue": {"hue_factor": 0.3},
    "adjust_saturation": {"saturation_factor": 0.5},
    "adjust_sharpness": {"sharpness_factor": 2.0},
    "erase": {"i": 1, "j": 1, "h": 9, "w": 9, "v": torch.zeros(1, 1, 1)},
    "gaussian_blur": {"kernel_size": [3, 3]},
    "jpeg": {"quality": 20},
    "normalize": {"mean": [0.5], "std": [0.5]},
    "permute_channels": {"permutation": [0]},
    "posterize": {"bits": 2},
    "rgb_to_grayscale": {"num_output_channels": 3},
    "solarize": {"threshold": 0.5},
    "to_dtype": {"dtype": torch.uint8, "scale": True},
}
SMOOTH = {"interpolation": v2.InterpolationMode.BILINEAR, "antialias": True, "fill": 0}


def human_map(size=SIZE, dtype=torch.float32):
    return blob(*size, 9.0, 20.0).to(dtype)


def accepted(functional, options):
    """Those of the options that a functional has."""
    return {key: value for key, value in options.items() if key in inspect.signature(functional).parameters}


def tensors(result):
    return [part.as_subclass(torch.Tensor) for part in (result if isinstance(result, tuple) else (result,))]


def test_every_functional_of_torchvision_is_judged():
    assert MOVES.keys() == GEOMETRIC.keys()
    assert unknown_functionals() == ["uniform_temporal_subsample"]


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("channels", [(), (1,), (3,)], ids=str)
def test_a_map_moves_as_an_image_that_is_resampled_smoothly(name, channels):
    human = human_map().expand(*channels, *SIZE)
    image = tv_tensors.Image(human.reshape(-1, *SIZE))
    functional = getattr(F, name)
    expected = tensors(functional(image, **MOVES[name], **accepted(functional, SMOOTH)))
    given = functional(SaliencyMap(human), **MOVES[name])
    assert all(isinstance(part, SaliencyMap) for part in (given if isinstance(given, tuple) else (given,)))
    for part, wanted in zip(tensors(given), expected, strict=True):
        assert part.shape == (*channels, *wanted.shape[-2:])
        torch.testing.assert_close(part.reshape(wanted.shape), wanted, atol=1e-6, rtol=0)
        assert not torch.equal(part, human)


@pytest.mark.parametrize("name", ["affine", "elastic", "perspective", "resize", "resized_crop", "rotate"])
def test_a_map_takes_neither_fill_nor_sampling_from_its_image(name):
    image = {"fill": 0.7, "interpolation": v2.InterpolationMode.NEAREST, "antialias": False}
    functional, human = getattr(F, name), SaliencyMap(human_map())
    chosen = accepted(functional, image)
    assert torch.equal(functional(human, **MOVES[name], **chosen), functional(human, **MOVES[name]))


def test_padding_is_empty_or_what_the_image_shows():
    human = SaliencyMap(torch.rand(SIZE))
    assert F.pad(human, [2], fill=[0.1, 0.2, 0.3])[:2].eq(0).all()
    assert torch.equal(F.pad(human, [2], padding_mode="reflect")[:2, 2:-2].flip(0), human[1:3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_values_stay_within_those_of_the_map(name, dtype):
    ones = torch.ones(SIZE, dtype=dtype)
    for human in (ones, torch.rand(SIZE).to(dtype), -ones, 0 * ones):
        for part in tensors(getattr(F, name)(SaliencyMap(human), **MOVES[name])):
            assert part.dtype == dtype
            assert float(part.max()) <= max(0.0, float(human.max()))
            assert float(part.min()) >= min(0.0, float(human.min()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_move_the_map(dtype):
    human = human_map((64, 200)).to(dtype)
    given = F.rotate(SaliencyMap(human), 33.0).float()
    torch.testing.assert_close(given, F.rotate(SaliencyMap(human.float()), 33.0), atol=5e-3, rtol=0)


def test_an_unknown_pixel_does_not_reach_beyond_its_neighbours():
    human = human_map()
    human[0, 0] = float("nan")
    assert F.resize(SaliencyMap(human), [12, 16]).isnan().sum() < 5


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_what_changes_values_leaves_the_map(name):
    human = SaliencyMap(human_map())
    assert getattr(F, name)(human, **CHANGES.get(name, {})) is human


@pytest.mark.parametrize(
    "transform",
    [
        v2.ToDtype(torch.uint8, scale=True),
        v2.ToDtype({tv_tensors.Image: torch.float64, "others": torch.float16}, scale=True),
        v2.ConvertImageDtype(torch.uint8),
        v2.Normalize([0.5] * 3, [0.2] * 3),
        v2.RandomInvert(p=1.0),
        v2.RandomSolarize(0.5, p=1.0),
        v2.RandomAutocontrast(p=1.0),
        v2.RandomEqualize(p=1.0),
        v2.RandomPhotometricDistort(p=1.0),
        v2.RGB(),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_transforms_that_change_values_leave_the_map(transform):
    image, human = tv_tensors.Image(torch.rand(3, *SIZE)), SaliencyMap(human_map())
    assert transform(image, human)[1] is human


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (v2.AutoAugment, TypeError, "SaliencyMap are not supported"),
        (v2.RandAugment, TypeError, "SaliencyMap are not supported"),
        (v2.TrivialAugmentWide, TypeError, "SaliencyMap are not supported"),
        (v2.AugMix, TypeError, "SaliencyMap are not supported"),
        (lambda: v2.FiveCrop(8), TypeError, "not supported by FiveCrop"),
        (lambda: v2.TenCrop(8), TypeError, "not supported by TenCrop"),
        (lambda: v2.UniformTemporalSubsample(1), TypeError, "uniform_temporal_subsample is not known"),
    ],
)
def test_torchvision_refuses_to_move_the_image_alone(make, error, message):
    image, human = tv_tensors.Image(torch.zeros(3, *SIZE, dtype=torch.uint8)), SaliencyMap(human_map())
    with pytest.raises(error, match=message):
        make()(image, human)


@pytest.mark.parametrize("make", [v2.MixUp, v2.CutMix])
def test_torchvision_refuses_to_mix_images_that_have_maps(make):
    images, maps = tv_tensors.Image(torch.rand(2, 3, *SIZE)), SaliencyMap(torch.rand(2, *SIZE))
    with pytest.raises(ValueError, match="does not support"):
        make(num_classes=2)(images, torch.tensor([0, 1]), maps)


def test_torchvision_refuses_a_map_of_another_size():
    with pytest.raises(ValueError, match="multiple HxW"):
        v2.RandomAffine(10)(tv_tensors.Image(torch.rand(3, *SIZE)), SaliencyMap(torch.rand(5, 5)))


def test_a_functional_of_the_future_raises(monkeypatch):
    def warp(inpt: torch.Tensor, amount: float) -> torch.Tensor:
        return F._utils._get_kernel(warp, type(inpt), allow_passthrough=True)(inpt, amount)

    class Maps(tv_tensors.Mask):
        """As SaliencyMap, in the future."""

    warp.__module__ = "torchvision.transforms.v2.functional._geometry"
    monkeypatch.setattr(F, "warp", warp, raising=False)
    monkeypatch.setattr(F._utils, "_KERNEL_REGISTRY", copy.deepcopy(F._utils._KERNEL_REGISTRY))
    register_kernels(Maps)
    with pytest.raises(TypeError, match="torchvision's warp is not known to this version of saliency_losses"):
        warp(torch.zeros(4, 4).as_subclass(Maps), 1.0)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (torch.zeros(4, 4, dtype=torch.uint8), TypeError, r"must be float, got torch.uint8; convert it"),
        (torch.zeros(4, 4, dtype=torch.bool), TypeError, r"must be float, got torch.bool"),
        (torch.zeros(4), ValueError, r"\(H, W\) or \(K, H, W\), got \(4,\)"),
    ],
)
def test_what_is_no_map_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        SaliencyMap(data)


def test_a_map_is_made_as_tensors_are():
    human = SaliencyMap([[0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    assert human.dtype == torch.float64
    assert human.requires_grad
    assert type(human * 2) is torch.Tensor
    assert isinstance(copy.deepcopy(human), SaliencyMap)


def test_without_torchvision_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    path = saliency_kernels.__file__.replace("saliency_kernels", "vision")
    spec = importlib.util.spec_from_file_location("vision_without_torchvision", path)
    with pytest.raises(ImportError, match=r'pip install "saliency-losses\[vision\]"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
