"""Every registered metric: an oracle, extremes, golden values of published code, batches and collections."""

import copy
import importlib
import pickle
import sys

import metric_oracles
import numpy as np
import pytest
import torch
from metric_oracles import READS, draw, expected
from torchmetrics import MetricCollection

import saliency_losses.metrics as M
from saliency_losses.divergences import SumToOne
from saliency_losses.maps import fixations_to_counts
from saliency_losses.sizing import to_size

NAMES = M.list_metrics()
FIXATIONS = [name for name in NAMES if READS.get(name) == "fixations"]
PAIRS = [name for name in NAMES if READS.get(name) not in ("nothing", "runs")]
each = pytest.mark.parametrize("name", NAMES)
ROW = torch.tensor([[[0.1, 0.9, 0.5, 0.2]]])


def close(values, others, tolerance=1e-9):
    torch.testing.assert_close(values.double(), others.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def values_of(name, *maps, **options):
    maps = maps[:1] if READS[name] == "nothing" else maps
    return getattr(M, name)(*maps, **options)


def test_every_metric_has_an_oracle():
    assert set(metric_oracles.ORACLES) == set(NAMES)


@each
@pytest.mark.parametrize("size", [(1, 2), (1, 7), (5, 3), (8, 9), (11,), (3, 4, 5)], ids=str)
def test_equals_its_oracle(name, size):
    maps = draw(name, 4, size)
    found = values_of(name, *maps)
    assert found.dtype == torch.float64
    assert found.shape == (4,)
    close(found, expected(name, *maps))


@each
def test_equals_its_oracle_with_ties(name):
    maps = draw(name, 4, (6, 7))
    maps = (maps[0].round(), *maps[1:])
    close(values_of(name, *maps), expected(name, *maps))


@each
@pytest.mark.parametrize("value", [0.0, 0.3, -2.0])
def test_equals_its_oracle_for_flat_maps(name, value):
    maps = draw(name, 2, (4, 5))
    maps = (torch.full_like(maps[0], value), *maps[1:])
    close(values_of(name, *maps), expected(name, *maps))


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in FIXATIONS])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equals_its_oracle_for_flat_human_maps(name, value):
    model, human = draw(name, 2, (4, 5))
    maps = model, torch.full_like(human, value)
    close(values_of(name, *maps), expected(name, *maps))


@each
def test_one_position_gives_a_number_or_is_undefined(name):
    maps = draw(name, 2, (1, 2))
    one = values_of(name, *(x[..., :1] for x in maps))
    undefined = name in ("auc_judd", "iou")  # nothing is unfixated; a single value is neither high nor low
    assert bool(one.isfinite().all()) or undefined


def test_golden_values_of_published_code():
    step = torch.arange(16, dtype=torch.float64)
    model, human = step.sin().abs().view(1, 4, 4), step.cos().abs().view(1, 4, 4)
    fixations = fixations_to_counts([[(1, 0), (2, 3)]], (4, 4))
    for found, golden, digits in (
        (M.cc(model, human), -0.905358669, 1e-9),
        (M.sim(model, human), 0.575834949, 1e-9),
        (M.kl(model, human), 3.705721942, 1e-9),
        (M.nss(model, fixations), 0.929452, 1e-6),
    ):
        assert float(found) == pytest.approx(golden, abs=digits)


