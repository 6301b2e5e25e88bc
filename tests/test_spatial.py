"""Divergences that see where positions lie: SSIM and the pyramid."""

from importlib.metadata import version

import numpy as np
import pytest
import torch
from divergence_oracles import DIVERGENCES

import saliency_losses as sl
from saliency_losses.divergences import SSIM, Pyramid, ZScoreReLU, pyramid_level, ssim
from saliency_losses.testing import check_divergence

OLD = version("kornia").startswith("0.8.")  # whose similarity of maps of three axes is wrong
UNSCALED = Pyramid(normalize=ZScoreReLU(), human_normalize=ZScoreReLU())


@pytest.mark.parametrize("divergence", [SSIM(window=3), SSIM(normalize="max_abs"), Pyramid(detach=False)], ids=repr)
def test_contract_with_options(divergence):
    check_divergence(divergence)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (14, 15), (224, 224), (5,), (1, 1, 1), (4, 5, 6)])
@pytest.mark.parametrize("divergence", [SSIM(), Pyramid()], ids=repr)
def test_any_size_and_dtype(divergence, size, dtype):
    model, human = torch.randn(2, *size).to(dtype).requires_grad_(), torch.rand(2, *size).to(dtype)
    if min(size) < divergence.smallest or (divergence.ranks and len(size) not in divergence.ranks):
        with pytest.raises(ValueError, match=r"SSIM\(\) is defined on maps of 2 or 3 axes with at least 4 position"):
            divergence(model, human)
        return
    if OLD and isinstance(divergence, SSIM) and len(size) == 3:
        with pytest.raises(RuntimeError, match=r"install 0\.9 or newer"):
            divergence(model, human)
        return
    value = divergence(model, human)
    (grad,) = torch.autograd.grad(value.sum(), model)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert grad.isfinite().all()
    assert bool(grad.any()) == (max(size) > 1)


@pytest.mark.parametrize("divergence", [SSIM(), SSIM(window=3), Pyramid(), UNSCALED], ids=repr)
def test_smallest_where_the_maps_agree(divergence):
    human = torch.rand(3, 7, 8, dtype=torch.float64)
    leaf = human.clone().requires_grad_()
    value = divergence(leaf, human)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close(value, torch.zeros_like(value), rtol=0.0, atol=1e-12)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0.0, atol=1e-10)
    assert (divergence(human + 0.1 * torch.randn_like(human), human) > 1e-4).all()


