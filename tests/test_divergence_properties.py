"""Any finite map, however extreme: no NaN, no infinity that need not be, no gradient that explodes near flatness."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import saliency_losses as sl
from saliency_losses.divergences import (
    KL,
    MSE,
    RAW,
    MaxAbs,
    MinMax,
    RightReasons,
    Softmax,
    SumToOne,
    ZScore,
    ZScoreReLU,
    create_normalizer,
    list_normalizers,
)
from saliency_losses.testing.probes import draw_human, probe_size

HUGE = torch.finfo(torch.float32).max
KINDS = ("normal", "ramp", "flat", "nearly flat", "zero", "one-hot", "two", "positive", "cancelling", "mixed")

NORMALIZERS = {
    **{name: create_normalizer(name) for name in list_normalizers()},
    "minmax of the batch": MinMax(scope="batch"),
    "minmax with a floor": MinMax(floor=1e-8),
    "zscore of the batch": ZScore(scope="batch"),
    "max_abs with a floor": MaxAbs(floor=1e-8),
    "sharp softmax": Softmax(temperature=1e-3),
    "softmax of what it gets": Softmax(standardize=False),
    "sum, detached": SumToOne(detach=True),
}
DIVERGENCES = {
    **{name: sl.create_divergence(name) for name in sl.list_divergences()},
    "mse of raw maps": MSE(normalize="none"),
    "mse by the largest": MSE(normalize="max_abs"),
    "mse of unit maps": MSE(normalize="l2", human_normalize="l2"),
    "mse of z-scores": MSE(normalize="zscore", human_normalize="zscore"),
    "kl of sums": KL(normalize="sum"),
    "kl, reversed": KL(direction="model_human"),
    "kl of the benchmark": KL(normalize="sum", form="mit"),
    "right_reasons by the largest": RightReasons(normalize="max_abs"),
}
QUICK = ("mse", "kl", "correlation", "right_reasons", "kl of sums")


def shaped(kind, size, generator):
    """One map of a kind, of magnitude one, float64."""
    noise = torch.randn(size, generator=generator, dtype=torch.float64)
    one = torch.zeros(size, dtype=torch.float64)
    one.view(-1)[int(torch.randint(one.numel(), (), generator=generator))] = 1.0
    ramp = torch.linspace(-1.0, 1.0, one.numel(), dtype=torch.float64).view(size)
    return {
        "normal": noise,
        "ramp": ramp,
        "flat": torch.ones_like(noise),
        "nearly flat": 1.0 + 10.0 ** float(torch.randint(-9, -2, (), generator=generator)) * noise,
        "zero": torch.zeros_like(noise),
        "one-hot": one,
        "two": (noise > 0).double(),
        "positive": noise.abs(),
        "cancelling": ramp.sign() + 1e-6 * noise,
        "mixed": noise * torch.pow(10.0, torch.randint(-37, 1, size, generator=generator).double()),
    }[kind]


def maps(kinds, exponents, signs, seed, size):
    """Maps in float32, one row of each kind, of magnitudes 10 ** exponent."""
    generator = torch.Generator().manual_seed(seed)
    rows = [
        sign * 10.0**exponent * shaped(kind, size, generator)
        for kind, exponent, sign in zip(kinds, exponents, signs, strict=True)
    ]
    return torch.stack(rows).clamp(-HUGE, HUGE).float()


def examples(count, slow):
    """How many batches are tried; ``derandomize`` tries the same each time."""
    return settings(max_examples=count if not slow else 30 * count, derandomize=True, deadline=None, database=None)


ROWS = 3
BATCHES = {
    "kinds": st.lists(st.sampled_from(KINDS), min_size=ROWS, max_size=ROWS),
    "exponents": st.lists(st.floats(-44.0, 38.0), min_size=ROWS, max_size=ROWS),
    "signs": st.lists(st.sampled_from((1.0, -1.0)), min_size=ROWS, max_size=ROWS),
    "seed": st.integers(0, 2**16),
}


def value_and_gradient(function, model, *others):
    leaf = model.clone().requires_grad_()
    value = function(leaf, *others)
    (gradient,) = torch.autograd.grad(value.sum(), leaf, materialize_grads=True)
    return value.detach(), gradient


def finite_where_representable(found, exact, what):
    assert not found.isnan().any(), f"{what}: NaN"
    must = exact.isfinite() & (exact.abs() < 1e-2 * HUGE)  # near flatness rounding costs digits
    assert found[must].isfinite().all(), f"{what}: infinite where {exact[must & ~found.isfinite()][:3]} is right"


def with_known(seed, shape, how):
    """Weights of cells: none, some in full, in part, or none of one map."""
    if how == "all":
        return None
    known = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    known = known if how == "share" else known.round()
    if how == "some":
        known[0] = 0.0
    return known


KNOWN = st.sampled_from(("all", "some", "share"))


def check_normalizer(name, slow, kinds, exponents, signs, seed, how):
    apply = NORMALIZERS[name]
    model = maps(kinds, exponents, signs, seed, (12,))
    known = with_known(seed, model.shape, how)
    probe = torch.rand(model.shape, generator=torch.Generator().manual_seed(seed + 1))
    forms = [("value", apply)] + ([("logarithm", apply.log)] if apply.distribution else [])
    for form, function in forms:
        value, gradient = value_and_gradient(lambda x, function=function: function(x, known) * probe, model)
        wide = None if known is None else known.double()
        exact, slope = value_and_gradient(
            lambda x, function=function, wide=wide: function(x, wide) * probe.double(), model.double()
        )
        finite_where_representable(value, exact, form)
        finite_where_representable(gradient, slope, f"gradient of the {form}")
        if known is not None:
            assert not value[known == 0].any()
            assert not gradient[known == 0].any()
    if apply.distribution:
        total = (apply(model, known) * (1.0 if known is None else (known > 0))).sum(1)
        expected = torch.ones(ROWS) if known is None else known.amax(1).sign()
        torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-4)
    if not apply.per_batch:
        alone = torch.cat([apply(model[i : i + 1], None if known is None else known[i : i + 1]) for i in range(ROWS)])
        torch.testing.assert_close(apply(model, known), alone, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("name", NORMALIZERS)
@given(how=KNOWN, **BATCHES)
@examples(25, slow=False)
def test_normalizers_stay_finite(name, kinds, exponents, signs, seed, how):
    check_normalizer(name, False, kinds, exponents, signs, seed, how)


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMALIZERS)
@given(how=KNOWN, **BATCHES)
@examples(25, slow=True)
def test_normalizers_stay_finite_at_length(name, kinds, exponents, signs, seed, how):
    check_normalizer(name, True, kinds, exponents, signs, seed, how)


def human_maps(divergence, size, seed, exponent, kind):
    """Human maps in the divergence's range, of any magnitude where it takes any; the first as ``kind`` says."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        human = draw_human(divergence, size)
    if human is None:
        return None
    low, high = divergence.human_range
    human = human[:ROWS]
    if high == math.inf and divergence.reads != "fixations":
        human = human * 10.0**exponent
    elif divergence.reads == "mask":
        human = human * 10.0 ** min(exponent, 0.0)
    if kind in ("zero", "flat", "one-hot"):
        human[0] = shaped(kind, size, torch.Generator().manual_seed(seed))
    return human.clamp(low, min(high, HUGE)).float()