@each
def test_a_class_is_the_mean_over_all_batches(name):
    maps, rows = draw(name, 7, (5, 6)), torch.tensor([1, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
    axis = READS[name] == "runs"
    kept = [x[:, rows] if axis else x[rows] for x in maps]
    spoilt = [torch.where(rows.view(*[1] * axis, -1, 1, 1), x, torch.nan) for x in maps]
    metric = M.create_metric(name)
    for part in torch.arange(7).split(3):
        batch = [x[:, part] if axis else x[part] for x in spoilt]
        human = None if len(batch) == 1 else batch[1]
        metric.update(batch[0], human, annotated=rows[part])
    close(metric.compute(), expected(name, *kept).mean())
    assert metric.compute().dtype == torch.float64
    found = values_of(name, *spoilt, annotated=rows)
    assert torch.equal(found.isnan(), ~rows)
    metric.reset()
    metric.update(*(x[:, rows] if axis else x[rows] for x in maps))
    close(metric.compute(), expected(name, *kept).mean())


@each
def test_a_class_can_be_copied_pickled_and_called(name):
    metric = M.create_metric(name)
    assert (metric.is_differentiable, metric.full_state_update) == (False, False)
    assert metric.higher_is_better is {"kl": False, "map_entropy": None}.get(name, True)
    maps = draw(name, 3, (4, 4))
    value = metric(*maps)
    for other in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric), metric.clone()):
        close(other.compute(), value)
    assert not metric.state_dict()
    metric.persistent(True)
    other = M.create_metric(name)
    other.persistent(True)
    other.load_state_dict(metric.state_dict())
    other._update_count = 1
    close(other.compute(), value)


@each
def test_float32_gives_float32_and_no_graph(name):
    maps = draw(name, 3, (4, 4), dtype=torch.float32)
    found = values_of(name, maps[0].clone().requires_grad_(), *maps[1:])
    assert (found.dtype, found.requires_grad) == (torch.float32, False)
    close(found, expected(name, *maps), 1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_the_models_map_is_enlarged(name):
    model, human = draw(name, 3, (12, 10))
    small = model[:, ::2, ::3]
    for sizing in ("enlarge", "enlarge_aligned"):
        close(values_of(name, small, human, sizing=sizing), expected(name, to_size(small, (12, 10), sizing), human))
    with pytest.raises(ValueError, match=r"size \(6, 4\) and the human map \(12, 10\), but sizing='same'"):
        values_of(name, small, human, sizing="same")


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in FIXATIONS])
def test_the_human_map_is_averaged_on_request(name):
    model, human = draw(name, 3, (12, 10))
    small = model[:, ::2, ::5]
    close(values_of(name, small, human, sizing="area"), expected(name, small, to_size(human, (6, 2), "area")))


@pytest.mark.parametrize("name", FIXATIONS)
def test_fixations_stay_where_they_are_under_a_larger_map(name):
    human = draw(name, 3, (5, 6))[1]
    large = torch.randn(3, 15, 12, dtype=torch.float64)
    close(values_of(name, large, human), expected(name, to_size(large, (5, 6), "enlarge"), human))


@pytest.mark.parametrize("name", PAIRS)
def test_human_maps_come_in_every_form_that_the_guided_loss_takes(name):
    model, human = draw(name, 3, (4, 4))
    close(values_of(name, model, human.unsqueeze(1)), values_of(name, model, human))
    marks = human > human.median()
    close(values_of(name, model, marks), values_of(name, model, marks.double()))
    bytes_ = (255 * marks).byte()
    close(values_of(name, model, bytes_), values_of(name, model, marks.double()))


@pytest.mark.parametrize("name", FIXATIONS)
def test_images_without_a_fixation_are_left_out(name):
    model, human = draw(name, 3, (4, 5))
    human[1] = 0.0
    found = values_of(name, model, human)
    assert found.isnan().tolist() == [False, True, False]
    metric = M.create_metric(name)
    metric.update(model, human)
    close(metric.compute(), found[[0, 2]].mean())


@each
def test_nothing_annotated_is_nan_with_a_warning(name):
    metric, maps = M.create_metric(name), draw(name, 3, (4, 5))
    human = None if len(maps) == 1 else maps[1]
    metric.update(maps[0], human, annotated=torch.zeros(3, dtype=torch.bool))
    with pytest.warns(UserWarning, match=r"has seen no annotated map that it is defined for since its last reset"):
        assert bool(metric.compute().isnan())


def collection():
    prior = torch.rand(4, 5, dtype=torch.float64) + 0.1
    many = {name: M.create_metric(name) for name in NAMES if name != "stability"}
    return many | {
        "near": M.PointingGame(tolerance=2),
        "other prior": M.InformationGain(baseline=prior),
        "its mirror": M.InformationGain(baseline=prior.flip(0)),
        "from above": M.MapEntropy(normalize=SumToOne(minimum=1.0)),
        "from below": M.MapEntropy(normalize=SumToOne(minimum=-1.0)),
    }


