"""Normalisers: beside NumPy and SciPy, their options, flat and empty maps, unknown cells, as values, errors."""

import copy
import pickle

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from saliency_losses import divergences
from saliency_losses.divergences import (
    L2,
    MSE,
    MaxAbs,
    MinMax,
    Normalizer,
    Raw,
    Softmax,
    SumToOne,
    ZScore,
    ZScoreReLU,
    create_normalizer,
    list_normalizers,
    register_normalizer,
)
from saliency_losses.divergences.normalizer import NORMALIZERS
from saliency_losses.testing import check_gradients


def shifted(x):
    x = x - min(x.min(), 0.0)
    return x / x.sum()


ORACLES = {
    "none": lambda x: x,
    "minmax": lambda x: (x - x.min()) / (x.max() - x.min()),
    "max_abs": lambda x: x / np.abs(x).max(),
    "l2": lambda x: x / np.linalg.norm(x),
    "zscore": scipy.stats.zscore,
    "zscore_relu": lambda x: np.maximum(scipy.stats.zscore(x), 0.0),
    "sum": shifted,
    "softmax": lambda x: scipy.special.softmax(scipy.stats.zscore(x)),
}
FLAT = {"none": 5.0, "minmax": 0.0, "max_abs": 1.0, "l2": 12**-0.5, "zscore": 0.0, "zscore_relu": 0.0}
FLAT |= dict.fromkeys(("sum", "softmax"), 1 / 12)
WITH_SCOPE = [MinMax, MaxAbs, L2, ZScore, ZScoreReLU]
DETACHED = [MinMax, MaxAbs, L2, ZScore, ZScoreReLU, SumToOne, Softmax]

each = pytest.mark.parametrize("name", list_normalizers())
by_class = pytest.mark.parametrize("kind", WITH_SCOPE)


