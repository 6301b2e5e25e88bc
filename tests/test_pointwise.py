"""Divergences that compare maps cell by cell: invariances, extremes, what flat and empty maps cost, bad options."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch.nn import functional as F

import saliency_losses as sl
from saliency_losses.divergences import (
    BCE,
    JS,
    KL,
    MAE,
    MINMAX,
    NSS,
    PPCE,
    SIM,
    Cosine,
    Huber,
    MaxAbs,
    Softmax,
    SumToOne,
    cosine_similarity,
    normalize,
)
from saliency_losses.testing import check_divergence

NAMES = ("bce", "cosine", "huber", "js", "mae", "nss", "ppce", "sim")
each = pytest.mark.parametrize("name", NAMES)
POSITIVE = MaxAbs(positive=True)


def value_and_gradient(divergence, model, human, known=None):
    leaf = model.detach().clone().requires_grad_()
    value = divergence(leaf, human, known)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), grad


@pytest.mark.parametrize(
    "divergence",
    [
        BCE(form="logits"),
        BCE(eps=1e-6, normalize="softmax"),
        BCE(human_normalize="none"),
        Cosine(normalize="softmax", human_normalize="sum"),
        Huber(delta=0.1, normalize="none", human_normalize="none"),
        JS(normalize="sum", human_normalize="softmax"),
        JS(normalize=Softmax(temperature=0.5)),
        MAE(normalize=POSITIVE, human_normalize="none"),
        MAE(normalize="none", human_normalize="none"),
        NSS(sizing="area"),
        PPCE(log_clamp=-3.0),
        SIM(normalize="softmax"),
        KL(direction="model_human"),
    ],
    ids=repr,
)
def test_contract_with_options(divergence):
    check_divergence(divergence)


@pytest.mark.parametrize("delta", [0.01, 0.2, 2.0])
def test_huber_with_its_delta(delta):
    model, human = torch.randn(2, 30, dtype=torch.float64), torch.rand(2, 30, dtype=torch.float64)
    values = Huber(delta=delta, normalize="none", human_normalize="none")(model, human)
    expected = scipy.special.huber(delta, (model - human).numpy()).mean(1)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-10)


def test_logits_are_the_sigmoid_of_the_map():
    model, human = 5.0 * torch.randn(2, 30, dtype=torch.float64), torch.rand(2, 30, dtype=torch.float64)
    values = BCE(form="logits", human_normalize="none")(model, human)
    p, h = scipy.special.expit(model.numpy()), human.numpy()
    np.testing.assert_allclose(values.numpy(), -(h * np.log(p) + (1 - h) * np.log(1 - p)).mean(1), rtol=1e-10)
    far = BCE(form="logits", human_normalize="none")(torch.tensor([[500.0, -500.0]]), torch.tensor([[0.0, 1.0]]))
    assert float(far) == 500.0


@pytest.mark.parametrize("size", [(7, 7), (14, 15), (3, 4, 5)])
def test_kl_of_the_model_from_the_human_map(size):
    model, human = torch.randn(2, *size, dtype=torch.float64), torch.rand(2, *size, dtype=torch.float64)
    values = KL(direction="model_human", floor=1e-4)(model, human)
    for m, h, value in zip(model.numpy(), human.numpy(), values, strict=True):
        p = scipy.special.softmax(scipy.stats.zscore(m.ravel()))
        expected = scipy.special.rel_entr(p, h.ravel() / h.sum() + 1e-4).sum()
        assert float(value) == pytest.approx(float(expected), rel=1e-10)


@each
@pytest.mark.parametrize("factor", [1e-35, 1e-6, 1e6, 1e35])
def test_scale_of_the_models_map_does_not_matter(name, factor):
    divergence = sl.create_divergence(name)
    model, human = torch.randn(3, 7, 7), torch.rand(3, 7, 7)
    value, grad = value_and_gradient(divergence, factor * model, human)
    expected, slope = value_and_gradient(divergence, model, human)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grad * factor, slope, rtol=1e-3, atol=1e-4 * float(slope.abs().max()))


@pytest.mark.parametrize("name", ["bce", "huber", "js", "mae", "nss"])
def test_shift_of_the_models_map_does_not_matter(name):
    divergence = sl.create_divergence(name)
    model, human = torch.randn(3, 49, dtype=torch.float64), torch.rand(3, 49, dtype=torch.float64)
    torch.testing.assert_close(divergence(model + 7.0, human), divergence(model, human))


@each
def test_scale_of_the_human_map_does_not_matter(name):
    divergence = sl.create_divergence(name)
    model, human = torch.randn(3, 49), torch.rand(3, 49)
    for factor in (1e-30, 1e30):
        torch.testing.assert_close(divergence(model, factor * human), divergence(model, human), rtol=1e-4, atol=1e-5)


@each
def test_order_of_cells_does_not_matter(name):
    divergence = sl.create_divergence(name)
    model, human = torch.randn(3, 49, dtype=torch.float64), torch.rand(3, 49, dtype=torch.float64)
    order = torch.randperm(49)
    torch.testing.assert_close(divergence(model[:, order], human[:, order]), divergence(model, human))


@pytest.mark.parametrize("name", ["cosine", "huber", "mae", "sim"])
def test_zero_where_the_maps_agree(name):
    human = torch.rand(3, 7, 7, dtype=torch.float64)
    assert float(sl.create_divergence(name)(3.0 * human, human).abs().max()) < 1e-12
    value, grad = value_and_gradient(sl.create_divergence(name), human, human)
    assert float(value.abs().max()) < 1e-12
    assert float(grad.abs().max()) < 1e-12


def test_cells_that_neither_map_has_cost_nothing_without_a_floor():
    exact = KL(normalize=SumToOne(log_floor=0.0))
    value, grad = value_and_gradient(exact, torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[0.0, 1.0, 1.0]]))
    assert float(value) == pytest.approx(0.5 * math.log(4 / 3))
    assert torch.isfinite(grad).all()


def test_js_is_zero_where_the_distributions_agree_and_never_above_log_two():
    model = torch.randn(3, 49, dtype=torch.float64)
    human = normalize.standardize(model).softmax(1)
    assert float(JS()(model, human).abs().max()) < 1e-12
    apart = JS(normalize="sum")(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert float(apart) == pytest.approx(math.log(2), abs=1e-6)


def test_bce_is_least_the_entropy_where_the_maps_agree():
    human = torch.rand(3, 49, dtype=torch.float64)
    least = F.binary_cross_entropy(normalize.minmax(human), normalize.minmax(human), reduction="none").mean(1)
    exact = BCE(eps=1e-9)
    torch.testing.assert_close(exact(3.0 * human + 1.0, human), least, rtol=0.0, atol=1e-8)
    assert bool((exact(human + 0.1 * torch.rand_like(human), human) > least).all())


def test_ppce_is_zero_where_the_mask_is_at_the_maximum():
    mask = torch.tensor([[0.0, 1.0, 1.0]])
    assert float(PPCE()(torch.tensor([[0.5, 4.0, 4.0]]), mask)) == 0.0


def test_nss_is_least_where_one_salient_cell_takes_all_fixations():
    model, fixations = torch.zeros(1, 5, 5, dtype=torch.float64), torch.zeros(1, 5, 5, dtype=torch.float64)
    model[0, 2, 3], fixations[0, 2, 3] = 8.0, 3.0
    assert float(NSS()(model, fixations)) == pytest.approx(-math.sqrt(24))


def test_every_fixation_counts():
    model = torch.randn(1, 9)
    twice = torch.tensor([[2.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    z = (model - model.mean()) / model.std(correction=0)
    torch.testing.assert_close(NSS()(model, twice), -(2 * z[:, 0] + z[:, 2]) / 3)


def test_fixations_are_read_at_their_own_pixels():
    model = torch.randn(2, 4, 4)
    fixations = torch.zeros(2, 8, 8)
    fixations[:, 6, 1] = 1.0
    large = F.interpolate(model.unsqueeze(1), size=(8, 8), mode="bilinear").squeeze(1)
    torch.testing.assert_close(NSS()(model, fixations), NSS()(large, fixations))


RAMP, HUMAN = torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]])


@pytest.mark.parametrize(
    ("divergence", "flat", "empty"),
    [
        (MAE(), 0.5, 0.5),
        (Huber(), 0.5 * 0.375, (0.5 / 9 + 0.5 * (2 / 3 - 0.25) + 0.375) / 4),
        (BCE(eps=1e-6), -0.5 * math.log(1e-6), -(math.log(2 / 3) + math.log(1 / 3) + math.log(1e-6)) / 4),
        (JS(), 0.2157616, None),
        (Cosine(), 1.0 - math.sqrt(0.5), 1.0),
        (SIM(), 0.5, 1.0 / 3),
        (NSS(), 0.0, 0.0),
        (PPCE(), 0.0, 0.0),
    ],
    ids=repr,
)
def test_what_flat_and_empty_maps_cost(divergence, flat, empty):
    value, grad = value_and_gradient(divergence, torch.ones(1, 4), HUMAN)
    assert float(value) == pytest.approx(flat, abs=1e-5)
    if not isinstance(divergence, (Cosine, SIM, PPCE)):
        assert not grad.any()
    value, grad = value_and_gradient(divergence, RAMP, torch.zeros(1, 4))
    if empty is not None:
        assert float(value) == pytest.approx(empty, abs=1e-5)
    if isinstance(divergence, (Cosine, NSS, PPCE)):
        assert not grad.any()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize(
    ("divergence", "value"),
    [
        (Cosine(), 1.0),
        (SIM(), 0.5),
        (PPCE(), 100.0),
        (MAE(normalize=POSITIVE), 0.5),
        (MAE(normalize="max_abs"), 0.5),
        (MAE(normalize="l2"), 0.5),
    ],
    ids=repr,
)
def test_a_model_map_without_positive_values_gets_no_gradient(divergence, value):
    got, grad = value_and_gradient(divergence, torch.zeros(1, 4), HUMAN)
    assert float(got) == pytest.approx(value)
    assert not grad.any()


def test_empty_human_map_is_uniform_for_distributions():
    empty, uniform = torch.zeros(1, 4), torch.ones(1, 4)
    for divergence in (JS(), SIM()):
        torch.testing.assert_close(divergence(RAMP, empty), divergence(RAMP, uniform))


@each
@pytest.mark.parametrize("size", [(1, 1), (1,), (7, 7), (14, 15), (2, 3, 4)])
def test_one_map_of_any_size_in_any_layout(name, size):
    divergence = sl.create_divergence(name)
    model, human = torch.randn(*size, 2), torch.rand(*size, 2)
    value, grad = value_and_gradient(divergence, model[..., 0].unsqueeze(0), human[..., 1].unsqueeze(0))
    assert value.shape == (1,)
    assert torch.isfinite(value).all()
    assert torch.isfinite(grad).all()
    torch.testing.assert_close(
        divergence(model[..., 0].unsqueeze(0), human[..., 1].unsqueeze(0)),
        divergence(model[..., 0].contiguous().unsqueeze(0), human[..., 1].contiguous().unsqueeze(0)),
    )
    one = model[..., 0].unsqueeze(0)
    torch.testing.assert_close(divergence(one.expand(3, *size), human[..., 1].expand(3, *size)), value.expand(3))


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_maps_are_compared_in_float32(name, dtype):
    divergence = sl.create_divergence(name)
    model, human = torch.randn(2, 7, 7).to(dtype), torch.rand(2, 7, 7).to(dtype)
    value, grad = value_and_gradient(divergence, model, human)
    assert value.dtype == torch.float32
    assert grad.dtype == dtype
    torch.testing.assert_close(value, divergence(model.float(), human.float()))


EXTREME = {
    "zero": [0.0] * 6,
    "flat": [3e38] * 6,
    "one-hot": [0.0, 0.0, 1e38, 0.0, 0.0, 0.0],
    "denormal": [1e-45, 0.0, 3e-44, 1e-40, 0.0, 2e-39],
    "tiny": [1e-38, -2e-38, 3e-38, 0.0, 1e-38, 5e-38],
    "huge": [1e38, -1e38, 3e38, 0.0, -3e38, 2e38],
    "wide": [1e-38, 1e38, 1.0, -1e-20, 1e-45, 1e20],
}


@pytest.mark.parametrize("name", [*NAMES, "mse", "kl", "correlation"])
@pytest.mark.parametrize("model", EXTREME)
def test_no_finite_map_gives_nan(name, model):
    divergence = sl.create_divergence(name)
    for values in EXTREME.values():
        human = torch.tensor([values]).abs()
        human = (human / 3e38).clamp_max(1.0) if divergence.reads == "mask" else human
        for count in (1, 2):
            value, grad = value_and_gradient(
                divergence, torch.tensor([EXTREME[model]]).expand(count, -1), human.expand(count, -1)
            )
            assert torch.isfinite(value).all()
            assert not grad.isnan().any()


def test_gradient_of_cross_entropies_is_bounded():
    near = torch.tensor([[1.0, 1e-30, 0.0, 0.5]])
    _, grad = value_and_gradient(BCE(eps=1e-2, normalize="none"), near, torch.tensor([[0.0, 1.0, 1.0, 1.0]]))
    assert float(grad.abs().max()) == pytest.approx(0.98 / 1e-2 / 4)
    _, grad = value_and_gradient(PPCE(log_clamp=-10.0), near, torch.ones(1, 4))
    assert float(grad[0, 1]) == float(grad[0, 2]) == 0.0
    assert float(grad.abs().max()) <= math.exp(10.0)


def test_probabilities_are_clamped():
    human = torch.tensor([[0.0, 1.0]])
    value, grad = value_and_gradient(BCE(normalize="none"), torch.tensor([[-4.0, 0.5]]), human)
    torch.testing.assert_close(value, BCE(normalize="none")(torch.tensor([[0.0, 0.5]]), human))
    assert float(grad[0, 0]) == 0.0


def test_soft_masks_weigh_the_cells_of_ppce():
    value = PPCE()(torch.tensor([[1.0, math.exp(-2.0)]]), torch.tensor([[0.25, 0.75]]))
    assert float(value) == pytest.approx(1.5)


def test_the_cosine_is_that_of_torch():
    model, human = torch.randn(4, 49, dtype=torch.float64), torch.rand(4, 49, dtype=torch.float64)
    torch.testing.assert_close(cosine_similarity(model, human), F.cosine_similarity(model, human))


def test_names_and_options_are_written_as_they_were_chosen():
    assert repr(BCE(form="logits")) == "BCE(form='logits', normalize=Raw())"
    for chosen in ("minmax", MINMAX):
        assert BCE(form="logits", normalize=chosen).normalize == MINMAX
    assert repr(MAE(normalize=POSITIVE)) == "MAE(normalize=MaxAbs(positive=True))"
    assert [d.reads for d in (MAE(), MAE(human_normalize="none"), PPCE(), NSS())] == [
        "saliency",
        "mask",
        "mask",
        "fixations",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Huber(delta=0.0), r"delta must be positive and finite \(MAE is the limit for zero\), got 0.0"),
        (lambda: BCE(form="logit"), "form must be 'probabilities' or 'logits', got 'logit'"),
        (lambda: BCE(human_normalize="zscore"), r"must keep the human map in \[0, 1\], .* got ZScore\(\)"),
        (lambda: BCE(eps=0.0), r"eps must lie in \(0, 0.5\), got 0.0"),
        (lambda: PPCE(log_clamp=0.0), "log_clamp must be negative and finite, got 0.0"),
        (lambda: JS(normalize="minmax"), r"normalize of JS must make a distribution over positions.*got MinMax\(\)"),
        (lambda: JS(human_normalize="l2"), r"human_normalize of JS must make a distribution.*got L2\(\)"),
        (lambda: SIM(normalize="minmax"), r"normalize of SIM must make a distribution.*got MinMax\(\)"),
        (lambda: SIM(human_normalize="none"), r"human_normalize of SIM must make a distribution.*got Raw\(\)"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