def test_a_collection_keeps_its_metrics_apart():
    """A first batch without any annotated map leaves equal states, which torchmetrics would merge for good."""
    metrics = collection()
    together = MetricCollection(copy.deepcopy(metrics))
    model, mask = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    mask = (mask > 0).double()
    for rows in (torch.zeros(6, dtype=torch.bool), torch.ones(6, dtype=torch.bool)):
        together.update(model, mask, annotated=rows)
        for metric in metrics.values():
            metric.update(model, mask, annotated=rows)
    found = together.compute()
    for name, metric in metrics.items():
        close(found[name], metric.compute())


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 1.5, 2.0, 3.7, 100.0])
@pytest.mark.parametrize("size", [(9,), (7, 8), (4, 5, 3)], ids=str)
def test_tolerance_is_a_distance(tolerance, size):
    model = torch.randn(20, *size, dtype=torch.float64).round()
    masks = (torch.rand(20, *size) > 0.93).double()
    found = M.pointing_game(model, masks, tolerance=tolerance)
    pairs = zip(model.numpy(), masks.numpy(), strict=True)
    close(found, torch.tensor([metric_oracles.pointing_game(m, h, None, tolerance) for m, h in pairs]))


def test_jitter_breaks_ties_the_same_way_in_every_batch():
    model, human = torch.zeros(5, 6, 6, dtype=torch.float64), draw("nss", 5, (6, 6))[1]
    whole = M.auc_judd(model, human, jitter=1e-7)
    assert bool((whole != M.auc_judd(model, human)).all())
    close(torch.cat([M.auc_judd(model[i : i + 1], human[i : i + 1], jitter=1e-7) for i in range(5)]), whole)
    noise = 1e-7 * torch.randn(36, generator=torch.Generator().manual_seed(3), dtype=torch.float64).view(6, 6)
    close(M.auc_judd(model, human, jitter=1e-7, seed=3), expected("auc_judd", model + noise, human))


def test_shuffled_auc_against_given_fixations():
    model, human = draw("shuffled_auc", 3, (4, 5))
    everyone = human.sum(0) - human
    close(M.shuffled_auc(model, human, others=everyone), M.shuffled_auc(model, human))
    first = M.shuffled_auc(model[:1], human[:1], others=human[1:2] + human[2:])
    close(first, M.shuffled_auc(model, human)[:1])


def test_shuffled_auc_works_on_many_maps_in_parts(monkeypatch):
    monkeypatch.setattr(sys.modules["saliency_losses.metrics.shuffled_auc"], "_ROWS", 2)
    metric, maps = M.ShuffledAUC(), draw("shuffled_auc", 7, (4, 5))
    metric.update(*maps)
    close(metric.compute(), expected("shuffled_auc", *maps).mean())


def test_information_gain_over_a_baseline():
    model, human = draw("information_gain", 3, (4, 6))
    prior = torch.rand(2, 3, dtype=torch.float64)
    for normalize, p in (("sum", None), ("softmax", M.information_gain)):
        found = M.information_gain(model, human, baseline=prior, normalize=normalize)
        enlarged = metric_oracles.density(to_size(prior[None], (4, 6), "enlarge")[0].numpy())
        for row, counts, value in zip(model, human, found, strict=True):
            z = (row - row.mean()) / row.std(correction=0)
            share = metric_oracles.density(row.numpy()) if p is None else z.flatten().softmax(0).view(4, 6).numpy()
            bits = metric_oracles.at_fixations(np.log2(share + 2.2204e-16) - np.log2(enlarged), counts.numpy())
            assert float(value) == pytest.approx(np.mean(bits), abs=1e-9)


