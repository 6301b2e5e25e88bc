"""Every registered divergence: the contract, an oracle, extremes, and golden values of published code."""

import inspect
import math
import re
from typing import get_args

import oracles
import pytest
import torch
from conftest import one_of
from divergence_oracles import DIVERGENCES

import saliency_losses as sl
from benchmarks.shortest import SHORTEST
from saliency_losses.divergences import KL, MSE, MinMax, RightReasons, Softmax, normalize
from saliency_losses.sizing import Sizing
from saliency_losses.testing import check_divergence
from saliency_losses.testing.probes import draw_human

PAIRWISE = ("gini", "ranking", "robust", "sinkhorn")  # their oracles look at every pair of positions
QUICK = ("mse", "kl", "nss", "ssim", "pyramid", "entropy", "total_variation")
BATCH = MSE(normalize=MinMax(scope="batch"), human_normalize=MinMax(scope="batch"))
each = pytest.mark.parametrize("name", sl.list_divergences())


@each
def test_contract(name):
    check_divergence(sl.create_divergence(name))


SIZED = [
    (name, sizing)
    for name in sl.list_divergences()
    if "sizing" in inspect.signature(type(sl.create_divergence(name)).__init__).parameters
    for sizing in get_args(Sizing)
]


@pytest.mark.parametrize("case", one_of(SIZED, *(pair for pair in SIZED if pair[0] == "mse")), ids=str)
def test_contract_at_every_sizing(case):
    name, sizing = case
    check_divergence(sl.create_divergence(name, sizing=sizing))


@pytest.mark.parametrize(
    "divergence",
    [
        MSE(normalize="max_abs", human_normalize="none"),
        MSE(normalize="none"),
        KL(normalize=Softmax(temperature=0.5)),
        KL(normalize="sum"),
        KL(human_normalize="softmax"),
        RightReasons(human="never_here"),
        RightReasons(normalize="max_abs"),
    ],
    ids=repr,
)
def test_contract_with_options(divergence):
    check_divergence(divergence)