def draw(rows=3, cells=12, seed=0):
    return torch.randn(rows, cells, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_registered_name_has_an_oracle():
    assert sorted(ORACLES) == list_normalizers()


@each
@pytest.mark.parametrize("shift", [0.0, 4.0])
def test_equals_its_oracle(name, shift):
    maps = draw() + shift
    found = create_normalizer(name)(maps)
    for row, expected in zip(found, maps, strict=True):
        np.testing.assert_allclose(row.numpy(), ORACLES[name](expected.numpy()), rtol=1e-10, atol=1e-14)


@each
def test_known_cells_are_normalised_as_if_there_were_no_others(name):
    apply, maps = create_normalizer(name), draw()
    known = torch.ones_like(maps)
    known[:, 3::4] = 0.0
    known[2] = 0.0
    inside = known[0] > 0
    for content in (9.0, -1e30, 1e-30):
        found = apply(torch.where(known > 0, maps, content), known)
        torch.testing.assert_close(found[:2, inside], apply(maps[:2, inside]))
        assert not found[:2, ~inside].any()
        assert not found[2].any()
    shares = apply(maps, known)
    if apply.distribution:
        torch.testing.assert_close(apply.log(maps, known).exp()[:2, inside], shares[:2, inside], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["zscore", "zscore_relu", "l2", "sum", "softmax"])
def test_a_cell_of_weight_two_thirds_counts_two_thirds(name):
    """As if there were two such cells beside three of each other."""
    apply, maps = create_normalizer(name), draw(1, 4)
    known = torch.tensor([[1.0, 2 / 3, 1.0, 1.0]], dtype=torch.float64)
    times = torch.tensor([3, 2, 3, 3])
    first = torch.cat([torch.zeros(1, dtype=torch.long), times.cumsum(0)[:-1]])
    wide = apply(maps.repeat_interleave(times, 1))
    expected = {
        "l2": wide[:, first] * 3**0.5,
        **dict.fromkeys(("sum", "softmax"), torch.stack([part.sum(1) for part in wide.split(times.tolist(), 1)], 1)),
    }.get(name, wide[:, first])
    torch.testing.assert_close(apply(maps, known), expected)


@by_class
def test_statistics_of_the_batch(kind):
    apply, maps = kind(scope="batch"), draw()
    torch.testing.assert_close(apply(maps), kind()(maps.view(1, -1)).view(3, 12))
    known = torch.ones_like(maps)
    known[1] = 0.0
    some = apply(torch.where(known > 0, maps, 1e6), known)
    torch.testing.assert_close(some[[0, 2]], apply(maps[[0, 2]]))
    assert not some[1].any()
    assert apply.per_batch
    assert not kind().per_batch
    divergence = MSE(normalize=apply)
    assert (divergence.scope, MSE(human_normalize=apply).scope, MSE().scope) == ("batch", "batch", "sample")


@by_class
def test_a_floor_is_added_to_what_is_divided_by(kind):
    maps = draw()
    statistic = {
        MinMax: maps.amax(1) - maps.amin(1),
        MaxAbs: maps.abs().amax(1),
        L2: maps.norm(dim=1),
        ZScore: maps.std(1, correction=0),
        ZScoreReLU: maps.std(1, correction=0),
    }[kind]
    factor = (statistic / (statistic + 0.5)).unsqueeze(1)
    torch.testing.assert_close(kind(floor=0.5)(maps), kind()(maps) * factor)


@pytest.mark.parametrize("kind", [MinMax, ZScore, ZScoreReLU, Softmax, SumToOne])
def test_what_is_flat_is_chosen(kind):
    maps = 1.0 + 1e-3 * draw(2)
    if kind is SumToOne:  # flat once shifted to its minimum
        maps = maps - 2.0
    flat = kind()(torch.ones_like(maps))
    torch.testing.assert_close(kind(eps=0.1)(maps), flat)
    assert not torch.allclose(kind()(maps), flat)


@pytest.mark.parametrize("kind", DETACHED)
def test_detached_statistics_are_constants_of_the_gradient(kind):
    """The gradient is that of the map divided by and shifted by numbers."""
    maps, probe = draw(), draw(seed=1)
    held = kind(detach=True)
    torch.testing.assert_close(held(maps), kind()(maps))
    leaf = maps.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((held(leaf) * probe).sum(), leaf)
    low, deviation = maps.amin(1, keepdim=True), maps.std(1, correction=0, keepdim=True)
    shifts = {MinMax: low, SumToOne: low, MaxAbs: 0.0, L2: 0.0}
    shift = shifts.get(kind, maps.mean(1, keepdim=True))
    divisor = {
        MinMax: maps.amax(1, keepdim=True) - low,
        MaxAbs: maps.abs().amax(1, keepdim=True),
        L2: maps.norm(dim=1, keepdim=True),
        SumToOne: (maps - low).sum(1, keepdim=True),
    }.get(kind, deviation)
    again = maps.clone().requires_grad_()
    result = (again - shift) / divisor
    result = {ZScoreReLU: torch.relu, Softmax: lambda x: x.softmax(1)}.get(kind, lambda x: x)(result)
    torch.testing.assert_close(gradient, torch.autograd.grad((result * probe).sum(), again)[0])
    through = maps.clone().requires_grad_()
    assert not torch.allclose(gradient, torch.autograd.grad((kind()(through) * probe).sum(), through)[0])


@each
def test_gradients_agree_with_finite_differences(name):
    apply, probe = create_normalizer(name), draw(seed=1)
    share = torch.rand(3, 12, dtype=torch.float64)
    forms = [apply, apply.log] if apply.distribution else [apply]
    for function in forms:
        for known in (None, share, share.round()):
            leaf = draw(seed=2).requires_grad_()
            check_gradients(lambda f=function, x=leaf, k=known: (f(x, k) * probe).sum(), {name: leaf})


@each
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_flat_and_empty_maps(name, size):
    apply = create_normalizer(name)
    expected = FLAT[name] * (size if name == "none" else 1.0)
    for known in (None, torch.ones(2, 12)):
        leaf = torch.full((2, 12), 5.0 * size, requires_grad=True)
        value = apply(leaf, known)
        torch.testing.assert_close(value, torch.full((2, 12), expected))
        (gradient,) = torch.autograd.grad((value * torch.rand(2, 12)).sum(), leaf)
        assert gradient.isfinite().all()
        if name in ("minmax", "zscore", "zscore_relu", "softmax"):
            assert not gradient.any()
        leaf = torch.zeros(2, 12, requires_grad=True)
        value = apply(leaf, known)
        torch.testing.assert_close(value, torch.full((2, 12), 1 / 12 if apply.distribution else 0.0))
        (gradient,) = torch.autograd.grad((value * torch.rand(2, 12)).sum(), leaf)
        assert gradient.any() == (name == "none")


@each
def test_a_broken_map_stays_broken_and_alone(name):
    """NaN and infinity are no flat map: what is wrong shows, in its own row."""
    apply = create_normalizer(name)
    for content in (float("nan"), float("inf")):
        maps = draw()
        expected = apply(maps)
        maps[1, 4] = content
        found = apply(maps)
        assert not found[1].isfinite().all()
        torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])


def test_softmax_sharpens_by_its_temperature_and_can_take_maps_as_they_are():
    maps = draw()
    z = torch.from_numpy(scipy.stats.zscore(maps.numpy(), axis=1))
    torch.testing.assert_close(Softmax(temperature=0.25)(maps), (z / 0.25).softmax(1))
    torch.testing.assert_close(Softmax(temperature=2.0, standardize=False)(maps), (maps / 2.0).softmax(1))
    torch.testing.assert_close(Softmax(temperature=0.25).log(maps), (z / 0.25).log_softmax(1))


