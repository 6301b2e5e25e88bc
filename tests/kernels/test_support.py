"""Which divergences a kernel evaluates, and why others not: without Triton, a GPU or the interpreter."""

import doctest
import inspect
import re
import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import saliency_losses as sl
from saliency_losses.divergences import (
    BCE,
    KL,
    MSE,
    SSIM,
    Cosine,
    Energy,
    MinMax,
    Softmax,
    SumToOne,
    create_normalizer,
    list_normalizers,
)
from saliency_losses.kernels import plan, select, support
from saliency_losses.kernels.plan import KINDS, NORMS, enlarged_sizes, plan_of

MAPS = torch.rand(2, 7, 7)


class OnDevice(Tensor):
    """A map that says that it is somewhere else."""

    device = torch.device("cuda", 0)


def elsewhere(count, *size):
    return torch.ones(1).expand(count, *size).as_subclass(OnDevice)


def reasons(part=None, model=MAPS, human=MAPS, known=None, weights=None):
    weights = torch.ones(1, len(model)) if weights is None else weights
    return support.unsupported_reasons(part or MSE(), weights, model, human, known)


@pytest.fixture
def interpreted(monkeypatch):
    """As if Triton had been asked to interpret kernels, so that the CPU is no reason."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(support, "_TRITON", "3.6.0")


@pytest.mark.usefixtures("interpreted")
def test_there_is_none_against_what_kernels_evaluate():
    assert reasons() == []
    for name in KINDS:
        assert reasons(sl.create_divergence(name)) == [], name
    for dtype in (torch.bfloat16, torch.float16):
        assert reasons(model=MAPS.to(dtype)) == reasons(human=MAPS.to(dtype)) == []
    assert reasons(model=nn.Parameter(MAPS)) == []


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (SSIM(), "there is no kernel for SSIM"),
        (BCE(), "there is no kernel for BCE"),
        (KL(normalize="sum", form="mit"), "there is no kernel for form='mit' of KL"),
        (Energy(floor=0.5), "there is no kernel for Energy with a floor"),
        (MSE(normalize=MinMax(scope="batch")), r"statistics of the whole batch, as MinMax\(scope='batch'\) takes"),
        (MSE(human_normalize=MinMax(scope="batch")), "statistics of the whole batch"),
        (Cosine(normalize=MinMax(floor=0.5)), "Cosine of maps normalised with a floor"),
        (Cosine(human_normalize=MinMax(floor=0.5)), "Cosine of maps normalised with a floor"),
        (Energy(eps=1e-39), r"Energy with eps=1e-39: outside 2\*\*-126 to 2\*\*126"),
        (KL(direction="model_human", floor=1e-300), "KL with floor=1e-300: outside"),
        (KL(normalize=Softmax(temperature=1e39)), r"Softmax\(temperature=1e\+39\) with temperature=1e\+39: outside"),
        (KL(human_normalize=SumToOne(minimum=-1e300)), r"with minimum=-1e\+300: outside"),
    ],
)
def test_reasons_of_the_divergence(part, reason):
    (found,) = reasons(part)
    assert re.search(reason, found)
    assert plan_of(part)[0] is None


@pytest.mark.usefixtures("interpreted")
def test_an_unknown_normalizer_is_a_reason(monkeypatch):
    part = MSE()
    monkeypatch.setattr(support.plan_of.__globals__["NORMALIZERS"], "name_of", lambda part: "mine")
    assert reasons(part) == ["there is no kernel for the normaliser MinMax()"] * 2


@pytest.mark.usefixtures("interpreted")
def test_names_of_classes_are_not_those_of_what_kernels_evaluate():
    class mse(sl.divergences.Divergence):
        def compare(self, model, human, known):
            return model.sum(1)

    class softmax(sl.divergences.Normalizer):
        def __call__(self, x, known=None):
            return x

    assert reasons(mse()) == ["there is no kernel for mse"]
    (reason,) = reasons(MSE(normalize=softmax()))
    assert reason.startswith("there is no kernel for the normaliser")


@pytest.mark.usefixtures("interpreted")
def test_what_was_replaced_on_an_instance_is_a_reason():
    part = MSE()
    part.compare = lambda model, human, known: model.sum(1)
    assert reasons(part) == ["there is no kernel for MSE with another compare"]
    part = KL()
    part.normalize = MinMax()
    assert reasons(part) == ["MinMax() gives no distribution over positions"]


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"known": torch.ones(2, 7, 7)}, "there is no kernel for partly known human maps"),
        ({"model": MAPS.double()}, "there is no kernel for maps of torch.float64"),
        ({"human": MAPS.double()}, "there is no kernel for maps of torch.float64"),
        ({"human": MAPS.clone().requires_grad_()}, "the kernel gives no gradient of the human map"),
        ({"weights": torch.ones(1, 2, requires_grad=True)}, "the kernel gives no gradient of the weights"),
        ({"model": torch.ones(1).expand(1, 2**28 + 1)}, "a map has more cells than the kernel counts, 268435456"),
        ({"human": torch.ones(1).expand(1, 2**28 + 1)}, "a map has more cells than the kernel counts, 268435456"),
    ],
)
def test_reasons_of_the_maps(options, reason):
    (found,) = reasons(**options)
    assert found.startswith(reason)


@pytest.mark.usefixtures("interpreted")
def test_subclasses_of_tensors_are_a_reason():
    class Named(Tensor):
        pass

    assert reasons(model=MAPS.as_subclass(Named)) == ["the kernel does not know subclasses of Tensor"]
    assert reasons(human=MAPS.as_subclass(Named)) == ["the kernel does not know subclasses of Tensor"]


@pytest.mark.usefixtures("interpreted")
def test_transforms_are_a_reason():
    found = []

    def function(model):
        found.extend(reasons(model=model))
        return model.sum()

    torch.func.grad(function)(MAPS)
    assert found == ["the kernel has no rule for transforms of torch.func"]
    with forward_ad.dual_level():
        assert reasons() == ["the kernel has no forward-mode derivative"]


def test_where_kernels_run(monkeypatch):
    monkeypatch.setattr(support, "_TRITON", "3.6.0")
    for value in ("0", "", "no"):
        monkeypatch.setenv("TRITON_INTERPRET", value)
        assert "the maps are on cpu" in reasons()[0]
    for value in ("1", "true", "ON", "y"):
        monkeypatch.setenv("TRITON_INTERPRET", value)
        assert reasons() == []
    assert "the maps are on meta" in reasons(model=MAPS.to("meta"))[0]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    found = reasons(model=elsewhere(2, 7, 7))
    assert "the kernel needs compute capability 8.0, this GPU has (7, 5)" in found
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert reasons(model=elsewhere(2, 7, 7)) == ["the kernel does not know subclasses of Tensor"]


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (None, "Triton is not installed (it comes with PyTorch for CUDA on Linux)"),
        ("3.5.1", "the kernel needs Triton 3.6 or newer, found 3.5.1"),
        ("2.10.0", "the kernel needs Triton 3.6 or newer, found 2.10.0"),
        ("3.6.0+git1234", None),
        ("3.10.0", None),
        ("4.0.0", None),
    ],
)
def test_reasons_of_the_installation(monkeypatch, version, reason):
    monkeypatch.setattr(support, "_TRITON", version)
    assert reasons() == ([] if reason is None else [reason])


def test_triton_is_found_under_any_name(monkeypatch):
    versions = {"pytorch-triton": "3.7.1"}

    def version(name):
        if name not in versions:
            raise support.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(support.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(support, "version", version)
    monkeypatch.setattr(support, "packages_distributions", lambda: {"triton": ["pytorch-triton"]})
    assert support._triton() == "3.7.1"
    versions["triton"] = "3.6.0"
    assert support._triton() == "3.6.0"
    monkeypatch.setattr(support.importlib.util, "find_spec", lambda name: None)
    assert support._triton() is None


def test_what_pytorch_does_faster():
    assert support.slow_reasons(MAPS) == ["on the CPU Triton only interprets kernels"]
    assert support.slow_reasons(elsewhere(1, 64, 64)) == []


def test_an_explicit_request_names_all_reasons_and_the_shapes(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(support, "_TRITON", "3.1.0")
    part = Energy(floor=0.5, backend="triton")
    with pytest.raises(NotImplementedError) as caught:
        part(torch.rand(2, 7, 7, dtype=torch.float64), torch.rand(2, 9, 9), torch.ones(2, 9, 9))
    message = str(caught.value)
    assert message.startswith("No kernel can evaluate Energy(")
    for said in (
        "maps (2, 7, 7) of torch.float64 and human maps (2, 9, 9) of torch.float32",
        "there is no kernel for Energy with a floor",
        "found 3.1.0",
        "the maps are on cpu",
        "partly known human maps",
        "there is no kernel for maps of torch.float64",
        "backend='auto' takes PyTorch then.",
    ):
        assert said in message


def test_one_part_of_a_sum_that_cannot_is_named(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    total = 0.5 * MSE() + 0.5 * KL(backend="triton")
    with pytest.raises(NotImplementedError, match=r"No kernel can evaluate KL\(backend='triton'\)"):
        total(MAPS, MAPS)


def test_auto_never_chooses_the_interpreter(monkeypatch, interpreted):
    assert select.select([MSE()], torch.ones(1, 2), MAPS, MAPS, None) == []
    assert select.select([MSE(backend="triton")], torch.ones(1, 2), MAPS, MAPS, None) == [[0]]
    monkeypatch.setattr(select, "slow_reasons", lambda model: [])
    assert select.select([MSE()], torch.ones(1, 2), MAPS, MAPS, None) == [[0]]
    assert select.select([MSE(backend="eager")], torch.ones(1, 2), MAPS, MAPS, None) == []


def test_parts_share_a_kernel_where_sizes_agree(monkeypatch, interpreted):
    monkeypatch.setattr(select, "slow_reasons", lambda model: [])
    parts = [MSE(), KL(sizing="max"), SSIM(), Cosine(backend="eager"), Energy(), KL(), MSE(normalize="l2")]
    weights = torch.ones(len(parts), 2)
    assert select.select(parts, weights, MAPS, MAPS, None) == [[0, 1, 4, 5], [6]]
    assert select.select(parts, weights, MAPS, torch.rand(2, 9, 9), None) == [[0, 4, 5, 6], [1]]
    assert select.select(parts, weights, MAPS, None, None) == []


def test_what_is_enlarged_inside():
    small, large = torch.ones(1, 7, 7), torch.ones(1, 14, 9)
    assert enlarged_sizes(small, large, "enlarge") == (7, 7, 14, 9, 0)
    assert enlarged_sizes(small, large, "enlarge_aligned") == (7, 7, 14, 9, 1)
    assert enlarged_sizes(small, large, "area") == ()
    assert enlarged_sizes(large, small, "enlarge") == ()
    assert enlarged_sizes(small, small, "enlarge") == ()
    assert enlarged_sizes(torch.ones(1, 7), torch.ones(1, 14), "enlarge") == ()
    assert enlarged_sizes(small, torch.ones(1, 1).expand(1, 7, 2049), "enlarge") == ()


# What plan_of looks at. Where an option is new, it must be passed to the kernels or be a reason against them, and be
# compared with the definition in test_interpreter.py, before it is named here.
OPTIONS = {
    "correlation": "eps sizing backend",
    "cosine": "normalize human_normalize sizing backend",
    "dice": "normalize human_normalize squared sizing backend",
    "energy": "normalize floor eps sizing backend",
    "js": "normalize human_normalize sizing backend",
    "kl": "normalize human_normalize direction form floor sizing backend",
    "mae": "normalize human_normalize sizing backend",
    "mse": "normalize human_normalize sizing backend",
    "right_reasons": "human normalize sizing backend",
    "soft_iou": "normalize human_normalize sizing backend",
}
FIELDS = {
    "l2": "scope floor detach",
    "max_abs": "scope floor detach positive",
    "minmax": "scope eps floor detach",
    "none": "",
    "softmax": "temperature standardize eps detach",
    "sum": "minimum eps log_floor detach",
    "zscore": "scope eps floor detach",
    "zscore_relu": "scope eps floor detach",
}


def test_every_option_is_one_that_plans_know():
    assert {name: " ".join(inspect.signature(type(sl.create_divergence(name))).parameters) for name in KINDS} == OPTIONS
    assert sorted(NORMS) == list_normalizers()
    found = {name: " ".join(field.name for field in fields(create_normalizer(name))) for name in NORMS}
    assert found == FIELDS


CHANGED = {
    "detach": True,
    "eps": 1e-3,
    "floor": 0.25,
    "log_floor": 1e-4,
    "minimum": 0.5,
    "positive": True,
    "standardize": False,
    "temperature": 0.5,
    "direction": "model_human",
    "human": "never_here",
    "squared": False,
}


def test_every_option_changes_the_plan():
    for name, known in FIELDS.items():
        for side in ("normalize", "human_normalize"):
            make = KL if name in ("sum", "softmax") else MSE
            plain = plan_of(make(**{side: name}))[0]
            for option in set(known.split()) - {"scope"}:
                changed = plan_of(make(**{side: create_normalizer(name, **{option: CHANGED[option]})}))[0]
                assert changed is not None, (name, option)
                assert changed != plain, (name, side, option)
    for name, known in OPTIONS.items():
        plain = plan_of(sl.create_divergence(name))[0]
        for option in set(known.split()) - {"sizing", "backend", "normalize", "human_normalize", "form"}:
            changed, against = plan_of(sl.create_divergence(name, **{option: CHANGED[option]}))
            assert changed != plain, (name, option)
            assert (changed is None) == bool(against)


def test_a_step_on_the_cpu_imports_no_triton():
    program = """
import sys, torch, saliency_losses as sl
before = "triton" in sys.modules
net = torch.nn.Sequential(
    torch.nn.Conv2d(3, 4, 3), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2))
guided = sl.SaliencyGuidedLoss(net, "cam", 0.5 * sl.create_divergence("kl") + 0.5 * sl.create_divergence("mse"))
guided(torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0]), torch.rand(4, 9, 9)).loss.backward()
from saliency_losses.kernels import plan, select, support
print(before, "triton" in sys.modules, "saliency_losses.kernels.launch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False False False"


@pytest.mark.parametrize("module", [plan, support], ids=lambda module: module.__name__)
def test_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
