"""Bringing two maps to one size, beside loops, NumPy and Pillow."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image

from saliency_losses.divergences import MSE
from saliency_losses.sizing import bring_to_size, to_size

# From, to: shrunk by a whole number and not, enlarged, shrunk along one axis and enlarged along the other.
SIZES = [
    ((12,), (4,)),
    ((11,), (4,)),
    ((4,), (9,)),
    ((8, 6), (4, 3)),
    ((11, 7), (4, 3)),
    ((3, 4), (7, 9)),
    ((9, 3), (4, 7)),
    ((6, 4, 8), (3, 2, 4)),
    ((7, 5, 6), (3, 4, 2)),
    ((2, 3, 2), (5, 4, 3)),
    ((5, 2, 4), (3, 4, 4)),
]
sizes = pytest.mark.parametrize(("large", "small"), SIZES, ids=str)


def cell(index, old, new):
    """The pixels that a cell covers, whole: PyTorch's adaptive windows."""
    return range(index * old // new, math.ceil((index + 1) * old / new))


def shrink(maps, size, reduce):
    """Each cell of a smaller map from the pixels that it covers."""
    out = np.zeros(size)
    for place in itertools.product(*map(range, size)):
        window = [cell(i, old, new) for i, old, new in zip(place, maps.shape, size, strict=True)]
        out[place] = reduce([maps[pixel] for pixel in itertools.product(*window)])
    return out


def enlarge(maps, size, how="enlarge"):
    """Linear along one axis after the other; constant beyond the outermost centres, which may be aligned."""
    for axis, new in enumerate(size):
        old = maps.shape[axis]
        places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        if how == "enlarge_aligned":
            places = np.linspace(0, old - 1, new)
        maps = np.apply_along_axis(lambda line, p=places, n=old: np.interp(p, np.arange(n), line), axis, maps)
    return maps


def nearest(maps, size):
    """The pixel at the cell's corner, rounded down, as OpenCV's INTER_NEAREST."""
    out = np.zeros(size)
    for place in itertools.product(*map(range, size)):
        out[place] = maps[tuple(i * old // new for i, old, new in zip(place, maps.shape, size, strict=True))]
    return out


def expected(maps, size, how):
    if how == "nearest":
        return nearest(maps, size)
    between = tuple(map(min, maps.shape, size))
    return enlarge(shrink(maps, between, max if how == "max" else np.mean), size)


def draw(size, seed=0):
    return torch.rand(2, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@sizes
@pytest.mark.parametrize("how", ["area", "max", "nearest"])
def test_equals_a_loop(large, small, how):
    maps = draw(large)
    found = bring_to_size(torch.zeros(2, *small, dtype=torch.float64), maps, None, how)[1]
    for one, other in zip(found, maps, strict=True):
        np.testing.assert_allclose(one.numpy(), expected(other.numpy(), small, how), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("large", "small"), [((8, 6), (4, 3)), ((11, 7), (4, 3)), ((3, 4), (7, 9)), ((9, 3), (4, 7))])
def test_antialias_is_pillows_bilinear_resize(large, small):
    maps = draw(large).float()
    found = to_size(maps, small, "antialias")
    for one, other in zip(found, maps, strict=True):
        image = Image.fromarray(other.numpy()).resize(small[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(one.numpy(), np.asarray(image), atol=1e-6)


@pytest.mark.parametrize(("large", "small"), [((12,), (4,)), ((11,), (4,)), ((4,), (9,))])
def test_antialias_along_one_axis_is_that_of_an_image_of_one_row(large, small):
    maps = draw(large)
    found, image = to_size(maps, small, "antialias"), to_size(maps.unsqueeze(1), (1, *small), "antialias")
    torch.testing.assert_close(found, image.squeeze(1))


@sizes
@pytest.mark.parametrize("how", ["area", "max", "nearest", "antialias", "enlarge", "enlarge_aligned"])
def test_a_constant_stays_what_it_is(large, small, how):
    if how == "antialias" and len(small) == 3:
        with pytest.raises(ValueError, match="antialias"):
            bring_to_size(torch.rand(2, *small), torch.rand(2, *large), None, how)
        return
    model, human = torch.full((2, *small), 0.3), torch.full((2, *large), 0.7)
    for known in (None, torch.ones(2, *large), torch.rand(2, *large).clamp_min(0.1)):
        one, other, share = bring_to_size(model, human, known, how)
        torch.testing.assert_close(one, torch.full_like(one, 0.3))
        torch.testing.assert_close(other, torch.full_like(one, 0.7))
        assert (share is None) == (known is None)


@pytest.mark.parametrize(("large", "small"), [((12,), (4,)), ((8, 6), (4, 3)), ((6, 4, 8), (3, 2, 4))])
def test_area_keeps_mass_and_max_keeps_peaks(large, small):
    spike = torch.zeros(1, *large)
    spike.view(-1)[5] = 3.0
    ratio = math.prod(large) / math.prod(small)
    assert float(to_size(spike, small, "area").sum()) * ratio == pytest.approx(3.0)
    peaks = to_size(spike, small, "max")
    assert float(peaks.max()) == float(peaks.sum()) == 3.0


def test_nearest_keeps_the_three_values_of_signed_maps():
    maps = torch.randint(-1, 2, (2, 13, 11)).double()
    assert set(to_size(maps, (5, 4), "nearest").unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert set(to_size(maps, (20, 17), "nearest").unique().tolist()) <= {-1.0, 0.0, 1.0}


@sizes
@pytest.mark.parametrize("how", ["enlarge", "enlarge_aligned"])
def test_enlarge_brings_the_models_map_to_the_human_one_with_its_gradient(large, small, how):
    model, human = draw(small).requires_grad_(), draw(large, 1)
    size = tuple(map(max, large, small))
    one, other, _ = bring_to_size(model, human, None, how)
    for found, maps in ((one, model), (other, human)):
        for result, start in zip(found, maps, strict=True):
            np.testing.assert_allclose(result.detach().numpy(), enlarge(start.detach().numpy(), size, how), atol=1e-12)
    probe = draw(size, 2)
    (gradient,) = torch.autograd.grad((one * probe).sum(), model)
    direction = draw(small, 3)
    moved = bring_to_size(direction, human, None, how)[0]  # it is linear
    torch.testing.assert_close((gradient * direction).sum(), (moved * probe).sum())


@sizes
@pytest.mark.parametrize("how", ["area", "max", "nearest", "enlarge"])
def test_unknown_pixels_take_no_part(large, small, how):
    human, known = draw(large), draw(large, 1).round()
    known.flatten(1)[0, 0] = 1.0
    known[1] = 0.0
    model = draw(small, 2)
    outcome = bring_to_size(model, human * known, known, how)
    poisoned = bring_to_size(model, torch.where(known > 0, human, 0.0), known, how)
    for one, other in zip(outcome, poisoned, strict=True):
        torch.testing.assert_close(one, other)
    _, maps, share = outcome
    assert float(share.min()) >= 0.0
    assert float(share.max()) <= 1.0 + 1e-12
    assert not share[1].any()
    assert not maps[1].any()
    inside = share[0] > 0
    seen = human[0][known[0] > 0]
    assert float(maps[0][inside].min()) >= float(seen.min()) - 1e-12
    assert float(maps[0][inside].max()) <= float(seen.max()) + 1e-12
    assert not maps[0][~inside].any()


@pytest.mark.parametrize(("large", "small"), [((11,), (4,)), ((11, 7), (4, 3)), ((7, 5, 6), (3, 4, 2))])
def test_cells_are_the_mean_or_the_largest_of_their_known_pixels(large, small):
    human, known = draw(large) - 0.7, draw(large, 1).round()
    between = tuple(map(min, large, small))
    model = torch.zeros(2, *between, dtype=torch.float64)
    mean, share = bring_to_size(model, human * known, known, "area")[1:]
    peak, some = bring_to_size(model, human * known, known, "max")[1:]
    for place in itertools.product(*map(range, between)):
        window = [cell(i, old, new) for i, old, new in zip(place, large, between, strict=True)]
        pixels = [pixel for pixel in itertools.product(*window) if known[(0, *pixel)] > 0]
        values = [float(human[(0, *pixel)]) for pixel in pixels] or [0.0]
        at = (0, *place)
        assert float(mean[at]) == pytest.approx(np.mean(values))
        assert float(peak[at]) == pytest.approx(max(values))
        assert float(share[at]) == pytest.approx(len(pixels) / math.prod(map(len, window)))
        assert float(some[at]) == float(bool(pixels))


def test_maps_of_one_size_are_left_alone():
    model, human, known = draw((4, 3)), draw((4, 3), 1), draw((4, 3), 2)
    for how in ("area", "max", "antialias", "nearest", "enlarge", "enlarge_aligned", "same"):
        for given, found in zip((model, human, known), bring_to_size(model, human, known, how), strict=True):
            assert found is given
    assert bring_to_size(model, human, None, "same")[2] is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bring_to_size(draw((4, 3)), draw((8, 6)), None, "same"),
            r"size \(4, 3\) and the human map \(8, 6\), but sizing='same' expects one size; resize one of them",
        ),
        (
            lambda: to_size(draw((4, 4, 4)), (2, 2, 2), "antialias"),
            "sizing='antialias' is defined on maps of one or two axes; use 'area' for three",
        ),
        (lambda: to_size(draw((2, 2, 2, 2)), (1, 1, 1, 1), "area"), "Maps of one to three axes can be resized"),
        (lambda: to_size(draw((4, 4)), (2,), "area"), r"got \(2, 4, 4\) for the size \(2,\)"),
        (
            lambda: MSE(sizing="bilinear"),
            "sizing must be one of area, max, antialias, nearest, enlarge, enlarge_aligned, same",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