@each
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (7, 7), (14, 15), (49,), (3, 4, 5)], ids=str)
def test_equals_its_oracle_or_says_where_it_is_defined(name, size):
    divergence = sl.create_divergence(name)
    model, human = torch.randn(3, *size, dtype=torch.float64), draw_human(divergence, size)
    human = None if human is None else human[1:4]
    if min(size) < divergence.smallest or (divergence.ranks and len(size) not in divergence.ranks):
        where = rf"with at least {divergence.smallest} position\(s\) per axis, got {re.escape(str(size))}"
        with pytest.raises(ValueError, match=where):
            divergence(model, human)
        return
    for m, h, value in zip(model, model if human is None else human, divergence(model, human), strict=True):
        if math.prod(size) == 1:  # one position is a flat map, where formulas divide by zero
            assert value.isfinite()
        else:
            assert float(value) == pytest.approx(DIVERGENCES[name](m.numpy(), h.numpy()), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", one_of((n for n in sl.list_divergences() if n not in PAIRWISE), *QUICK))
def test_equals_its_oracle_on_large_maps(name):
    divergence = sl.create_divergence(name)
    model, human = torch.randn(1, 224, 224, dtype=torch.float64), draw_human(divergence, (224, 224))
    human = None if human is None else human[1:2]
    expected = DIVERGENCES[name](model[0].numpy(), (model if human is None else human)[0].numpy())
    assert float(divergence(model, human)) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_every_registered_name_has_an_oracle():
    assert set(DIVERGENCES) == set(sl.list_divergences())
    assert {*oracles.EXTRACTORS, *oracles.DRAWN} == set(sl.list_extractors())


@pytest.mark.parametrize("name", ["mse", "kl", "correlation"])
@pytest.mark.parametrize("factor", [1e-25, 1e-6, 1e6, 1e25])
def test_scale_of_the_models_map_does_not_matter(name, factor):
    model, human = torch.randn(3, 7, 7), torch.rand(3, 7, 7)
    divergence = sl.create_divergence(name)
    leaf = (model * factor).requires_grad_()
    value = divergence(leaf, human)
    torch.testing.assert_close(value, divergence(model, human), rtol=1e-4, atol=1e-5)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    same = model.clone().requires_grad_()
    (expected,) = torch.autograd.grad(divergence(same, human).sum(), same)
    torch.testing.assert_close(grad * factor, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["mse", "correlation"])
def test_zero_where_the_maps_agree(name):
    human = torch.rand(3, 7, 7, dtype=torch.float64)
    assert float(sl.create_divergence(name)(3.0 * human + 1.0, human).abs().max()) < 1e-12


def test_kl_is_zero_where_the_distributions_agree():
    model = torch.randn(3, 49, dtype=torch.float64)
    human = normalize.standardize(model).softmax(1)
    assert float(KL()(model, human).abs().max()) < 1e-12


def test_what_flat_and_empty_maps_cost():
    flat, human, empty = torch.ones(1, 4), torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.zeros(1, 4)
    ramp = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert float(MSE()(flat, human)) == 0.5
    assert float(MSE()(ramp, empty)) == pytest.approx(float((ramp / 3).square().mean()))
    assert float(KL()(flat, human)) == pytest.approx(0.6931472)
    assert float(KL()(flat, empty)) == pytest.approx(0.0, abs=1e-6)
    assert float(sl.create_divergence("correlation")(flat, human)) == 1.0
    assert float(sl.create_divergence("correlation")(ramp, empty)) == 1.0
    assert float(RightReasons()(ramp, empty)) == 14.0
    assert float(RightReasons(human="never_here")(ramp, empty)) == 0.0


def test_batch_scope_shares_the_extremes():
    model, human = torch.rand(3, 5), torch.rand(3, 5)
    m, h = ((x - x.min()) / (x.max() - x.min()) for x in (model, human))
    torch.testing.assert_close(BATCH(model, human), (m - h).square().mean(1))
    known = torch.tensor([1.0, 0.0, 1.0])[:, None].expand(3, 5)
    pair = torch.tensor([0, 2])
    some = BATCH(model, human, known)
    torch.testing.assert_close(some[pair], BATCH(model[pair], human[pair]))


def test_detached_statistics_change_the_gradient_alone():
    human = torch.rand(1, 6)
    leaf = torch.rand(1, 6, requires_grad=True)
    through, detached = MSE()(leaf, human), MSE(normalize=MinMax(detach=True))(leaf, human)
    assert torch.equal(through, detached)
    first, second = (torch.autograd.grad(v.sum(), leaf)[0] for v in (through, detached))
    assert not torch.allclose(first, second)
    (expected,) = torch.autograd.grad(
        (((leaf - leaf.min().detach()) / (leaf.max() - leaf.min()).detach()) - normalize.minmax(human)).square().mean(),
        leaf,
    )
    torch.testing.assert_close(second, expected)


def test_golden_values_of_published_code():
    # Rao et al. 2023, Model-Guidance, losses.py: A = linspace(-1, 1, 64), box rows and columns 2..5.
    attribution = torch.linspace(-1, 1, 64).view(1, 8, 8)
    box = torch.zeros(1, 8, 8)
    box[:, 2:6, 2:6] = 1.0
    for how in ("none", "max_abs"):
        assert float(RightReasons(normalize=how)(attribution, box)) == pytest.approx(20.700428, rel=1e-6)
    # Boyd et al. 2023, CYBORG, and its batch-global descendant.
    features = torch.arange(24, dtype=torch.float64).sin().view(2, 3, 2, 2)
    weights = torch.arange(6, dtype=torch.float64).cos().view(2, 3)
    cam = torch.einsum("bchw,bc->bhw", features, weights)
    human = (torch.arange(8, dtype=torch.float64) / 7).view(2, 2, 2)
    assert float(MSE(human_normalize="none")(cam, human).mean()) == pytest.approx(0.312754531464, abs=1e-12)
    assert float(BATCH(cam, human).mean()) == pytest.approx(0.317721103290, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MSE(normalize="minmaxx"), r"Unknown normalizer 'minmaxx'. Did you mean 'minmax'"),
        (lambda: MinMax(scope="all"), "scope must be 'sample' or 'batch'"),
        (lambda: KL(normalize="minmax"), r"normalize of KL must make a distribution over positions.*got MinMax\(\)"),
        (
            lambda: KL(human_normalize="l2"),
            r"human_normalize of KL must make a distribution over positions.*got L2\(\)",
        ),
        (lambda: Softmax(temperature=0.0), "temperature must be positive"),
        (lambda: RightReasons(human="here"), "human must be 'look_here' or 'never_here'"),
        (
            lambda: MSE()(torch.rand(2, 3), torch.rand(3, 3)),
            r"MSE expected human maps of shape \(2, \*S of 1 axes\) for model maps \(2, 3\), got \(3, 3\)",
        ),
        (lambda: MSE(sizing="same")(torch.rand(2, 3), torch.rand(2, 4)), r"size \(3,\) and the human map \(4,\)"),
        (
            lambda: MSE(sizing="big"),
            "sizing must be one of area, max, antialias, nearest, enlarge, enlarge_aligned, same",
        ),
        (lambda: MSE(backend="cuda"), "backend must be one of auto, eager, triton, got 'cuda'"),
        (lambda: MSE()(torch.rand(2, 3)), r"MSE\(\) compares with human maps, but none were given"),
        (lambda: MSE()(torch.rand(2, 3), torch.rand(2, 3), torch.rand(2, 2)), "expected known in the shape of the"),
        (lambda: KL(form="mit"), "form='mit' is KL"),
        (lambda: KL(direction="both"), "direction must be 'human_model' or 'model_human'"),
        (lambda: KL(floor=-1.0), "floor must be finite and not negative, got -1.0"),
        (lambda: KL(form="it"), "form must be 'exact' or 'mit'"),
        (lambda: MSE()(torch.rand(2, 0), torch.rand(2, 0)), "expected non-empty maps"),
        (lambda: MSE()(torch.rand(2, 3), torch.ones(2, 3, dtype=torch.long)), "expected floating-point maps"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["mse", "kl", "correlation"])
def test_a_map_that_is_flat_but_for_rounding_is_flat(name):
    """Its rounding errors must not be scaled up to a map; flatness is judged by the map's own size."""
    divergence, human = sl.create_divergence(name), torch.rand(2, 49)
    for size in (1e-20, 1.0, 1e20):
        leaf = (size * (1.0 + 1e-7 * torch.randn(2, 49))).requires_grad_()
        value = divergence(leaf, human)
        torch.testing.assert_close(value, divergence(torch.ones(2, 49), human))
        (grad,) = torch.autograd.grad(value.sum(), leaf)
        assert not grad.any()


def test_every_pointwise_divergence_is_benchmarked_against_the_same_value():
    pointwise = {name for name in sl.list_divergences() if not sl.create_divergence(name).spatial}
    assert set(SHORTEST) == pointwise - {"ranking"}, "ranking compares pairs of cells"
    generator = torch.Generator().manual_seed(4)
    model = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    human = torch.rand(3, 50, generator=generator, dtype=torch.float64)
    human[:, :20], human[:, 20] = 0.0, 1.0
    for name, plain in SHORTEST.items():
        torch.testing.assert_close(sl.create_divergence(name)(model, human), plain(model, human), msg=name)


@pytest.mark.parametrize(
    "name", [name for name in sl.list_divergences() if sl.create_divergence(name).reads != "nothing"]
)
def test_nan_never_passes_for_a_number(name):
    divergence = sl.create_divergence(name)
    human = draw_human(divergence, (7, 8))
    human[0, 2, 3] = float("nan")
    value = divergence(torch.randn(5, 7, 8, dtype=torch.float64), human)
    assert value.isnan().tolist() == [True, False, False, False, False]
