"""Losses of published explanation supervision: golden values, options, minima and invariances of each divergence."""

import math

import numpy as np
import pytest
import torch
from divergence_oracles import DIVERGENCES
from torch.utils._python_dispatch import TorchDispatchMode

import saliency_losses as sl
from saliency_losses.divergences import (
    AttentionL2,
    Dice,
    Energy,
    ForegroundBackground,
    MaskedL1,
    MaxAbs,
    MinMax,
    Ranking,
    Robust,
    SoftIoU,
    absolute_saliency,
    best_threshold,
    imputed,
    ranking_hinge,
)
from saliency_losses.testing import check_divergence, check_gradients

NAMES = ["attention_l2", "dice", "energy", "foreground_background", "masked_l1", "ranking", "robust", "soft_iou"]
each = pytest.mark.parametrize("name", NAMES)
MODEL = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
HUMAN = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MASK = (HUMAN > 0.6).double()
SIGNED = MASK - (HUMAN < 0.3).double()


@pytest.mark.parametrize(
    "divergence",
    [
        AttentionL2(normalize="max_abs", human_normalize="sum"),
        Dice(squared=False),
        Dice(normalize="none", human_normalize="none"),
        Energy(floor=1e-7),
        Energy(normalize="max_abs"),
        ForegroundBackground(background=1.0, foreground=1.0, sizing="area"),
        MaskedL1(human="never_here"),
        MaskedL1(normalize="max_abs", human_normalize="none"),
        Ranking(normalize="max_abs", margin=0.1, ties="ignore"),
        Ranking(margin=1e-4, reduction="sum"),
        Ranking(reduction="position"),
        Robust(imputation="none", detach=False),
        Robust(threshold="batch", normalize=MinMax(floor=1e-6)),
        SoftIoU(normalize=MaxAbs(positive=True), human_normalize="max_abs"),
    ],
    ids=repr,
)
def test_contract_with_options(divergence):
    check_divergence(divergence)


def test_positive_part_by_its_maximum():
    leaf = torch.tensor([[1.0, 2.0, -4.0], [-1.0, -2.0, 0.0]], requires_grad=True)
    scaled = MaxAbs(positive=True)(leaf)
    torch.testing.assert_close(scaled, torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    (grad,) = torch.autograd.grad(scaled.sum(), leaf)
    torch.testing.assert_close(grad, torch.tensor([[0.5, -0.25, 0.0], [0.0, 0.0, 0.0]]))
    known = torch.tensor([[1.0, 0.0, 1.0]])
    torch.testing.assert_close(MaxAbs(positive=True)(leaf[:1], known), torch.tensor([[1.0, 0.0, 0.0]]))


@pytest.mark.parametrize("size", [(1,), (1, 1), (1, 5), (7, 7), (14, 15), (3, 4, 5)])
@each
def test_batch_of_one_at_every_size(name, size):
    divergence = sl.create_divergence(name)
    for model in (torch.randn(1, *size), torch.zeros(1, *size), torch.ones(1, *size)):
        for human in (torch.rand(1, *size), torch.zeros(1, *size), torch.ones(1, *size)):
            leaf = model.clone().requires_grad_()
            value = divergence(leaf, human)
            (grad,) = torch.autograd.grad(value.sum(), leaf)
            assert value.shape == (1,)
            assert value.isfinite().all()
            assert grad.isfinite().all()


@each
def test_map_without_a_known_cell_costs_nothing_and_gets_no_gradient(name):
    leaf, known = MODEL.clone().requires_grad_(), torch.ones_like(MODEL)
    known[1] = 0.0
    value = sl.create_divergence(name)(leaf, MASK, known)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    assert float(value[1].detach()) == 0.0
    assert grad[[0, 2]].isfinite().all()
    assert not grad[1].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each
def test_strided_expanded_and_half_precision_maps(name, dtype):
    divergence = sl.create_divergence(name)
    model, human = MODEL[:1].float(), HUMAN[:1].float()
    expected = divergence(model, human)
    strided = model.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(divergence(strided.expand(2, 6, 7), human.expand(2, 6, 7)), expected.expand(2))
    low = divergence(model.to(dtype), human.to(dtype))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, divergence(model.to(dtype).float(), human.to(dtype).float()))