def test_sum_shifts_to_its_minimum_and_adds_a_floor_to_logarithms():
    maps = draw()
    lifted = maps - maps.amin(1, keepdim=True) + 0.1
    torch.testing.assert_close(SumToOne(minimum=0.1)(maps), lifted / lifted.sum(1, keepdim=True))
    above = maps.abs() + 1.0
    torch.testing.assert_close(SumToOne(minimum=0.1)(above), above / above.sum(1, keepdim=True))
    torch.testing.assert_close(SumToOne(log_floor=0.5).log(above), (SumToOne()(above) + 0.5).log())


def test_options_make_a_value():
    """Two of the same options are one key, however they were made; any other option, or class, is another."""
    assert MinMax() == create_normalizer("minmax") == copy.deepcopy(MinMax()) == pickle.loads(pickle.dumps(MinMax()))
    different = {MinMax(), MinMax(detach=True), MinMax(scope="batch"), MinMax(eps=0.1), MaxAbs(), Raw(), ZScore()}
    assert len(different) == 7
    assert len({hash(MinMax()), hash(MinMax(eps=1e-6))}) == 1
    assert ZScore() != ZScoreReLU()
    with pytest.raises(AttributeError, match="cannot assign to field 'eps'"):
        MinMax().eps = 0.1


@pytest.mark.parametrize(
    ("normalizer", "written"),
    [
        (MinMax(), "MinMax()"),
        (MinMax(scope="batch", detach=True), "MinMax(scope='batch', detach=True)"),
        (Softmax(temperature=0.5, standardize=False), "Softmax(temperature=0.5, standardize=False)"),
        (SumToOne(minimum=0.1), "SumToOne(minimum=0.1)"),
        (Raw(), "Raw()"),
    ],
)
def test_is_written_as_it_is_made(normalizer, written):
    assert repr(normalizer) == written
    assert eval(written, vars(divergences)) == normalizer


def test_your_own_is_registered_by_name():
    class Square(Normalizer):
        """No dataclass: it has no option."""

        def __call__(self, x, known=None):
            return x.square()

    register_normalizer("square")(Square)
    try:
        divergence = MSE(normalize="square", human_normalize="none")
        assert float(divergence(torch.tensor([[2.0]]), torch.tensor([[1.0]]))) == 9.0
    finally:
        del NORMALIZERS._makers["square"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: create_normalizer("softmaxx"), ValueError, "Unknown normalizer 'softmaxx'. Did you mean 'softmax'"),
        (lambda: create_normalizer("minmax", temperature=1.0), TypeError, "unexpected keyword argument"),
        (lambda: MinMax("batch"), TypeError, "positional argument"),
        (lambda: ZScore(scope="all"), ValueError, "scope must be 'sample' or 'batch', got 'all'"),
        (lambda: ZScore(eps=-1.0), ValueError, "eps must be finite and not negative, got -1.0"),
        (lambda: MaxAbs(floor=float("nan")), ValueError, "floor must be finite and not negative, got nan"),
        (lambda: ZScore(eps=1.0), ValueError, "eps must be below 1, or every map is flat, got 1.0"),
        (lambda: MinMax(floor=float("inf")), ValueError, "floor must be finite and not negative, got inf"),
        (lambda: SumToOne(minimum=float("nan")), ValueError, "minimum must be finite, got nan"),
        (lambda: Softmax(temperature=0.0), ValueError, "temperature must be positive, got 0.0"),
        (lambda: Softmax(temperature=float("inf")), ValueError, "temperature must be finite and not negative, got inf"),
        (
            lambda: Softmax(temperature=torch.nn.Parameter(torch.ones(()))),
            TypeError,
            "temperature must be a number, which is not learned, got Parameter",
        ),
        (
            lambda: MinMax().log(draw()),
            ValueError,
            r"MinMax\(\) gives no distribution over positions; use 'softmax' or",
        ),
        (
            lambda: MSE(normalize=MinMax),
            TypeError,
            r"normalizer must be a name or a Normalizer, .*Pass an instance: Min",
        ),
        (lambda: MSE(normalize=None), TypeError, "normalizer must be a name or a Normalizer, got None"),
    ],
)
def test_bad_options(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_normalizer_that_is_no_dataclass_equals_itself_alone():
    """Parts of a sum share what is equal, so two of other options must not be."""

    class Power(Normalizer):
        def __init__(self, power):
            object.__setattr__(self, "power", power)

        def __call__(self, x, known=None):
            return x.abs() ** self.power

    one, other, maps = Power(1.0), Power(3.0), torch.rand(2, 5)
    assert one != other
    total = MSE(normalize=one) + MSE(normalize=other)
    torch.testing.assert_close(total(maps, maps), MSE(normalize=one)(maps, maps) + MSE(normalize=other)(maps, maps))