def test_options_reach_the_function():
    model, mask = draw("iou", 3, (5, 5))
    for name, options in (
        ("iou", {"threshold": 0.2}),
        ("energy_pointing_game", {"floor": 1e6}),
        ("pointing_game", {"tolerance": 3}),
        ("human_alignment", {"ceiling": 0.1}),
        ("map_entropy", {"normalize": "softmax"}),
        ("information_gain", {"eps": 0.5}),
        ("auc_judd", {"jitter": 2.0, "seed": 1}),
        ("cc", {"sizing": "area"}),
    ):
        maps = model[:, :4], mask
        metric = M.create_metric(name, **options)
        metric.update(*maps)
        close(metric.compute(), values_of(name, *maps, **options).mean())
        assert float(metric.compute()) != float(values_of(name, *maps).mean())
        assert all(f"{option}={value!r}" in repr(metric) for option, value in options.items() if option != "normalize")


def test_little_positive_saliency_counts_beside_much_negative():
    model, mask = torch.tensor([[[-1e9, 3.0, 1.0]], [[-1e9, 6e-8, 0.0]]]), torch.tensor([[[False, True, False]]] * 2)
    assert M.energy_pointing_game(model, mask).tolist() == [0.75, 0.0]


def test_stability_by_another_similarity():
    runs = torch.rand(3, 4, 5, 5, dtype=torch.float64)
    metric = M.Stability(similarity=M.kl)
    metric.update(runs)
    pairs = [M.kl(runs[a], runs[b]) for a in range(3) for b in range(3) if a != b]
    close(metric.compute(), torch.stack(pairs).mean())


def test_installing_torchmetrics_is_what_the_error_asks_for(monkeypatch):
    name = "saliency_losses.metrics.base"
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, name, sys.modules[name])
    del sys.modules[name]
    with pytest.raises(ImportError, match=r'needs torchmetrics: pip install "saliency-losses\[metrics\]"'):
        importlib.import_module(name)