@each
@pytest.mark.parametrize("size", [1e-38, 1e-25, 1e25, 1e38])
def test_extreme_maps_are_finite(name, size):
    divergence = sl.create_divergence(name)
    one_hot = torch.zeros(1, 49)
    one_hot[0, 5] = 1.0
    for model in (torch.linspace(-1.0, 1.0, 49)[None], one_hot, -one_hot, torch.ones(1, 49)):
        leaf = (size * model).requires_grad_()
        for human in (torch.linspace(0.0, 1.0, 49)[None], one_hot, torch.zeros(1, 49), torch.full((1, 49), 1e-38)):
            value = divergence(leaf, human)
            (grad,) = torch.autograd.grad(value.sum(), leaf)
            assert value.isfinite().all()
            assert not grad.isnan().any()


@pytest.mark.parametrize("name", ["attention_l2", "dice", "energy", "foreground_background", "robust", "soft_iou"])
@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1e6, 1e30])
def test_scale_of_the_models_map_does_not_matter(name, factor):
    divergence = sl.create_divergence(name)
    leaf, same = (factor * MODEL.float()).requires_grad_(), MODEL.float().requires_grad_()
    value, expected = divergence(leaf, HUMAN.float()), divergence(same, HUMAN.float())
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    (right,) = torch.autograd.grad(expected.sum(), same)
    torch.testing.assert_close(grad * factor, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["dice", "foreground_background", "robust", "soft_iou"])
def test_shift_of_the_models_map_does_not_matter(name):
    divergence = sl.create_divergence(name)
    torch.testing.assert_close(divergence(3.0 * MODEL + 2.0, HUMAN), divergence(MODEL, HUMAN))


@pytest.mark.parametrize("name", sorted({*NAMES} - {"robust"}))
def test_order_of_the_positions_does_not_matter(name):
    divergence, order = sl.create_divergence(name), torch.randperm(42)
    moved = divergence(MODEL.flatten(1)[:, order], HUMAN.flatten(1)[:, order])
    torch.testing.assert_close(moved, divergence(MODEL, HUMAN))


@pytest.mark.parametrize("name", ["attention_l2", "dice", "soft_iou"])
def test_zero_where_soft_maps_agree(name):
    assert float(sl.create_divergence(name)(3.0 * HUMAN, HUMAN).abs().max()) < 1e-12


@pytest.mark.parametrize(
    "divergence", [Dice(squared=False), Energy(), ForegroundBackground(), MaskedL1(), Ranking()], ids=repr
)
def test_zero_where_the_map_is_the_mask(divergence):
    assert float(divergence(3.0 * MASK, MASK).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("name", "flat_map", "empty_mask", "both"),
    [
        ("attention_l2", 0.25 * ((0.5 - math.sqrt(0.5)) ** 2 * 2 + 0.5), 0.25, 0.25),
        ("dice", 1.0, 1.0, 0.0),
        ("energy", 0.5, 1.0, 1.0),
        ("foreground_background", 0.15, 2.0 * 14 / 36, 0.0),
        ("masked_l1", 0.5, 1.5, 1.0),
        ("ranking", 0.0, 10 / 12, 0.0),
        ("robust", 1.4, 0.5, 0.0),
        ("soft_iou", 1.0, 1.0, 0.0),
    ],
)
def test_what_flat_maps_and_empty_masks_cost(name, flat_map, empty_mask, both):
    divergence = sl.create_divergence(name)
    flat, ramp = torch.ones(1, 4), torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    human, empty = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.zeros(1, 4)
    assert float(divergence(flat, human)) == pytest.approx(flat_map)
    assert float(divergence(ramp, empty)) == pytest.approx(empty_mask)
    assert float(divergence(flat, empty)) == pytest.approx(both)