def check(name, kinds, exponents, signs, seed, how, exponent, kind):
    divergence = DIVERGENCES[name]
    size = probe_size(divergence)
    model = maps(kinds, exponents, signs, seed, size)
    human = human_maps(divergence, size, seed, exponent, kind)
    known = None if human is None else with_known(seed, model.shape, how)
    holes = human if known is None else torch.where(known > 0, human, math.nan)
    value, gradient = value_and_gradient(divergence, model, holes, known)
    wide = [None if tensor is None else tensor.double() for tensor in (holes, known)]
    exact, slope = value_and_gradient(divergence, model.double(), *wide)
    finite_where_representable(value, exact, "value")
    finite_where_representable(gradient, slope, "gradient")
    if known is not None:
        assert not value[known.flatten(1).amax(1) == 0].any()


EVERYTHING = {**BATCHES, "how": KNOWN, "exponent": st.floats(-44.0, 38.0), "kind": st.sampled_from(KINDS)}


@pytest.mark.parametrize("name", DIVERGENCES)
@given(**EVERYTHING)
@examples(10, slow=False)
def test_divergences_stay_finite(name, **drawn):
    check(name, **drawn)


@pytest.mark.filterwarnings("ignore:Optimal transport is not exact")  # where cells that are unknown cut a map in two
@pytest.mark.slow
@pytest.mark.parametrize("name", DIVERGENCES)
@given(**EVERYTHING)
@examples(10, slow=True)
def test_divergences_stay_finite_at_length(name, **drawn):
    check(name, **drawn)


INVARIANT = [
    name
    for name, divergence in DIVERGENCES.items()
    if divergence.normalize != RAW and not getattr(divergence.normalize, "floor", 0.0)
]
SHIFTS = (MinMax, Softmax, ZScore, ZScoreReLU)  # a flat map is nothing to these
STEEPNESS = {"kl of sums": 1e8, "kl of the benchmark": 1e16}  # the floors of their logarithms
MODERATE = [kind for kind in KINDS if kind != "mixed"]


@pytest.mark.parametrize("name", INVARIANT)
@given(
    kinds=st.lists(st.sampled_from(MODERATE), min_size=ROWS, max_size=ROWS),
    seed=st.integers(0, 2**16),
    power=st.integers(-99, 99),
)
@examples(10, slow=False)
def test_scale_changes_nothing(name, kinds, seed, power):
    """By powers of two, which change no digit: value and gradient are the same to the bit."""
    divergence = DIVERGENCES[name]
    size = probe_size(divergence)
    model = maps(kinds, [0.0] * ROWS, [1.0] * ROWS, seed, size)
    human = human_maps(divergence, size, seed, 0.0, "normal")
    value, gradient = value_and_gradient(divergence, model, human)
    scaled, slope = value_and_gradient(divergence, model * 2.0**power, human)
    torch.testing.assert_close(scaled, value, rtol=1e-6, atol=1e-12)
    fits = gradient.double().abs() < 1e-2 * HUGE * 2.0 ** min(power, 0)
    torch.testing.assert_close((slope * 2.0**power)[fits], gradient[fits], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", INVARIANT)
@given(deviation=st.floats(-9.0, -1.0), exponent=st.floats(-30.0, 30.0), seed=st.integers(0, 2**16))
@examples(15, slow=False)
def test_no_gradient_explodes_near_flatness(name, deviation, exponent, seed):
    divergence = DIVERGENCES[name]
    size = probe_size(divergence)
    noise = torch.randn((ROWS, *size), generator=torch.Generator().manual_seed(seed))
    model = (1.0 + 10.0**deviation * noise) * 10.0**exponent
    human = human_maps(divergence, size, seed, 0.0, "normal")
    _, gradient = value_and_gradient(divergence, model, human)
    moved = gradient.abs().flatten(1).amax(1) * 10.0**exponent
    steepest = 100.0 * STEEPNESS.get(name, 1.0) * 10.0 ** -max(deviation, -6.0)
    assert bool((moved <= steepest).all())
    if deviation < -8.0 and isinstance(divergence.normalize, SHIFTS):
        assert not gradient.any()
