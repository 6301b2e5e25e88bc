"""Kernels in Triton's interpreter against the definition in double precision: values and gradients."""

import copy

import pytest
import torch
from conftest import one_of
from kernel_cases import DTYPES, PARTS, QUICK, agree, errors, found, humans, require_interpreter, rows, three

import saliency_losses as sl
from saliency_losses.divergences import KL, MSE, SSIM, Dice, Softmax
from saliency_losses.divergences.evaluate import evaluate
from saliency_losses.kernels.plan import KINDS

pytestmark = [pytest.mark.interpreter, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


@pytest.fixture(scope="module", autouse=True)
def _interpreted():
    require_interpreter()


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """Memory that kernels are given holds NaN, so that what they do not write shows."""

    def poison(make):
        def poisoned(*args, **kwargs):
            made = make(*args, **kwargs)
            return made.fill_(float("nan")) if made.is_floating_point() else made

        return poisoned

    monkeypatch.setattr(torch, "empty", poison(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poison(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poison(torch.Tensor.new_empty))


def kind(name, **options):
    return sl.create_divergence(name, backend="triton", **options)


# Denormal maps are empty in single precision and not in double: they are compared in one precision.
EMPTY = ("denormal",)


@pytest.mark.parametrize("count", [49, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", one_of(PARTS, *QUICK))
def test_odd_rows(name, count):
    odd = {key: row for key, row in rows(count).items() if key not in EMPTY}
    human = humans(count)["uniform"]
    # A value as large as a huge map's square is infinite, and the sine of it is nothing.
    agree([PARTS[name]], torch.stack([*odd.values()]), human.expand(len(odd), count), gradient=1e-4, names=[*odd])


@pytest.mark.parametrize("count", [49, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", one_of(PARTS, *QUICK))
def test_odd_human_maps(name, count):
    odd = {key: row for key, row in humans(count).items() if key not in EMPTY}
    model = rows(count)["normal"]
    agree([PARTS[name]], model.repeat(len(odd), 1), torch.stack([*odd.values()]), gradient=1e-4, names=[*odd])


SIZES = (1, 2, 16, 17, 197, 512, 513, 1024, 1025, 2048, 2049, 4096, 4097, 8193)


@pytest.mark.parametrize("count", [*SIZES, 50176])
@pytest.mark.parametrize("name", one_of((*KINDS, "MAE of softmax", "MSE of zscore_relu"), *KINDS))
def test_every_size_of_rows(name, count):
    batch = 3 if count < 10_000 else 1
    model, human = torch.randn(batch, count), torch.rand(batch, count)
    agree([PARTS[name]], model, human, gradient=5e-6)


@pytest.mark.parametrize("batch", [1, 2, 31, 32, 33])
def test_batches_that_do_not_fill_their_programs(batch):
    agree([PARTS["mse"], PARTS["kl"]], torch.randn(batch, 16), torch.rand(batch, 16))


@pytest.mark.parametrize("count", [49, 5000])
@pytest.mark.parametrize("name", ["mse", "kl", "energy", "cosine", "MSE of sum"])
def test_maps_below_the_normal_numbers_are_empty(name, count):
    model, human = rows(count), humans(count)
    maps = torch.stack([model["denormal"], model["normal"], model["denormal"]])
    others = torch.stack([human["uniform"], human["denormal"], human["denormal"]])
    kernel, single, _ = three([PARTS[name]], maps, others)
    torch.testing.assert_close(kernel.values, single.values, rtol=2e-6, atol=2e-6)
    own, _ = errors(kernel, single, maps), None
    assert (own[1] < 1e-4).all()


@pytest.mark.parametrize("count", [49, pytest.param(4097, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*KINDS, "MSE of none", "MSE of zscore", "Dice of none"])
def test_rows_without_numbers_are_seen_and_disturb_no_neighbour(name, count):
    model, human = torch.randn(7, count), torch.rand(7, count)
    clean = three([PARTS[name]], model, human)[0]
    for value in (float("nan"), float("inf"), float("-inf")):
        for side in ("model", "human"):
            odd, other = model.clone(), human.clone()
            (odd if side == "model" else other)[3, count // 2] = value
            upstream = torch.ones(7)
            weights = torch.ones(1, 7)
            kernel = found([PARTS[name]], "triton", odd, other, weights, upstream)
            single = found([PARTS[name]], "eager", odd, other, weights, upstream)
            again = found([PARTS[name]], "triton", model, human, weights, upstream)
            rest = [0, 1, 2, 4, 5, 6]
            assert torch.equal(kernel.values[:, rest], clean.values[:, rest])
            assert torch.equal(kernel.gradient[rest], again.gradient[rest])
            if not single.values[0, 3].isfinite():
                assert not kernel.values[0, 3].isfinite(), (value, side)
            if single.values[0, 3].isnan() and not value > 0:
                assert kernel.values[0, 3].isnan(), (value, side)


@pytest.mark.parametrize("count", [49, 5000])
@pytest.mark.parametrize("model", DTYPES)
@pytest.mark.parametrize("human", DTYPES)
def test_every_dtype_on_either_side(model, human, count):
    parts = [PARTS["kl"], PARTS["mse"], PARTS["dice"]]
    maps, others = torch.randn(3, count).to(model), torch.rand(3, count).to(human)
    step = float(torch.finfo(model).eps)
    agree(parts, maps, others, gradient=max(2.0 * step, 5e-6))


LAYOUTS = {
    "every other column": lambda maps: maps.repeat_interleave(2, 2)[..., ::2],
    "transposed": lambda maps: maps.transpose(1, 2).contiguous().transpose(1, 2),
    "a channel of channels-last features": lambda maps: torch.stack([maps, -maps, maps], -1)[..., 0],
    "one map for all": lambda maps: maps[:1].expand(len(maps), -1, -1),
    "one number for all": lambda maps: maps[:1, :1, :1].expand(maps.shape),
    "rows far apart": lambda maps: torch.cat([maps, maps], 1)[:, : maps.shape[1]],
    "reversed batch": lambda maps: maps.flip(0),
}


@pytest.mark.parametrize("size", [(7, 9), (65, 64)])
@pytest.mark.parametrize("side", ["model", "human"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout, side, size):
    model, human = torch.randn(5, *size), torch.rand(5, *size)
    if side == "model":
        model = LAYOUTS[layout](model)
    else:
        human = LAYOUTS[layout](human)
    agree([PARTS["mse"], PARTS["kl"]], model, human)


def test_a_leaf_that_is_expanded_gets_the_sum():
    leaf = torch.randn(1, 7, 7, requires_grad=True)
    human = torch.rand(4, 7, 7)
    (kernel,) = torch.autograd.grad(kind("kl")(leaf.expand(4, 7, 7), human).sum(), leaf)
    (eager,) = torch.autograd.grad(KL()(leaf.expand(4, 7, 7), human).sum(), leaf)
    torch.testing.assert_close(kernel, eager, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("count", [49, 5000])
def test_the_gradient_from_above_may_be_one_number_for_all(count):
    model, human = torch.randn(4, count, requires_grad=True), torch.rand(4, count)
    value = kind("kl")(model, human)
    (expanded,) = torch.autograd.grad(value, model, torch.tensor(0.7).expand(4), retain_graph=True)
    (dense,) = torch.autograd.grad(value, model, torch.full((4,), 0.7), retain_graph=True)
    (strided,) = torch.autograd.grad(value, model, torch.full((4, 3), 0.7)[:, 1])
    assert torch.equal(expanded, dense)
    assert torch.equal(strided, dense)


@pytest.mark.parametrize("count", [49, 5000])
def test_a_row_of_weight_zero_takes_no_part(count):
    model, human = torch.randn(3, count), torch.rand(3, count)
    model[1] = float("nan")
    weights = torch.tensor([[1.0, 0.0, 0.3], [0.0, 0.0, 0.7]])
    parts = [PARTS["kl"], PARTS["mse"]]
    kernel = found(parts, "triton", model, human, weights, torch.ones(3))
    assert kernel.total[1] == 0.0
    assert not kernel.gradient[1].any()
    rest = [0, 2]
    agree(parts, model[rest], human[rest], weights=weights[:, rest])
    assert kernel.total[rest].isfinite().all()
    assert kernel.gradient[rest].isfinite().all()


@pytest.mark.parametrize("count", [49, 4097])
@pytest.mark.parametrize("number", [2, 3, 4, 5, 6])
def test_weighted_sums(number, count):
    names = ("mse", "kl", "correlation", "Dice of sum", "energy", "JS of softmax cold to sum")[:number]
    agree([PARTS[name] for name in names], torch.randn(3, count), torch.rand(3, count), weights=torch.rand(number, 3))


def test_sums_of_parts_of_different_backends_and_sizings():
    model, human = torch.randn(3, 6, 7), torch.rand(3, 12, 14)
    parts = [(0.3, MSE), (0.4, KL), (0.2, SSIM), (0.1, Dice)]

    def total(backends):
        own = [{} if make is SSIM else {"backend": backend} for (_, make), backend in zip(parts, backends, strict=True)]
        own[3]["sizing"] = "enlarge"
        return sum(
            (weight * make(**options) for (weight, make), options in zip(parts, own, strict=True)), start=0 * MSE()
        )

    leaf = model.requires_grad_()
    mixed, eager = (total(which)(leaf, human) for which in (("triton", "eager", "", "triton"), ["eager"] * 4))
    torch.testing.assert_close(mixed, eager, rtol=2e-6, atol=2e-6)
    one, other = (torch.autograd.grad(value.sum(), leaf)[0] for value in (mixed, eager))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(7, 7), pytest.param((33, 41), marks=pytest.mark.slow)])
@pytest.mark.parametrize("sizing", ["area", "max", "antialias", "nearest", "enlarge", "enlarge_aligned"])
def test_human_maps_of_another_size(sizing, size):
    larger = tuple(2 * length + 3 for length in size)
    for names in (["mse"], ["kl", "correlation"]):
        parts = [copy.copy(PARTS[name]) for name in names]
        for part in parts:
            part.sizing = sizing
        agree(parts, torch.randn(2, *size), torch.rand(2, *larger), gradient=1e-4)
        agree(parts, torch.randn(2, *larger), torch.rand(2, *size), gradient=1e-4)


@pytest.mark.parametrize("count", [49, 5000])
def test_inputs_are_only_read_and_results_repeat_bit_for_bit(count):
    model, human, weights = torch.randn(5, count, requires_grad=True), torch.rand(5, count), torch.rand(2, 5)
    before = [tensor.detach().clone() for tensor in (model, human, weights)]
    parts = [kind("kl"), kind("mse")]
    total, values = evaluate(parts, weights, model, human, None)
    assert not values.requires_grad
    upstream = torch.rand(5)
    (first,) = torch.autograd.grad(total, model, upstream, retain_graph=True)
    (second,) = torch.autograd.grad(total, model, upstream)
    again, same = evaluate(parts, weights, model, human, None)
    (third,) = torch.autograd.grad(again, model, upstream)
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert torch.equal(total, again)
    assert torch.equal(values, same)
    for tensor, kept in zip((model, human, weights), before, strict=True):
        assert torch.equal(tensor, kept)


# Errors on ordinary maps, each the median and the largest over many rows: PyTorch's up to a factor, or a few units of
# the last place. Sums of long rows are combined before they are subtracted, which costs some digits; the logarithm of
# their length is one number per row, whose rounding does not average out.
@pytest.mark.parametrize("count", [49, 1000, 5000])
@pytest.mark.parametrize("name", KINDS)
def test_no_less_accurate_than_pytorch(name, count):
    batch, factor = (128 if count < 100 else 24), (2.5 if count <= 4096 else 4.0)
    model, human = torch.randn(batch, count) + 1.0, torch.rand(batch, count)
    kernel, single, exact = three([PARTS[name]], model, human)
    for own, other, least in zip(errors(kernel, exact, model), errors(single, exact, model), (6e-7, 3e-7), strict=True):
        for quantile in (0.5, 1.0):
            mine, theirs = own.quantile(quantile), other.quantile(quantile)
            assert mine <= torch.maximum(factor * theirs, torch.tensor(least)), (quantile, float(mine), float(theirs))


def test_a_softmax_of_masked_cells():
    model, human = torch.randn(2, 49), torch.rand(2, 49)
    model[:, 40:], human[:, 40:] = float("-inf"), 0.0
    part = KL(normalize=Softmax(standardize=False), backend="triton")
    eager = KL(normalize=Softmax(standardize=False), backend="eager")
    reverse = {"normalize": Softmax(standardize=False), "direction": "model_human"}
    torch.testing.assert_close(part(model, human), eager(model, human))
    torch.testing.assert_close(KL(backend="triton", **reverse)(model, human), KL(**reverse)(model, human))
