"""From what people have to maps: every function against naive restatements, and where a mark lands."""

import itertools
import math
import sys

import numpy as np
import pytest
import scipy.ndimage
import torch

from saliency_losses import maps
from saliency_losses.maps.components import connected_components, fill_holes

DOUBLE = torch.float64


def blobs(*shape, share=0.3, seed=0):
    """Random regions with holes."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


# Fixations


@pytest.mark.parametrize("subpixel", [True, False])
def test_heat_is_the_sum_of_gaussians(subpixel):
    generator = torch.Generator().manual_seed(1)
    where = torch.rand(2, 5, 2, generator=generator, dtype=DOUBLE) * torch.tensor([12.0, 8.0])
    durations = torch.rand(2, 5, generator=generator, dtype=DOUBLE)
    heat = maps.fixations_to_map(where, (9, 13), sigma=1.3, weights=durations, subpixel=subpixel)
    expected = np.zeros((2, 9, 13))
    for sample, n, row, column in itertools.product(range(2), range(5), range(9), range(13)):
        x, y = where[sample, n].tolist()
        if not subpixel:
            x, y = math.floor(x + 0.5), math.floor(y + 0.5)
        far = ((column - x) ** 2 + (row - y) ** 2) / (2 * 1.3**2)
        expected[sample, row, column] += float(durations[sample, n]) * math.exp(-far) / (2 * math.pi * 1.3**2)
    np.testing.assert_allclose(heat.numpy(), expected, rtol=1e-12)


def test_a_click_lands_on_its_pixel():
    click = torch.tensor([[11.0, 3.0]])
    for marked in (maps.fixations_to_map(click, (7, 16), sigma=1.0), maps.fixations_to_counts(click, (7, 16))):
        assert divmod(int(marked.argmax()), 16) == (3, 11)
    heat = maps.fixations_to_map(click.double(), (7, 23), sigma=1.0)
    torch.testing.assert_close(heat, heat.flip(0).flip(1))


@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_a_fixation_adds_its_duration(sigma):
    heat = maps.fixations_to_map(
        torch.tensor([[30.2, 31.7], [29.0, 33.5]], dtype=DOUBLE), (64, 64), sigma=sigma, weights=[0.2, 0.3]
    )
    assert float(heat.sum()) == pytest.approx(0.5, abs=1e-6)


def test_heat_is_the_blurred_count():
    where = torch.tensor([[5, 9], [20, 2], [20, 2]], dtype=DOUBLE)
    counts = maps.fixations_to_counts(where, (24, 30))
    heat = maps.fixations_to_map(where, (24, 30), sigma=2.0)
    torch.testing.assert_close(heat, maps.blur(counts, 2.0), rtol=2e-3, atol=1e-4)


def test_one_sample_a_list_and_a_padded_batch_agree():
    first, second = torch.tensor([[1.0, 2.0], [3.0, 1.0]]), torch.tensor([[0.0, 4.0]])
    padded = torch.tensor([[[1.0, 2.0], [3.0, 1.0]], [[0.0, 4.0], [float("nan"), -99.0]]])
    weights = torch.tensor([[0.5, 2.0], [3.0, 0.0]])
    for make in (lambda *a, **k: maps.fixations_to_map(*a, sigma=1.0, **k), maps.fixations_to_counts):
        batch = make(padded, (6, 5), weights=weights)
        listed = make([first, second], (6, 5), weights=[[0.5, 2.0], [3.0]])
        alone = torch.stack([make(first, (6, 5), weights=weights[0]), make(second, (6, 5), weights=weights[1, :1])])
        assert batch.dtype == torch.float32
        torch.testing.assert_close(batch, listed)
        torch.testing.assert_close(batch, alone)


def test_a_batch_of_no_samples():
    assert maps.fixations_to_map(torch.zeros(0, 3, 2), (4, 5), sigma=1.0, weights=torch.zeros(0, 3)).shape == (0, 4, 5)
    assert maps.boxes_to_map(torch.zeros(0, 4), (4, 5)).shape == (0, 4, 5)


def test_padding_never_counts():
    listed = [[(1, 1), (2, 1)], [(3, 3)]]
    assert maps.fixations_to_counts(listed, (4, 4), weights=torch.ones(2, 2)).sum((1, 2)).tolist() == [2, 1]


def test_the_most_precise_sample_decides_the_dtype():
    mixed = [[], torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]], dtype=DOUBLE)]
    assert maps.fixations_to_map(mixed, (4, 4), sigma=1.0).dtype == DOUBLE
    assert maps.boxes_to_map([[], torch.tensor([[0, 0, 2, 2]]).double()], (4, 4)).dtype == DOUBLE
    assert maps.fixations_to_map([torch.zeros(0, 2).double(), [[1, 2]]], (4, 4), sigma=1.0).dtype == torch.float32


@pytest.mark.parametrize("nothing", [[[], []], torch.zeros(2, 0, 2), [torch.zeros(0, 2), torch.zeros(0, 2)]])
def test_no_fixations_give_empty_maps(nothing):
    assert maps.fixations_to_map(nothing, (4, 5), sigma=1.0).shape == (2, 4, 5)
    assert not maps.fixations_to_counts(nothing, (4, 5)).any()


def test_pixels_reach_from_half_to_half():
    inside = torch.tensor([[-0.5, -0.5], [4.49, 3.49]])
    counts = maps.fixations_to_counts(inside, (4, 5))
    assert counts[0, 0] == counts[3, 4] == 1
    for beyond in ([4.5, 0.0], [0.0, 3.5], [-0.6, 0.0], [0.0, -0.51]):
        with pytest.raises(ValueError, match=r"Sample 1: fixation 0 at \(x=.* is outside a map of height 4 and"):
            maps.fixations_to_counts([[[0, 0]], [beyond]], (4, 5))


def test_fixations_outside_are_dropped_on_request():
    where = torch.tensor([[1.0, 1.0], [90.0, 1.0], [float("nan"), 1.0], [1.0, float("inf")]])
    heat = maps.fixations_to_map(where, (4, 5), sigma=1.0, outside="drop")
    torch.testing.assert_close(heat, maps.fixations_to_map(where[:1], (4, 5), sigma=1.0))
    assert maps.fixations_to_counts(where, (4, 5), outside="drop").sum() == 1
    with pytest.raises(ValueError, match=r"Sample 0: fixation 2 at \(x=nan, y=1\)"):
        maps.fixations_to_map(where[[0, 0, 2]], (4, 5), sigma=1.0)


def test_counts_keep_multiplicity_and_give_the_published_nss():
    twice = torch.tensor([[1.0, 0.0], [0.6, 0.4], [2.0, 3.0]])
    assert maps.fixations_to_counts(twice, (4, 4))[0, 1] == 2
    assert maps.fixations_to_counts(twice, (4, 4), binary=True)[0, 1] == 1
    assert maps.fixations_to_counts(twice, (4, 4), weights=torch.tensor([0.2, 7.0, 0.0])).sum() == 2
    # pysaliency, NSS of |sin| with fixations in row 0, column 1 and row 3, column 2
    model = torch.arange(16, dtype=DOUBLE).sin().abs().view(4, 4)
    counts = maps.fixations_to_counts(torch.tensor([[1, 0], [2, 3]], dtype=DOUBLE), (4, 4))
    scores = (model - model.mean()) / model.std(correction=0)
    assert float((scores * counts).sum() / counts.sum()) == pytest.approx(0.929452, abs=1e-6)


def test_a_degree_of_visual_angle():
    assert maps.pixels_per_degree(40.0, 1000, 57.29) == pytest.approx(1000 / 40, rel=1e-3)  # at 57.29 cm it is 1 cm
    with pytest.raises(ValueError, match="distance must be positive, got 0"):
        maps.pixels_per_degree(40.0, 1000, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: maps.fixations_to_map(torch.zeros(3, 4), (4, 5), sigma=1.0),
            r"fixations must have shape \(N, 2\), .*, got \(3, 4\)",
        ),
        (lambda: maps.fixations_to_map(torch.zeros(2, 3, 4), (4, 5), sigma=1.0), r"\(B, N, 2\).*got \(2, 3, 4\)"),
        (lambda: maps.fixations_to_map([[1, 2], [3, 4]], (4, 5), sigma=1.0), r"Sample 0: fixations must have shape"),
        (lambda: maps.fixations_to_map([], (4, 5), sigma=1.0), "fixations is an empty list"),
        (lambda: maps.fixations_to_map([[[1, 2]]], (4, 5), sigma=0.1), r"sigma must be at least 0\.5 pixels, got 0\.1"),
        (lambda: maps.fixations_to_map([[[1, 2]]], (4,), sigma=1.0), r"size must be \(height, width\)"),
        (lambda: maps.fixations_to_counts([[[1, 2]]], 4), r"size must be \(height, width\) in whole pixels, got 4"),
        (lambda: maps.fixations_to_counts([[[1, 2]]], (4, 0)), r"size must be \(height, width\)"),
        (lambda: maps.fixations_to_counts([[[1, 2]]], (4, 5), outside="keep"), "outside must be 'error' or 'drop'"),
        (
            lambda: maps.fixations_to_counts([[[1, 2]], [[1, 1]]], (4, 5), weights=[[1], [1, 2]]),
            "Sample 1 has 1 fixations but 2 weights",
        ),
        (lambda: maps.fixations_to_counts([[[1, 2]]], (4, 5), weights=[[1], [2]]), "weights has 2 samples"),
        (
            lambda: maps.fixations_to_counts([[[1, 2]]], (4, 5), weights=[1]),
            r"Sample 0: weights must .*\(N,\), got \(\)",
        ),
        (
            lambda: maps.fixations_to_counts(torch.zeros(2, 3, 2), (4, 5), weights=torch.ones(2, 2)),
            r"weights must have shape \(2, 3\), got \(2, 2\)",
        ),
        (
            lambda: maps.fixations_to_counts([[[1, 2]], [[1, 1]]], (4, 5), weights=[[1], [-2.0]]),
            "Sample 1: fixation 0 has the weight -2; weights are finite, not negative",
        ),
        (
            lambda: maps.fixations_to_map([[(0.3, 0.7)], [(0.5, 1.0), (0, 0)]], (4, 5), sigma=1.0),
            "All fixations lie between 0 and 1, as shares of the image do: multiply x",
        ),
        (
            lambda: maps.denoise_fixations(torch.zeros(3, 2), [1, math.nan, 1]),
            "Sample 0: fixation 1 has the weight nan",
        ),
    ],
)
def test_fixations_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "where", [[(0.3, 0.7)], 2 * [(0, 0), (1, 1)], 2 * [(0.3, 0.7), (0.5, 1.1)], 2 * [(-0.3, 0.7), (0.5, 1)]]
)
def test_fixations_in_the_corner_are_no_shares(where):
    assert maps.fixations_to_counts([where, []], (4, 5)).sum() == len(where)
    assert maps.fixations_to_counts([3 * [(0.3, 0.7)]], (4, 5), outside="drop").sum() == 3


# Denoising


def gaze():
    generator = torch.Generator().manual_seed(3)
    near, far = torch.randn(15, 2, generator=generator) * 3 + 40, torch.randn(15, 2, generator=generator) * 3 + 120
    return torch.cat([near, far, torch.tensor([[200.0, 10.0], [5.0, 180.0]])])


@pytest.mark.parametrize("distance", [None, 12.0])
def test_stray_fixations_lose_their_weight(distance):
    weights = torch.arange(1.0, 33.0)
    kept = maps.denoise_fixations(gaze(), weights, distance=distance)
    assert not kept[30:].any()
    assert (kept[:30] > 0).sum() > 25
    assert torch.equal(kept[kept > 0], weights[kept > 0])


def test_a_single_cluster_is_found_at_a_distance():
    where = gaze()[15:]
    assert maps.denoise_fixations(where).all(), "nothing says which are stray"
    assert maps.denoise_fixations(where, distance=12.0).tolist() == [1.0] * 15 + [0.0] * 2


def test_denoised_weights_have_the_form_of_the_fixations():
    where = gaze()
    listed = maps.denoise_fixations([where, where[:3], []])
    assert [len(one) for one in listed] == [32, 3, 0]
    assert listed[1].all()
    padded = maps.denoise_fixations(torch.stack([where, where.flip(0)]))
    assert torch.equal(padded[0], padded[1].flip(0))
    assert torch.equal(padded[0], listed[0])
    assert maps.fixations_to_counts([where, where[:3], []], (200, 220), weights=listed)[0].sum() == listed[0].sum()


def test_fixations_without_weight_take_no_part():
    where, weights = gaze(), torch.ones(32)
    weights[:15] = 0.0
    assert torch.equal(maps.denoise_fixations(where, weights, distance=12.0)[15:30], torch.ones(15))


def test_what_denoising_needs(monkeypatch):
    with pytest.raises(ValueError, match="min_cluster_size must be at least 2, got 1"):
        maps.denoise_fixations(gaze(), min_cluster_size=1)
    with pytest.raises(ValueError, match="distance must be positive, in pixels, got 0"):
        maps.denoise_fixations(gaze(), distance=0)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs scikit-learn: pip install 'saliency-losses\[examples\]'"):
        maps.denoise_fixations(gaze())


# Boxes, polygons and masks


def test_a_box_is_a_slice():
    boxes = torch.tensor([[2, 1, 6, 3], [0, 0, 9, 7], [8, 6, 20, 20]])
    filled = maps.boxes_to_map(boxes, (7, 9))
    for (left, top, right, bottom), one in zip(boxes.tolist(), filled, strict=True):
        expected = torch.zeros(7, 9)
        expected[top:bottom, left:right] = 1.0
        assert torch.equal(one, expected)
    assert torch.equal(maps.boxes_to_map(torch.tensor([2.5, 1.0, 6.5, 3.0]), (7, 9)), filled[0])
    assert torch.equal(maps.boxes_to_map(torch.tensor([2.6, 1.0, 6.6, 3.0]), (7, 9)), filled[0].roll(1, 1))


def test_many_boxes_per_sample():
    padded = torch.tensor([[[0, 0, 2, 2], [1, 1, 4, 3]], [[3, 0, 5, 1], [0, 0, 0, 0]]])
    filled = maps.boxes_to_map(padded, (4, 5))
    assert torch.equal(filled, maps.boxes_to_map([[[0, 0, 2, 2], [1, 1, 4, 3]], [[3, 0, 5, 1]]], (4, 5)))
    assert filled.sum((1, 2)).tolist() == [4 + 6 - 1, 2]
    assert not maps.boxes_to_map([[], []], (4, 5)).any()


def test_soft_edges_are_those_of_a_blurred_box():
    soft = maps.boxes_to_map(torch.tensor([[[4, 3, 10, 8], [6, 6, 12, 9]]], dtype=DOUBLE), (12, 16), sigma=0.8)[0]
    for row, column in itertools.product(range(12), range(16)):
        values = []
        for left, top, right, bottom in ((4, 3, 10, 8), (6, 6, 12, 9)):
            parts = [
                math.erf((at + 0.5 - low) / 0.8 / math.sqrt(2)) - math.erf((at + 0.5 - high) / 0.8 / math.sqrt(2))
                for at, low, high in ((row, top, bottom), (column, left, right))
            ]
            values.append(parts[0] * parts[1] / 4)
        assert float(soft[row, column]) == pytest.approx(max(values), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: maps.boxes_to_map([[[0, 0, 2, 2]], [[0, 0, 1, 1], [5, 0, 7, 2]]], (4, 5)),
            r"Sample 1: box 1 \(5\.0, 0\.0, 7\.0, 2\.0\) has no pixel on a map of height 4 and width 5",
        ),
        (
            lambda: maps.boxes_to_map(torch.tensor([[3, 0, 2, 2]]), (4, 5)),
            r"Sample 0: box 0 .* not \(x, y, width",
        ),
        (lambda: maps.boxes_to_map(torch.tensor([[math.nan, 0, 2, 2]]), (4, 5)), "Sample 0: box 0"),
        (lambda: maps.boxes_to_map(torch.tensor([0.1, 0.2, 0.4, 0.9]), (4, 5)), "no pixel .* or shares of the image"),
        (lambda: maps.boxes_to_map(torch.tensor([1.6, 0, 2.4, 2]), (4, 5), sigma=1.0), "box 0 .* has no pixel"),
        (lambda: maps.boxes_to_map(torch.zeros(2, 5), (4, 5)), r"boxes must have shape .* got \(2, 5\)"),
        (
            lambda: maps.boxes_to_map([[0, 0, 2, 2]], (4, 5)),
            r"Sample 0: boxes must have shape \(N, 4\), got \(4,\)\. One sample alone is a tensor",
        ),
        (lambda: maps.boxes_to_map([], (4, 5)), "boxes is an empty list"),
        (lambda: maps.boxes_to_map(torch.zeros(4), (4, 5), sigma=-1), "sigma must be zero or more pixels, got -1"),
        (lambda: maps.boxes_to_map(torch.zeros(4), (4, 5), outside="clip"), "outside must be 'error' or 'drop'"),
    ],
)
def test_boxes_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_boxes_without_pixels_are_dropped_on_request():
    boxes = torch.tensor([[[0.0, 0, 2, 2], [5, 0, 7, 2], [3, 0, 2, 2], [math.nan, 0, 9, 9], [0, 0, 9, math.nan]]])
    assert maps.boxes_to_map(boxes, (4, 5), sigma=0.5, outside="drop").isfinite().all()
    assert maps.boxes_to_map(boxes, (4, 5), outside="drop").sum() == 4


def in_polygon(x, y, vertices):
    """Even-odd rule by a ray to the left."""
    odd = False
    for (x1, y1), (x2, y2) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        if (y1 <= y) != (y2 <= y) and x1 + (y - y1) * (x2 - x1) / (y2 - y1) <= x:
            odd = not odd
    return odd


def test_polygons_follow_the_even_odd_rule():
    generator = np.random.default_rng(0)
    shapes = [[generator.uniform(-3, 15, (n, 2)).tolist() for n in (3, 5)] for _ in range(4)]
    filled = maps.polygons_to_map([*shapes, []], (10, 12))
    assert filled.shape == (5, 10, 12)
    for sample, row, column in itertools.product(range(4), range(10), range(12)):
        assert bool(filled[sample, row, column]) == any(in_polygon(column, row, shape) for shape in shapes[sample])
    assert 0 < filled[:4].sum() < 480
    assert not filled[4].any()


def test_polygons_agree_with_boxes_and_share_no_pixel():
    corners = [(2, 1), (6, 1), (6, 4), (2, 4)]
    box = maps.boxes_to_map(torch.tensor([[2, 1, 6, 4]]), (6, 8))
    assert torch.equal(maps.polygons_to_map([[corners]], (6, 8)), box)
    halves = maps.polygons_to_map([[corners[:3]], [[corners[0], *corners[2:]]]], (6, 8))
    assert torch.equal(halves.sum(0, keepdim=True), box)
    assert maps.polygons_to_map([[torch.tensor(corners, dtype=DOUBLE)]], (6, 8)).dtype == DOUBLE


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([[[(0, 0), (3, 3), (0, 3)]], [[(0, 0), (1, 1)]]], r"Sample 1: polygon 0 must be three or more .* \(2, 2\)"),
        ([[(0, 0), (1, 1), (0, 1)]], "Sample 0: polygon 0 .* Each sample has a list of polygons"),
        ([[[(0, 0), (1, math.nan), (0, 1)]]], "Sample 0: polygon 0 has NaN or infinite coordinates"),
        ([[[(4, 0), (9, 0), (9, 4)]]], "Sample 0: polygon 0 has no pixel on a map of height 4 and width 4"),
        ([[[(0.1, 0.1), (0.9, 0.1), (0.9, 0.9)]]], "Sample 0: polygon 0 .* or shares of the image"),
        ([], "polygons must be a list"),
        (torch.zeros(3, 2), "polygons must be a list"),
    ],
)
def test_what_is_no_polygon(polygons, message):
    with pytest.raises(ValueError, match=message):
        maps.polygons_to_map(polygons, (4, 4))
    with pytest.raises(ValueError, match="outside must be 'error' or 'drop', got 'clip'"):
        maps.polygons_to_map([[]], (4, 4), outside="clip")


def test_polygons_without_pixels_are_dropped_on_request():
    polygons = [[[(0, 0), (2, 0), (2, 2), (0, 2)], [(4, 0), (9, 0), (9, 4)], [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9)]], []]
    assert maps.polygons_to_map(polygons, (4, 4), outside="drop").sum((1, 2)).tolist() == [4, 0]


def test_masks_become_maps():
    classes = torch.tensor([[[0, 1], [2, 7]]])
    assert maps.mask_to_map(classes, labels=7).tolist() == [[[0, 0], [0, 1]]]
    assert maps.mask_to_map(classes.to(torch.uint8), labels=[1, 2]).tolist() == [[[0, 1], [1, 0]]]
    assert maps.mask_to_map(torch.tensor([[0, 51]], dtype=torch.uint8)).tolist() == [[0.0, pytest.approx(0.2)]]
    with pytest.raises(TypeError, match=r"got torch.int64; class numbers become a map by mask_to_map"):
        maps.mask_to_map(classes)
    with pytest.raises(TypeError, match=r"holds whole numbers of classes, got torch.float32"):
        maps.mask_to_map(classes.float(), labels=1)
    with pytest.raises(ValueError, match="labels is empty"):
        maps.mask_to_map(classes, labels=[])


# Annotators


def annotators():
    drawn = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    drawn = torch.where(drawn > 0.4, drawn, 0.0)
    present = torch.tensor([[True] * 4, [True, False, True, False], [False] * 4])
    drawn[~present] = float("nan")
    return drawn, present


@pytest.mark.parametrize("how", ["mean", "union", "majority", "share"])
def test_annotators_are_combined(how):
    drawn, present = annotators()
    combined = maps.combine_annotators(drawn, how, present=present, at_least=0.75, threshold=0.6)
    assert combined.dtype == DOUBLE
    for sample, row, column in itertools.product(range(3), range(5), range(6)):
        values = drawn[sample, present[sample], row, column].tolist()
        marks = sum(value > 0.6 for value in values)
        expected = {
            "mean": sum(values) / max(len(values), 1),
            "union": max(values, default=0.0),
            "majority": float(2 * marks > len(values)),
            "share": float(bool(marks) and 4 * marks >= 3 * len(values)),
        }[how]
        assert float(combined[sample, row, column]) == pytest.approx(expected, abs=1e-12)


def test_a_tie_is_no_majority_and_a_third_is_a_third():
    two = torch.tensor([[[1.0]], [[0.0]]])
    assert maps.combine_annotators(two, "majority") == 0
    assert maps.combine_annotators(two, "share", at_least=0.5) == 1
    of_25 = (torch.arange(25) < 15).view(25, 1, 1)
    assert maps.combine_annotators(of_25, "share", at_least=0.6) == 1
    assert maps.combine_annotators(of_25, "share", at_least=0.61) == 0


def test_signed_maps_ignore_who_is_missing():
    signed = torch.tensor([[[[-2.0]], [[9.0]]]])
    present = torch.tensor([[True, False]])
    assert maps.combine_annotators(signed, "union", present=present) == -2.0
    assert maps.combine_annotators(signed, "majority", present=present, threshold=-1.0) == 0


@pytest.mark.parametrize("how", ["iou", "correlation"])
def test_agreement_is_the_mean_over_pairs(how):
    drawn, present = annotators()
    agreement = maps.annotator_agreement(drawn, how, present=present, threshold=0.6)
    for sample in range(2):
        values = []
        for one, two in itertools.combinations(drawn[sample, present[sample]].numpy(), 2):
            if how == "iou":
                values.append(((one > 0.6) & (two > 0.6)).sum() / ((one > 0.6) | (two > 0.6)).sum())
            else:
                values.append(np.corrcoef(one.ravel(), two.ravel())[0, 1])
        assert float(agreement[sample]) == pytest.approx(np.mean(values), rel=1e-10)
    assert agreement[2] == 1.0


def test_agreement_of_empty_and_flat_maps():
    empty = torch.zeros(2, 3, 3)
    assert maps.annotator_agreement(empty) == 1.0
    assert maps.annotator_agreement(empty, "correlation") == 0.0
    assert maps.annotator_agreement(torch.rand(1, 3, 3)) == 1.0


@pytest.mark.parametrize("function", [maps.combine_annotators, maps.annotator_agreement])
@pytest.mark.parametrize(
    ("drawn", "options", "message"),
    [
        (torch.zeros(2, 3, 4, 4), {"present": torch.ones(3).bool()}, r"present must be bool of shape \(2, 3\)"),
        (torch.zeros(3, 4, 4), {"present": torch.ones(3)}, r"present must be bool of shape \(3,\).*float32"),
        (torch.zeros(1, 2, 3, 4, 4), {}, r"\(A, H, W\) or \(B, A, H, W\), got \(1, 2, 3, 4, 4\)"),
        (torch.zeros(4, 4), {}, r"\(A, H, W\) or \(B, A, H, W\), got \(4, 4\)"),
        (torch.zeros(3, 4, 4), {"how": "median"}, "how must be 'mean'|how must be 'iou'"),
    ],
)
def test_annotators_that_do_not_fit(function, drawn, options, message):
    with pytest.raises(ValueError, match=message):
        function(drawn, **options)


def test_a_share_is_a_share():
    with pytest.raises(ValueError, match=r"at_least must be a share in \(0, 1\], got 50"):
        maps.combine_annotators(torch.zeros(3, 4, 4), "share", at_least=50)


# Blur and threshold


@pytest.mark.parametrize(
    ("border", "mode"), [("constant", "constant"), ("replicate", "nearest"), ("reflect", "mirror")]
)
@pytest.mark.parametrize("sigma", [0.4, 1.0, 1.7])
def test_blur_is_scipys(border, mode, sigma):
    drawn = torch.rand(2, 9, 14, dtype=DOUBLE)
    blurred = maps.blur(drawn, sigma, border=border)
    for one, result in zip(drawn, blurred, strict=True):
        expected = scipy.ndimage.gaussian_filter(one.numpy(), sigma, mode=mode, truncate=4.0)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_blur_keeps_mass_and_options_are_checked():
    point = torch.zeros(33, 33, dtype=DOUBLE)
    point[16, 16] = 3.0
    assert float(maps.blur(point, 2.0).sum()) == pytest.approx(3.0, abs=1e-6)
    assert torch.equal(maps.blur(point, 0.0), point)
    with pytest.raises(ValueError, match=r"'reflect' needs maps of more than 40 pixels a side at sigma=10.0, got \(33"):
        maps.blur(point, 10.0, border="reflect")
    with pytest.raises(ValueError, match="border must be 'constant', 'replicate' or 'reflect', got 'wrap'"):
        maps.blur(point, 1.0, border="wrap")
    with pytest.raises(ValueError, match="sigma must be zero or more pixels, got nan"):
        maps.blur(point, math.nan)


@pytest.mark.parametrize("top", [0.01, 0.07, 0.25, 1.0])
def test_the_top_share_of_a_map(top):
    drawn = torch.rand(3, 10, 10)
    marked = maps.threshold(drawn, top=top)
    for one, result in zip(drawn, marked, strict=True):
        count = min(round(top * 100), 99)
        expected = np.zeros(100)
        expected[np.argsort(-one.numpy().ravel())[:count]] = 1
        assert np.array_equal(result.numpy().ravel(), expected)


def test_ties_sparse_and_flat_maps():
    ties = torch.tensor([[0.0, 2.0, 2.0, 2.0, 5.0]])
    assert maps.threshold(ties, top=0.4).tolist() == [[0, 1, 1, 1, 1]]
    assert maps.threshold(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), top=0.5).tolist() == [[0, 0, 0, 1]]
    assert not maps.threshold(torch.full((3, 3), 0.7), top=0.5).any()
    assert maps.threshold(ties, 2.0).tolist() == [[0, 0, 0, 0, 1]]
    with pytest.raises(ValueError, match="one of above=, a value, and top="):
        maps.threshold(ties)
    with pytest.raises(ValueError, match="one of above=, a value, and top="):
        maps.threshold(ties, 0.5, top=0.5)
    with pytest.raises(ValueError, match=r"top must be a share in \(0, 1\], got 10"):
        maps.threshold(ties, top=10)


# Granularity


def spiral(size):
    """A line one pixel thin that winds to the centre, two pixels apart."""
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    row, column, step = 0, 0, (0, 1)
    mask[0, 0, 0] = True
    while True:
        moved = False
        while (
            0 <= row + step[0] < size
            and 0 <= column + step[1] < size
            and not (
                0 <= row + 2 * step[0] < size
                and 0 <= column + 2 * step[1] < size
                and mask[0, row + 2 * step[0], column + 2 * step[1]]
            )
        ):
            row, column, moved = row + step[0], column + step[1], True
            mask[0, row, column] = True
        if not moved:
            return mask
        step = (step[1], -step[0])


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("mask", [blobs(3, 17, 22, share=0.4), blobs(2, 9, 9, share=0.6, seed=4), spiral(31)])
def test_components_are_scipys(mask, diagonal):
    labels = connected_components(mask, diagonal=diagonal)
    structure = np.ones((3, 3)) if diagonal else None
    seen = set()
    for one, result in zip(mask.numpy(), labels.numpy(), strict=True):
        expected, count = scipy.ndimage.label(one, structure)
        pairs = {*zip(expected.ravel().tolist(), result.ravel().tolist(), strict=True)} - {(0, 0)}
        assert len(pairs) == count == len({label for _, label in pairs})
        assert not seen & {label for _, label in pairs}
        seen |= {label for _, label in pairs}


def test_holes_are_scipys():
    mask = torch.cat([blobs(6, 15, 18, share=0.55), blobs(2, 15, 18, share=0.7, seed=1)])
    filled = fill_holes(mask)
    assert (filled != mask).any()
    for one, result in zip(mask.numpy(), filled.numpy(), strict=True):
        assert np.array_equal(result, scipy.ndimage.binary_fill_holes(one))


def region_of(one):
    return scipy.ndimage.binary_fill_holes(one)


@pytest.mark.parametrize("thickness", [1, 1.5, 2, 3.2])
def test_the_outline_is_near_the_outside(thickness):
    drawn = torch.cat([blobs(3, 16, 19, share=0.7), torch.ones(1, 16, 19).bool()]).double()
    outline = maps.boundary(drawn, thickness=thickness)
    for one, result in zip(drawn.numpy() > 0, outline.numpy(), strict=True):
        far = scipy.ndimage.distance_transform_edt(np.pad(region_of(one), 1))[1:-1, 1:-1]
        assert np.array_equal(result > 0, (far > 0) & (far <= thickness + 1e-9))


def test_area_and_features_are_the_filled_region():
    drawn = torch.rand(3, 15, 18) * (torch.rand(3, 15, 18) > 0.2)
    area, features = maps.area(drawn, threshold=0.3), maps.features(drawn, threshold=0.3)
    for one, mask, kept in zip(drawn.numpy(), area.numpy(), features.numpy(), strict=True):
        assert np.array_equal(mask > 0, region_of(one > 0.3))
        assert np.array_equal(kept, np.where(region_of(one > 0.3), one, 0))


def test_boxes_around_regions():
    mask = torch.cat([blobs(4, 14, 17, share=0.12), torch.zeros(1, 14, 17).bool()])
    whole, each = maps.bounding_box(mask), maps.bounding_box(mask, per_component=True)
    assert not (each > whole).any()
    assert (each != whole).any()
    for one, outer, boxes in zip(mask.numpy(), whole.numpy(), each.numpy(), strict=True):
        expected = np.zeros(one.shape)
        for place in scipy.ndimage.find_objects(one.astype(int)):
            expected[place] = 1
        assert np.array_equal(outer, expected)
        expected = np.zeros(one.shape)
        for place in scipy.ndimage.find_objects(scipy.ndimage.label(one, np.ones((3, 3)))[0]):
            expected[place] = 1
        assert np.array_equal(boxes, expected)


def in_hull(mask):
    """Pixels in some triangle of marked ones, thin triangles included."""
    marked = np.argwhere(mask)
    inside = np.zeros(mask.shape, bool)
    for corners in itertools.combinations_with_replacement(marked, 3):
        low, high = np.min(corners, 0), np.max(corners, 0)
        for row, column in itertools.product(range(low[0], high[0] + 1), range(low[1], high[1] + 1)):
            signs = [
                (b[0] - a[0]) * (column - a[1]) - (b[1] - a[1]) * (row - a[0])
                for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
            ]
            inside[row, column] |= min(signs) >= 0 or max(signs) <= 0
    return inside


@pytest.mark.parametrize("seed", range(6))
def test_the_hull_is_made_of_triangles(seed):
    mask = blobs(1, 7, 11, share=0.07 + 0.01 * seed, seed=seed + 10)
    assert np.array_equal(maps.convex_hull(mask)[0].numpy() > 0, in_hull(mask[0].numpy()))


def test_hulls_of_points_lines_and_nothing():
    lines = torch.stack([torch.eye(5), torch.eye(5).flip(1), torch.zeros(5, 5)])
    lines[1, 1:4] = 0.0
    hull = maps.convex_hull(lines)
    assert torch.equal(hull, torch.stack([torch.eye(5), torch.eye(5).flip(1), torch.zeros(5, 5)]))
    point = torch.zeros(4, 6)
    point[2, 5] = 0.5
    assert torch.equal(maps.convex_hull(point), (point > 0).float())


@pytest.mark.parametrize("thickness", [0.5, math.inf, math.nan])
def test_an_outline_is_a_pixel_thick(thickness):
    with pytest.raises(ValueError, match="thickness must be at least 1 pixel"):
        maps.boundary(torch.ones(3, 3), thickness=thickness)


# Positive and negative


@pytest.mark.parametrize(
    ("conflict", "value", "known"),
    [("zero", 0, True), ("positive", 1, True), ("negative", -1, True), ("unknown", 0, False)],
)
def test_signed_annotations(conflict, value, known):
    positive, negative = torch.tensor([[0.9, 0.9, 0.0, 0.0, 0.9]]), torch.tensor([[0, 255, 255, 0, 0]]).to(torch.uint8)
    hidden = torch.tensor([[False, False, False, False, True]])
    signed = maps.tri_state(positive, negative, unknown=hidden, conflict=conflict, threshold=0.5)
    assert signed.maps.tolist() == [[1, value, -1, 0, 0]]
    assert signed.known.tolist() == [[True, known, True, True, False]]


def test_signed_annotations_that_do_not_fit():
    with pytest.raises(ValueError, match=r"positive has shape \(2, 3\) and negative \(3, 2\)"):
        maps.tri_state(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"positive has shape \(2, 3\) and unknown \(3,\)"):
        maps.tri_state(torch.zeros(2, 3), torch.zeros(2, 3), unknown=torch.zeros(3).bool())
    with pytest.raises(ValueError, match="conflict must be 'zero', 'positive', 'negative' or 'unknown', got 'raise'"):
        maps.tri_state(torch.zeros(2, 3), torch.zeros(2, 3), conflict="raise")


# Size


@pytest.mark.parametrize(("own", "size"), [((12, 9), (4, 3)), ((12, 9), (5, 7)), ((6,), (4,)), ((4, 6, 8), (2, 3, 5))])
@pytest.mark.parametrize("how", ["area", "max", "nearest"])
def test_resizing_keeps_what_it_is_told_to(own, size, how):
    drawn = torch.rand(2, 3, *own, dtype=DOUBLE)
    axes = tuple(range(2, 2 + len(own)))
    total = maps.resize(drawn, size, how, keep="sum")
    assert total.shape == (2, 3, *size)
    torch.testing.assert_close(total.sum(axes), drawn.sum(axes), rtol=1e-12, atol=0)
    mean = maps.resize(drawn, size, how, keep="mean")
    torch.testing.assert_close(mean.mean(axes), drawn.mean(axes), rtol=1e-12, atol=0)
    torch.testing.assert_close(mean[1, 2], maps.resize(drawn[1, 2], size, how, keep="mean"), rtol=1e-12, atol=0)


def test_cells_are_averaged_or_keep_their_peak():
    drawn = torch.rand(3, 12, 9, dtype=DOUBLE)
    cells = drawn.view(3, 4, 3, 3, 3)
    torch.testing.assert_close(maps.resize(drawn, (4, 3)), cells.mean((2, 4)))
    assert torch.equal(maps.resize(drawn, (4, 3), "max"), cells.amax((2, 4)))
    assert torch.equal(maps.resize(drawn, (4, 3), "nearest"), drawn[:, ::3, ::3])
    assert set(maps.resize(drawn.sub(0.5).sign(), (5, 7), "nearest").unique().tolist()) == {-1.0, 1.0}


def test_antialiasing_is_pillows():
    image = pytest.importorskip("PIL.Image")
    drawn = torch.rand(12, 9)
    expected = np.asarray(image.fromarray(drawn.numpy()).resize((4, 5), image.Resampling.BILINEAR))
    np.testing.assert_allclose(maps.resize(drawn, (5, 4), "antialias").numpy(), expected, rtol=1e-5)


def test_a_sum_that_is_lost_cannot_be_kept():
    click = torch.zeros(2, 8, 8)
    click[1, 3, 3] = 1.0
    assert maps.resize(click, (2, 2), keep="sum").sum((1, 2)).tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"keep='sum' cannot be kept: how='nearest' leaves nothing .* \(2, 2\)"):
        maps.resize(click, (2, 2), "nearest", keep="sum")


def test_empty_maps_stay_empty_at_any_size():
    assert not maps.resize(torch.zeros(2, 4, 4), (3, 3), keep="sum").any()
    assert not maps.resize(torch.zeros(4, 4), (7, 7), keep="mean").any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 3)}, "size must be one to three sides in whole pixels"),
        ({"size": 7}, r"size must be one to three sides in whole pixels, such as .* got 7"),
        ({"size": (2, 2, 2, 2)}, "size must be one to three sides in whole pixels"),
        ({"size": (2, 2), "how": "bilinear"}, "how must be 'area', 'max', 'antialias' or 'nearest', got 'bilinear'"),
        ({"size": (2, 2), "keep": "peak"}, "keep must be 'mean', 'sum' or None, got 'peak'"),
        ({"size": (2, 2, 2)}, r"maps must have shape \(D, H, W\) or .* got \(4, 4\)"),
    ],
)
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        maps.resize(torch.zeros(4, 4), **options)


# What all functions on maps share

CHANGES = {
    "area": maps.area,
    "blur": lambda drawn: maps.blur(drawn, 0.6),
    "boundary": maps.boundary,
    "bounding_box": maps.bounding_box,
    "boxes_per_component": lambda drawn: maps.bounding_box(drawn, per_component=True),
    "convex_hull": maps.convex_hull,
    "features": maps.features,
    "mask_to_map": maps.mask_to_map,
    "resize": lambda drawn: maps.resize(drawn, (5, 6)),
    "threshold_above": lambda drawn: maps.threshold(drawn, 0.5),
    "threshold_top": lambda drawn: maps.threshold(drawn, top=0.3),
    "tri_state": lambda drawn: maps.tri_state(drawn, drawn.flip(-1)).maps,
}
each = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@each
def test_a_batch_is_a_loop_over_its_maps(change):
    drawn = torch.rand(2, 3, 8, 9) * blobs(2, 3, 8, 9, share=0.4)
    before = drawn.clone()
    batch = change(drawn)
    torch.testing.assert_close(batch, torch.stack([torch.stack([change(one) for one in row]) for row in drawn]))
    assert torch.equal(drawn, before)
    assert torch.equal(batch, change(drawn.transpose(2, 3).contiguous().transpose(2, 3)))
    assert change(drawn[:0]).shape == batch[:0].shape
    assert torch.equal(change(drawn[:1].expand(2, 3, 8, 9))[1], batch[0])


@each
def test_dtypes(change):
    drawn = blobs(2, 8, 9, share=0.4)
    expected = change(drawn)
    assert expected.dtype == torch.float32
    assert torch.equal(change(drawn.to(torch.uint8) * 255), expected)
    for dtype, result in ((DOUBLE, DOUBLE), (torch.float16, torch.float32), (torch.bfloat16, torch.float32)):
        changed = change(drawn.to(dtype))
        assert changed.dtype == result
        torch.testing.assert_close(changed.float(), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(change(drawn), expected)


@each
def test_what_is_no_map(change):
    with pytest.raises(ValueError, match=r"with pixels in it, got \(5,\)"):
        change(torch.zeros(5))
    with pytest.raises(ValueError, match=r"with pixels in it, got \(2, 0, 5\)"):
        change(torch.zeros(2, 0, 5))
    with pytest.raises(TypeError, match=r"must be float, uint8 .* or bool, got torch\.int64"):
        change(torch.zeros(4, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"holds only 0 and 1: pass a mask as bool"):
        change(torch.eye(9, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"holds NaN\. Where nothing is known, put zeros"):
        change(torch.full((9, 9), math.nan))


def test_annotators_hold_numbers_where_they_are():
    drawn, present = torch.rand(2, 3, 4, 5), torch.tensor([[True, True, False], [True, False, True]])
    drawn[~present] = math.nan
    for call in (maps.combine_annotators, maps.annotator_agreement):
        assert call(drawn, present=present).isfinite().all()
        with pytest.raises(ValueError, match="maps holds NaN"):
            call(drawn, present=present | ~present)


@each
def test_tiny_maps(change):
    for value in (0.0, 1.0):
        assert change(torch.full((2, 1, 1), value)).isfinite().all()


def test_autocast_costs_no_digits():
    where, (drawn, present) = torch.rand(2, 5, 2) * 8, annotators()

    def make():
        agreement = maps.annotator_agreement(drawn.float(), "correlation", present=present)
        return maps.fixations_to_map(where, (9, 9), sigma=1.0), maps.fixations_to_counts(where, (9, 9)), agreement

    expected = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for one, other in zip(make(), expected, strict=True):
            assert torch.equal(one, other)


def test_arrays_are_named():
    with pytest.raises(TypeError, match=r"maps must be a tensor, got ndarray; convert it with torch.as_tensor"):
        maps.area(np.zeros((3, 3)))


def test_no_numbers_are_looked_at_on_the_meta_device():
    meta = torch.device("meta")
    where = torch.zeros(2, 3, 2, device=meta)
    assert maps.fixations_to_map(where, (4, 5), sigma=1.0).device == meta
    assert maps.fixations_to_counts(where, (4, 5)).shape == (2, 4, 5)
    assert maps.boxes_to_map(torch.zeros(2, 3, 4, device=meta), (4, 5), sigma=1.0).shape == (2, 4, 5)
    drawn = torch.zeros(2, 3, 8, 9, device=meta)
    for change in (CHANGES["blur"], maps.bounding_box, CHANGES["threshold_top"], CHANGES["tri_state"]):
        assert change(drawn).shape == drawn.shape
    assert maps.combine_annotators(drawn, "majority").shape == (2, 8, 9)
    assert maps.annotator_agreement(drawn).shape == (2,)


def test_runs_where_only_deterministic_algorithms_may():
    torch.use_deterministic_algorithms(True)
    try:
        drawn = torch.rand(2, 8, 9) * blobs(2, 8, 9)
        for change in CHANGES.values():
            assert torch.equal(change(drawn), change(drawn))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("boxes", [[0.1, 0.2, 0.6, 0.8], [0.0, 0.0, 1.0, 1.0]])
def test_boxes_as_shares_of_the_image_are_refused(boxes):
    with pytest.raises(ValueError, match="All boxes lie between 0 and 1, as shares of the image do: multiply"):
        maps.boxes_to_map(torch.tensor([boxes]), (8, 8))
    assert float(maps.boxes_to_map(torch.tensor([boxes]), (8, 8), outside="drop").sum()) == 1.0


def test_a_blur_is_exact_to_the_last_digit_of_float32():
    drawn = torch.rand(2, 20, 30)
    assert torch.equal(maps.blur(drawn, 2.0), maps.blur(drawn.double(), 2.0).float())