@pytest.mark.parametrize("divergence", [SSIM(), UNSCALED], ids=repr)
@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_scale_and_shift_of_the_models_map_do_not_matter(divergence, factor):
    model, human = torch.randn(3, 7, 7), torch.rand(3, 7, 7)
    torch.testing.assert_close(divergence(model * factor, human), divergence(model, human))
    torch.testing.assert_close(divergence(model + 5.0, human), divergence(model, human), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("divergence", [SSIM(), Pyramid()], ids=repr)
def test_where_positions_lie_matters(divergence):
    model, human = torch.randn(2, 8, 8), torch.rand(2, 8, 8)
    order = torch.randperm(64)
    mixed = (maps.flatten(1)[:, order].view(2, 8, 8) for maps in (model, human))
    assert not torch.allclose(divergence(*mixed), divergence(model, human), rtol=1e-3)


def test_similarity_is_symmetric():
    a, b = torch.rand(2, 9, 9), torch.rand(2, 9, 9)
    torch.testing.assert_close(SSIM()(a, b), SSIM()(b, a))


def test_similarity_of_flat_maps():
    human = torch.rand(2, 7, 7)
    for model in (torch.zeros(2, 7, 7), torch.ones(2, 7, 7)):
        leaf = model.clone().requires_grad_()
        value = SSIM()(leaf, human)
        assert ((value > 0.95) & (value < 1.0)).all()
        assert not torch.autograd.grad(value.sum(), leaf)[0].any()
    assert float(SSIM()(torch.ones(1, 7, 7), torch.zeros(1, 7, 7))) == 0.0


def test_similarity_of_bright_maps_is_exact_in_float32():
    maps = (0.95 + 0.02 * torch.rand(2, 4, 9, 9)).flatten(2)
    maps[:, :, :2] = torch.tensor([0.0, 1.0])
    model, human = maps.view(2, 4, 9, 9)
    torch.testing.assert_close(SSIM()(model, human).double(), SSIM()(model.double(), human.double()), rtol=0, atol=1e-6)


def test_similarity_is_averaged_over_known_cells():
    from kornia.metrics import ssim

    model, human, known = torch.rand(1, 7, 7), torch.rand(1, 7, 7), torch.rand(1, 7, 7).round()
    scaled = []
    for maps in (model, human):
        inside = maps[known > 0]
        scaled.append(torch.where(known > 0, (maps - inside.min()) / (inside.max() - inside.min()), 0.0)[None])
    expected = 1.0 - ssim(*scaled, 7)[0][known > 0].mean()
    torch.testing.assert_close(SSIM()(model, human, known)[0], expected)


def test_golden_values_of_the_published_pyramid():
    """Fel et al. 2022, training/pyramid.py, one level; TensorFlow's "SAME" padding of an even axis is lopsided."""
    wave = torch.arange(64, dtype=torch.float64).sin().view(1, 8, 8)
    assert float(pyramid_level(wave).sum()) == pytest.approx(-0.041883315, abs=1e-9)
    corners = pyramid_level(torch.ones(1, 8, 8))[0]
    assert float(corners[0, 0]) == 0.87890625
    assert float(corners[-1, -1]) == (11 / 16) ** 2
    assert float(pyramid_level(torch.ones(1, 7, 7))[0, 0, 0]) == (11 / 16) ** 2


def test_levels_of_the_pyramid():
    model, human = torch.rand(2, 9), torch.rand(2, 9)
    one, two, many = (Pyramid(levels=levels)(model, human) for levels in (1, 2, 3))
    assert not torch.allclose(one, two)
    assert not torch.allclose(two, many)
    above = [np.maximum((m - m.mean()) / (m.std() + 1e-5), 0) for m in (model[0].numpy(), human[0].numpy())]
    scaled = above[1] * (above[0].max() + 1e-6) / (above[1].max() + 1e-6)
    assert float(one[0]) == pytest.approx(float(np.mean((above[0] - scaled) ** 2)), rel=1e-5)


def test_the_published_maximum_is_a_constant():
    human = torch.rand(1, 6, 6, dtype=torch.float64)
    leaf = torch.rand(1, 6, 6, dtype=torch.float64, requires_grad=True)
    held, moved = Pyramid(levels=1)(leaf, human), Pyramid(levels=1, detach=False)(leaf, human)
    assert torch.equal(held, moved)
    first, second = (torch.autograd.grad(value.sum(), leaf)[0] for value in (held, moved))
    assert not torch.allclose(first, second)
    normalize = ZScoreReLU(floor=1e-5)
    above = normalize(leaf.flatten(1)), normalize(human.flatten(1))
    target = above[1] / (above[1].max() + 1e-6) * (float(above[0].detach().max()) + 1e-6)
    (expected,) = torch.autograd.grad((above[0] - target).square().mean(), leaf)
    torch.testing.assert_close(first, expected)


def test_pyramid_of_flat_and_empty_maps():
    human = torch.rand(2, 7, 7)
    leaf = torch.ones(2, 7, 7, requires_grad=True)
    value = Pyramid()(leaf, human)
    assert (value < 1e-10).all()
    assert not torch.autograd.grad(value.sum(), leaf)[0].any()
    model = torch.randn(2, 7, 7, dtype=torch.float64)
    assert (Pyramid()(model, torch.zeros_like(model)) > 0.1).all()


def test_unknown_cells_of_the_pyramid_lie_outside():
    """Two levels by hand: unknown cells are zeros, and a level is weighed by the known share of what it sees."""
    model, human = torch.randn(1, 6, dtype=torch.float64), torch.rand(1, 6, dtype=torch.float64)
    known = torch.tensor([[1.0, 0.5, 0.0, 1.0, 0.2, 0.0]], dtype=torch.float64)
    raw = Pyramid(levels=2, normalize="none", human_normalize="none")
    scaled = human * (model[known > 0].max() + 1e-6) / (human[known > 0].max() + 1e-6)
    gap, seen_share, weights = (model - scaled)[0].numpy(), known[0].numpy(), np.array([1, 4, 6, 4, 1])
    top, total = [], 0.0
    for start in (-1, 1, 3):
        seen = [(i - start, i) for i in range(start, start + 5) if 0 <= i < 6]
        blurred = sum(weights[k] * seen_share[i] * gap[i] for k, i in seen) / 16
        share = sum(weights[k] * seen_share[i] for k, i in seen) / sum(weights[k] for k, _ in seen)
        top.append(share * blurred**2)
        total += share
    expected = 0.5 * ((seen_share * gap**2).sum() / seen_share.sum() + sum(top) / total)
    assert float(raw(model, human, known)[0]) == pytest.approx(expected, rel=1e-10)


def test_three_axes_agree_with_the_oracle_or_need_another_kornia(monkeypatch):
    model, human = torch.randn(2, 4, 5, 6, dtype=torch.float64), torch.rand(2, 4, 5, 6, dtype=torch.float64)
    monkeypatch.setattr(ssim, "version", lambda package: "0.8.2")
    with pytest.raises(RuntimeError, match=r"kornia 0\.8\.2 gives a wrong similarity of maps of three.*install 0\.9"):
        SSIM()(model, human)
    monkeypatch.undo()
    if OLD:
        return
    values = SSIM()(model, human)
    for m, h, value in zip(model, human, values, strict=True):
        assert float(value) == pytest.approx(DIVERGENCES["ssim"](m.numpy(), h.numpy()), rel=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "ssim", "window": 6}, "window must be an odd number of positions, 3 or more, got 6"),
        ({"name": "ssim", "window": 1}, "window must be an odd number of positions, 3 or more, got 1"),
        ({"name": "pyramid", "levels": 0}, "levels must be at least 1, got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        sl.create_divergence(**options)