MAP, OTHER = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
BAD = MAP.clone()
BAD[1, 0, 0] = torch.nan


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: M.cc(MAP, None), TypeError, r"cc compares with human maps, a tensor of shape \(B, \*S\), got NoneTyp"),
        (lambda: M.CC().update(MAP), TypeError, "cc compares with human maps"),
        (lambda: M.cc([1.0], OTHER), TypeError, "cc expected the model's maps as a floating-point tensor, got list"),
        (lambda: M.cc(MAP.long(), OTHER), TypeError, "as a floating-point tensor, got torch.int64"),
        (lambda: M.cc(MAP[:0], OTHER[:0]), ValueError, r"cc expected non-empty maps of shape \(B, \*s\), got \(0, 3"),
        (lambda: M.cc(MAP, OTHER[:1]), ValueError, "1 maps, but the batch has 2 samples"),
        (lambda: M.cc(BAD, OTHER), ValueError, r"cc got model maps with NaN or infinite values in sample\(s\) 1; find"),
        (
            lambda: M.map_entropy(BAD),
            ValueError,
            r"map_entropy got model maps with NaN .* leave them out by annotated=",
        ),
        (lambda: M.cc(MAP, BAD), ValueError, "human_saliency has NaN or infinite values in sample 1"),
        (lambda: M.nss(MAP, -OTHER), ValueError, r"values below 0 in sample 0; sample 1 .* nss reads values from 0"),
        (
            lambda: M.iou(MAP, 2 + OTHER),
            ValueError,
            "values above 1 in sample 0; sample 1 .* iou reads values from 0 to",
        ),
        (lambda: M.cc(MAP, OTHER, OTHER > 0.5), ValueError, r"cc takes annotated of shape \(2,\).*got \(2, 3, 4\)"),
        (lambda: M.cc(MAP, OTHER, torch.ones(3).bool()), ValueError, r"annotated has shape \(3,\), expected \(2,\)"),
        (lambda: M.CC(sizing="big"), ValueError, "sizing must be one of area, max"),
        (lambda: M.NSS(sizing="area"), ValueError, "got 'area': fixations are pixels, so that the model's map comes"),
        (lambda: M.nss(MAP, OTHER, sizing="max"), ValueError, "sizing must be one of enlarge, enlarge_aligned, same"),
        (lambda: M.CC(colour="red"), ValueError, "Unexpected keyword arguments: `colour`"),
        (lambda: M.PointingGame(tolerance=-1), ValueError, "tolerance must be a finite number of positions, not negat"),
        (lambda: M.IoU(threshold=1.0), ValueError, r"threshold must be in \[0, 1\), got 1.0"),
        (lambda: M.HumanAlignment(ceiling=0.0), ValueError, r"ceiling must be a correlation in \(0, 1\], got 0.0"),
        (lambda: M.EnergyPointingGame(floor=-1.0), ValueError, "floor must be finite and not negative, got -1.0"),
        (lambda: M.AUCJudd(jitter=-1.0), ValueError, "jitter must be finite and not negative, got -1.0"),
        (lambda: M.InformationGain(eps=-1.0), ValueError, "eps must be finite and not negative, got -1.0"),
        (lambda: M.InformationGain(normalize="minmax"), ValueError, "normalize of information_gain must make a distr"),
        (lambda: M.MapEntropy(normalize="l2"), ValueError, "normalize of map_entropy must make a distribution"),
        (lambda: M.InformationGain(baseline=1.0), TypeError, r"baseline must be a floating-point map \(\*S\) or None"),
        (lambda: M.InformationGain(baseline=-MAP[0]), ValueError, "baseline must be finite and not negative, and some"),
        (
            lambda: M.information_gain(MAP, OTHER.round(), baseline=OTHER),
            ValueError,
            r"baseline must be one map of the size of the fixations \(3, 4\).*got \(2, 3, 4\)",
        ),
        (
            lambda: M.shuffled_auc(MAP, OTHER.round(), others=torch.ones(2, 4, 3)),
            ValueError,
            r"others must be counts at the size of the fixations \(3, 4\), got shape \(2, 4, 3\)",
        ),
        (lambda: M.stability(MAP[:1]), ValueError, r"the maps of two or more models, \(R, B, \*s\), got \(1, 3, 4\)"),
        (lambda: M.stability([MAP, MAP]), TypeError, r"stability expected maps as a tensor \(R, B, \*s\), got list"),
        (lambda: M.Stability(similarity="cc"), TypeError, r"similarity must be a callable\(maps, others, annotated\)"),
        (
            lambda: M.stability(MAP[None].repeat(2, 1, 1, 1), similarity=lambda m, h, a: m.mean()),
            ValueError,
            r"similarity must give one value per map, \(2,\), got \(\)",
        ),
        (lambda: M.create_metric("auc"), ValueError, "Unknown metric 'auc'"),
    ],
)
def test_errors_say_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_shuffled_auc_refuses_fixations_at_several_sizes():
    metric = M.ShuffledAUC()
    for size in ((4, 6), (6, 4)):
        metric.update(*draw("shuffled_auc", 2, size))
    with pytest.raises(ValueError, match=r"must have one size, got \(4, 6\), \(6, 4\); make them by fixations_to_co"):
        metric.compute()


def test_fixation_metrics_refuse_heat_maps():
    heat = torch.tensor([[[0.0, 0.4, 1.0, 0.0]]])
    for name in FIXATIONS:
        with pytest.raises(
            ValueError, match=f"{name} counts fixations, but human_saliency holds fractions: a heat map"
        ):
            values_of(name, ROW, heat)
        there = values_of(name, ROW.repeat(2, 1, 1), torch.cat([heat.round(), heat]), torch.tensor([True, False]))
        assert there[1].isnan()
    assert M.nss(ROW, (heat > 0.5).to(torch.uint8) * 3) == M.nss(ROW, heat.round())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "shuffled_auc"])
def test_annotated_is_not_taken_for_human_maps(name):
    maps = draw(name, 2, (4, 5))
    with pytest.raises(ValueError, match=r"got human maps of shape \(2,\); which samples count is given by keyword"):
        M.create_metric(name).update(maps[0], torch.tensor([True, False]))