def test_golden_values_of_published_code():
    # Rao et al. 2023, Model-Guidance, losses.py: A = linspace(-1, 1, 64), box rows and columns 2..5.
    attribution = torch.linspace(-1, 1, 64).view(1, 8, 8)
    box = torch.zeros(1, 8, 8)
    box[:, 2:6, 2:6] = 1.0
    for divergence in (Energy(), Energy(floor=1e-7)):
        assert float(divergence(attribution, box)) == pytest.approx(0.875, rel=1e-6)
    # Zagoruyko and Komodakis 2017, attention-transfer, utils.py: at_loss of sin and cos.
    student, teacher = (f(torch.arange(96.0)).view(2, 3, 4, 4).square().mean(1) for f in (torch.sin, torch.cos))
    assert float(AttentionL2()(student, teacher).mean()) == pytest.approx(0.070811845, rel=1e-6)
    # Petryk et al. 2022, GALS, utils/loss_utils.py: input_gradient_loss, suppress_outside.
    gradient = torch.linspace(-1, 1, 48).view(1, 3, 4, 4).abs().mean(1)
    attention = torch.zeros(1, 4, 4)
    attention[:, 1:3, 1:3] = 1.0
    assert float(MaskedL1()(gradient, attention)) == pytest.approx(0.390071005, rel=1e-6)
    # Gao et al. 2022, RES, RES.py: BF_solver over the whole batch.
    model, signed = torch.tensor([[0.1, 0.9, 0.4, 0.6, 0.2, 0.8]]), torch.tensor([[-1.0, 1.0, 0.0, 1.0, -1.0, 1.0]])
    assert float(best_threshold(model, signed)) == pytest.approx(0.2001, abs=1e-7)


def test_energy_below_the_floor_is_what_published_code_returns():
    model, mask = torch.tensor([[2e-8, 1e-8, -1.0]]).double(), torch.tensor([[1.0, 0.0, 0.0]]).double()
    assert float(Energy(floor=1e-7)(model, mask)) == pytest.approx(1.0 - 2e-8, abs=1e-15)
    leaf = model.clone().requires_grad_()
    (grad,) = torch.autograd.grad(Energy(floor=1e-7)(leaf, mask).sum(), leaf)
    torch.testing.assert_close(grad, -mask)
    assert float(Energy(eps=0.0)(model, mask)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("model", [[-1.0, -2.0, 0.0], [1e-7, -1.0, 0.0], [0.0, 0.0, 0.0]])
def test_energy_of_a_map_without_positive_values_is_one_without_gradient(model):
    leaf = torch.tensor([model], requires_grad=True)
    value = Energy()(leaf, torch.tensor([[1.0, 0.0, 0.5]]))
    assert float(value.detach()) == 1.0
    assert not torch.autograd.grad(value.sum(), leaf)[0].any()


def test_faint_maps_are_not_empty_and_fainter_ones_are():
    raw = Dice(normalize="none", human_normalize="none")
    for size, value in ((1e-5, 1.0), (1e-7, 0.0)):
        assert float(raw(torch.tensor([[size, 0.0]]), torch.tensor([[0.0, size]]))) == value


def test_dice_with_plain_denominators():
    m, h = ((x - x.amin((1, 2), True)) / (x.amax((1, 2), True) - x.amin((1, 2), True)) for x in (MODEL, HUMAN))
    expected = 1.0 - 2.0 * (m * h).sum((1, 2)) / (m + h).sum((1, 2))
    torch.testing.assert_close(Dice(squared=False)(MODEL, HUMAN), expected)


def test_soft_iou_of_a_mask_is_that_of_products():
    m = MODEL.sigmoid()
    expected = 1.0 - (m * MASK).sum((1, 2)) / (m + MASK - m * MASK).sum((1, 2))
    torch.testing.assert_close(SoftIoU(normalize="none", human_normalize="none")(m, MASK), expected)


@pytest.mark.parametrize("divergence", [Dice, SoftIoU])
def test_overlap_takes_what_lies_outside_the_unit_range_as_its_end(divergence):
    overlap = divergence(normalize="none", human_normalize="none")
    torch.testing.assert_close(overlap(3.0 * MODEL, MASK), overlap((3.0 * MODEL).clamp(0.0, 1.0), MASK))


def test_masked_l1_never_here_looks_at_the_mask():
    torch.testing.assert_close(MaskedL1(human="never_here")(MODEL, MASK), (MODEL * MASK).abs().mean((1, 2)))
    assert not MaskedL1(human="never_here").empty_is_suspicious
    assert MaskedL1(human_normalize="none").reads == "mask"


def test_absolute_saliency_of_nothing_known_is_zero():
    assert float(absolute_saliency(torch.ones(1, 3), torch.ones(1, 3), torch.zeros(1, 3))) == 0.0


def test_masked_l1_averages_where_the_sum_would_overflow():
    assert float(MaskedL1()(torch.full((1, 49), 3e38), torch.zeros(1, 49))) == pytest.approx(3e38, rel=1e-5)


def test_foreground_and_background_have_their_weights():
    relevance = np.array([[0.0, 0.25, 1.0]])
    mask = torch.tensor([[1.0, 0.0, 1.0]])
    for weights, expected in (((1.0, 0.0), 0.0625 / 3), ((0.0, 1.0), 1.0 / 3), ((4.0, 3.0), 1.25 / 3 + 2.0 / 3)):
        value = ForegroundBackground(background=weights[0], foreground=weights[1])(torch.tensor(relevance), mask)
        assert float(value) == pytest.approx(expected, abs=1e-12)


def test_foreground_background_enlarges_the_models_map():
    model, mask = torch.rand(2, 4, 4), torch.zeros(2, 16, 16)
    mask[:, 3:9, 5:6] = 1.0
    large = torch.nn.functional.interpolate(model[:, None], scale_factor=4.0, mode="bilinear")[:, 0]
    torch.testing.assert_close(ForegroundBackground()(model, mask), ForegroundBackground()(large, mask))


def naive_ranking(model, human, known, pairs, margin, ties):
    model, human, known = (x.flatten().tolist() for x in (model, human, known))
    total = compared = 0.0
    for i, j in pairs:
        weight = known[i] * known[j]
        if human[i] > human[j]:
            total += weight * max(0.0, margin + model[j] - model[i])
            compared += weight
        elif human[i] == human[j] and ties == "equal":
            total += weight * max(0.0, model[j] - model[i])
            compared += weight
    return total, compared


@pytest.mark.parametrize("ties", ["equal", "ignore"])
@pytest.mark.parametrize("margin", [0.0, 0.3])
@pytest.mark.parametrize("human", [HUMAN, MASK, SIGNED + 1.0])
def test_ranking_of_ties_with_a_margin_and_weights(human, margin, ties):
    known = torch.rand(3, 42, generator=torch.Generator().manual_seed(5), dtype=torch.float64).round(decimals=1)
    known[0] = 1.0
    pairs = [(i, j) for i in range(42) for j in range(42) if i != j]
    for reduction in ("mean", "position", "sum"):
        ranking = Ranking(margin=margin, ties=ties, reduction=reduction)
        values = ranking(MODEL, human, known.view(3, 6, 7))
        torch.testing.assert_close(values[0], ranking(MODEL[:1], human[:1])[0])
        for row, value in enumerate(values):
            total, compared = naive_ranking(MODEL[row], human[row], known[row], pairs, margin, ties)
            over = {"mean": compared, "position": float(known[row].sum()), "sum": 1.0}[reduction]
            assert float(value) == pytest.approx(total / over, rel=1e-10)


def test_ranking_of_many_positions_compares_each_with_those_at_fixed_distances():
    model, human = MODEL[0].flatten(), HUMAN[0].flatten()
    # 10 squared pairs of 42 positions are one distance, 1, either way.
    pairs = [(i, (i + step) % 42) for i in range(42) for step in (1, 41)]
    total, compared = naive_ranking(model, human, torch.ones(42), pairs, 0.2, "equal")
    for reduction, expected in (("mean", total / compared), ("sum", total * 41 / 2), ("position", total * 41 / 84)):
        value = ranking_hinge(model[None], human[None], margin=0.2, reduction=reduction, max_positions=10)
        assert float(value) == pytest.approx(expected, rel=1e-10)


def test_ranking_of_many_positions_is_close_to_that_of_all_pairs():
    rows = torch.linspace(-1.0, 1.0, 48)
    human = (-4.0 * (rows[:, None] ** 2 + (rows - 0.3) ** 2)).exp()[None]
    model = torch.stack([human[0], human[0].roll(15, 0), human[0].roll(15, 1), -human[0]])
    human = human.expand(4, 48, 48)
    torch.testing.assert_close(Ranking()(model, human), Ranking(max_positions=48**2)(model, human), rtol=0.1, atol=0.0)


class LargestTensor(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that was made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.untyped_storage().nbytes())
        return result


def test_ranking_looks_at_a_few_pairs_at_a_time():
    model, human = torch.rand(1, 1024, requires_grad=True), torch.rand(1, 1024)
    with LargestTensor() as seen:
        ranking_hinge(model, human, max_positions=1024).sum().backward()
    assert seen.largest < 2 * 1024 * 1024  # of 1024 x 1024 pairs, in four bytes each


def test_ranking_does_not_depend_on_shift_and_averages_where_the_sum_would_overflow():
    torch.testing.assert_close(Ranking()(MODEL + 2.0, HUMAN), Ranking()(MODEL, HUMAN))
    far, human = (1e5 + MODEL).float(), HUMAN.float()
    exact = Ranking()(far.double(), human.double())
    torch.testing.assert_close(Ranking()(far, human).double(), exact, rtol=1e-6, atol=0.0)
    model = torch.tensor([[1.5e38, -1.5e38, 1.5e38]])
    assert float(Ranking()(model, torch.tensor([[0.0, 1.0, 0.0]]))) == pytest.approx(1.5e38, rel=1e-6)


def test_ranking_of_a_flat_map_costs_the_margin():
    flat, human = torch.ones(1, 4, requires_grad=True), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    value = Ranking(margin=0.5, ties="ignore")(flat, human)
    assert float(value.detach()) == 0.5
    (grad,) = torch.autograd.grad(value.sum(), flat)
    torch.testing.assert_close(grad, torch.tensor([[0.5, 0.5, -0.5, -0.5]]))
    assert float(Ranking(ties="ignore")(MODEL.float(), torch.zeros(3, 6, 7)).abs().max()) == 0.0


@pytest.mark.parametrize("size", [(7, 7), (14, 15), (49,), (3, 4, 5)])
@pytest.mark.parametrize("decimals", [1, 15])
def test_robust_equals_its_oracle_on_signed_maps(size, decimals):
    """Rounded maps have many equally good thresholds."""
    generator = torch.Generator().manual_seed(4)
    model = torch.rand(4, *size, generator=generator, dtype=torch.float64).round(decimals=decimals)
    signed = torch.randint(-1, 2, (4, *size), generator=generator).double()
    signed[1], signed[2] = signed[1].relu(), -signed[2].relu()
    for m, h, value in zip(model, signed, Robust()(model, signed), strict=True):
        assert float(value) == pytest.approx(DIVERGENCES["robust"](m.numpy(), h.numpy()), abs=1e-12)


def test_robust_searches_the_batch_where_asked():
    batch = Robust(threshold="batch", normalize="none", imputation="none", tolerance=0.0)
    assert (batch.scope, Robust().scope) == ("batch", "sample")
    model, said = MODEL.sigmoid(), SIGNED != 0
    a = best_threshold(model.view(1, -1), SIGNED.view(1, -1))
    wrong = ((5 * (model - a)).tanh() - SIGNED).abs()[said].mean()
    expected = wrong + (model - SIGNED.relu()).abs().mean((1, 2))
    torch.testing.assert_close(batch(model, SIGNED), expected)
    known = torch.ones_like(SIGNED)
    known[1] = 0.0
    kept = torch.tensor([0, 2])
    torch.testing.assert_close(batch(model, SIGNED, known)[kept], batch(model[kept], SIGNED[kept]))


def test_robust_gradient_is_that_of_a_fixed_or_a_moving_threshold():
    leaf = MODEL.clone().requires_grad_()
    moving = Robust(detach=False)
    check_gradients(lambda: moving(leaf, SIGNED).sum(), {"map": leaf})
    (fixed,) = torch.autograd.grad(Robust(normalize="none", tolerance=0.0)(leaf, SIGNED).sum(), leaf)
    a = best_threshold(MODEL.flatten(1), SIGNED.flatten(1))[:, :, None]
    said = (SIGNED != 0).double()
    wrong = (((5 * (leaf - a)).tanh() - SIGNED).abs() * said).sum((1, 2)) / said.sum((1, 2))
    (expected,) = torch.autograd.grad((wrong + (leaf - imputed(SIGNED)).abs().mean((1, 2))).sum(), leaf)
    torch.testing.assert_close(fixed, expected)


def test_robust_tolerates():
    value = Robust(tolerance=0.0)(MODEL, SIGNED) - Robust(tolerance=0.1)(MODEL, SIGNED)
    torch.testing.assert_close(value, torch.full((3,), 0.1, dtype=torch.float64))
    spread = (sl.divergences.create_normalizer("minmax")(MODEL.flatten(1)).view(3, 6, 7) - imputed(SIGNED)).abs()
    torch.testing.assert_close(Robust(tolerance=2.0)(MODEL, SIGNED), spread.mean((1, 2)))


def test_robust_where_nothing_was_said_asks_for_a_flat_map():
    value = Robust(normalize="none")(MODEL.sigmoid(), torch.zeros_like(MODEL))
    torch.testing.assert_close(value, MODEL.sigmoid().mean((1, 2)))


def test_robust_weighs_what_is_known():
    known = torch.ones_like(SIGNED)
    known[:, :2] = 0.0
    some = Robust(imputation="none")
    torch.testing.assert_close(some(MODEL, SIGNED, known), some(MODEL[:, 2:], SIGNED[:, 2:]))


def test_robust_keeps_signs_when_it_shrinks_the_human_map():
    signed = SIGNED.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(Robust()(MODEL, signed), Robust()(MODEL, SIGNED))


def test_imputation_spreads_the_positive_marks_and_mirrors_at_the_border():
    signed = torch.zeros(1, 3, 4)
    signed[0, 0, 0], signed[0, 2, 3] = 1.0, -1.0
    expected = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.5, 0.25, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(imputed(signed)[0], expected, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Energy(floor=-1.0), "floor must be finite and not negative, got -1.0"),
        (lambda: Energy(floor=float("inf")), "floor must be finite and not negative, got inf"),
        (lambda: ForegroundBackground(background=float("inf")), "background must be finite and not negative, got inf"),
        (lambda: Ranking(margin=float("inf")), "margin must be finite and not negative, got inf"),
        (lambda: Robust(tolerance=float("inf")), "tolerance must be finite and not negative, got inf"),
        (lambda: Energy(eps=float("nan")), "eps must be finite and not negative, got nan"),
        (lambda: MaskedL1(human="here"), "human must be 'look_here' or 'never_here', got 'here'"),
        (lambda: ForegroundBackground(background=-2.0), "background must be finite and not negative, got -2.0"),
        (lambda: ForegroundBackground(foreground=-2.0), "foreground must be finite and not negative, got -2.0"),
        (lambda: Ranking(margin=-0.1), "margin must be finite and not negative, got -0.1"),
        (lambda: Ranking(ties="drop"), "ties must be 'equal' or 'ignore', got 'drop'"),
        (lambda: Ranking(reduction="none"), "reduction must be 'mean', 'position' or 'sum', got 'none'"),
        (lambda: Ranking(max_positions=1), "max_positions must be at least 2, got 1"),
        (lambda: Robust(tolerance=-0.1), "tolerance must be finite and not negative, got -0.1"),
        (lambda: Robust(imputation="learned"), "imputation must be 'gaussian' or 'none', got 'learned'"),
        (lambda: Robust(threshold="all"), "threshold must be 'sample' or 'batch', got 'all'"),
        (lambda: Dice(sizing="big"), "sizing must be one of"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
