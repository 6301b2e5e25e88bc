"""Deletion, insertion and average drop, against loops from their definitions."""

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import nn

import saliency_losses.metrics as M
from saliency_losses.sizing import to_size


class Net(nn.Module):
    """Batch statistics and dropout, which only train mode shows."""

    def __init__(self, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.Dropout(0.5))
        self.head = nn.Linear(4, classes)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


def case(classes=3):
    torch.manual_seed(0)
    net = Net(classes).double()
    net(torch.randn(8, 2, 6, 7, dtype=torch.float64))
    return net, torch.randn(3, 2, 6, 7, dtype=torch.float64), torch.tensor([0, 1, 0])


def probability(net, image, target):
    with torch.no_grad():
        logits = net.eval()(image[None])[0]
    net.train()
    if len(logits) == 1:
        return float((logits[0] if target else -logits[0]).sigmoid())
    return float(logits.softmax(0)[target])


def curve(net, image, values, target, steps, baseline, insert):
    """Pixel after pixel in the order of the map, as the papers have it."""
    places = sorted(np.ndindex(values.shape), key=lambda place: -float(values[place]))
    ends = sorted({round(len(places) * step / steps) for step in range(steps + 1)})
    found = []
    for end in ends:
        shown = (torch.full_like(image, baseline) if insert else image).clone()
        for i, j in places[:end]:
            shown[:, i, j] = image[:, i, j] if insert else baseline
        found.append(probability(net, shown, target))
    shares = [end / len(places) for end in ends]
    return shares, found, scipy.integrate.trapezoid(found, shares)


@pytest.mark.parametrize("classes", [3, 1])
@pytest.mark.parametrize(("steps", "baseline"), [(1, 0.0), (5, 0.3), (20, 0.0), (100, -1.0)])
@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_curves_equal_a_loop(name, steps, baseline, classes):
    net, images, targets = case(classes)
    maps = torch.randn(3, 6, 7, dtype=torch.float64).round()  # ties
    found = getattr(M, name)(net, images, maps, targets, steps=steps, baseline=baseline)
    for row, (image, values, target) in enumerate(zip(images, maps, targets, strict=True)):
        shares, confidence, area = curve(net, image, values, int(target), steps, baseline, name == "insertion")
        assert found.shares.tolist() == pytest.approx(shares, abs=1e-12)
        assert found.confidence[row].tolist() == pytest.approx(confidence, abs=1e-9)
        assert float(found.area[row]) == pytest.approx(area, abs=1e-9)


@pytest.mark.parametrize("classes", [3, 1])
@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_average_drop_equals_a_loop(baseline, classes):
    net, images, targets = case(classes)
    maps = torch.randn(3, 3, 4, dtype=torch.float64)
    maps[2] = 5.0
    found = M.average_drop(net, images, maps, targets, baseline=baseline)
    for row, (image, values, target) in enumerate(zip(images, maps, targets, strict=True)):
        span = values.max() - values.min()
        unit = (values - values.min()) / span if span else torch.zeros_like(values)
        mask = to_size(unit[None], (6, 7), "enlarge")
        whole, masked = (probability(net, x, int(target)) for x in (image, mask * image + (1 - mask) * baseline))
        assert float(found.drop[row]) == pytest.approx(max(0.0, whole - masked) / (whole + 1e-7), abs=1e-9)
        assert bool(found.increase[row]) == (masked > whole)
        assert [float(found.whole[row]), float(found.masked[row])] == pytest.approx([whole, masked], abs=1e-9)


def calls():
    return (
        lambda *args, **options: M.deletion(*args, steps=3, **options).confidence,
        lambda *args, **options: M.insertion(*args, steps=3, **options).confidence,
        lambda *args, **options: M.average_drop(*args, **options).masked,
    )


@pytest.mark.parametrize("call", calls())
def test_the_model_is_left_as_it_was(call):
    net, images, targets = case()
    net.body[1].eval()  # frozen by its owner
    modes = [module.training for module in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = call(net, images, images[:, 0].clone().requires_grad_(), targets)
    assert not found.requires_grad
    with pytest.raises(RuntimeError, match="on purpose"):
        call(net, images, images[:, 0], targets, score=broken)
    assert [module.training for module in net.modules()] == modes
    assert torch.is_grad_enabled()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.grad is None


def broken(output, targets):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize("call", calls())
def test_scores_targets_and_inputs_in_every_form(call):
    net, images, targets = case()
    maps = images[:, 0]
    net.eval()
    predicted = net(images).argmax(1)
    close = torch.testing.assert_close
    close(call(net, images, maps), call(net, images, maps, predicted))
    close(call(net, {"images": images}, maps, targets), call(net, images, maps, targets))
    own = call(net, images, maps, targets, score=lambda output, classes: output.softmax(1)[range(3), classes])
    close(own, call(net, images, maps, targets))
    assert bool((call(net, images, maps, targets, baseline=lambda x: x.mean((2, 3), keepdim=True)) != own).any())
    single = call(net.float(), images.float(), maps.float(), targets)
    assert single.dtype == torch.float32


def test_a_score_by_name():
    net, images, targets = case()
    found = M.deletion(net, images, images[:, 0], targets, steps=2, score="true").confidence[:, 0]
    torch.testing.assert_close(found, net.eval()(images)[range(3), targets].detach())


NET, IMAGES, TARGETS = case()
MAPS = IMAGES[:, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: M.deletion(NET, IMAGES, MAPS, TARGETS, steps=0),
            ValueError,
            "steps must be a positive integer, got",
        ),
        (lambda: M.deletion(len, IMAGES, MAPS), TypeError, "deletion expected the model as an nn.Module, got builtin"),
        (lambda: M.insertion(NET, IMAGES[0, 0], MAPS), ValueError, r"insertion expected images of shape \(B, C, \*pos"),
        (
            lambda: M.insertion(NET, IMAGES, MAPS[:2]),
            ValueError,
            r"expected maps of shape \(3, \*s of 2 axes\) for images of shape \(3, 2, 6, 7\), got \(2, 6, 7\)",
        ),
        (lambda: M.deletion(NET, IMAGES, MAPS / 0.0), ValueError, "deletion got model maps with NaN or infinite"),
        (lambda: M.deletion(NET, IMAGES, MAPS, score="probable"), ValueError, "score must be one of 'true'"),
        (lambda: M.deletion(NET, IMAGES, MAPS, baseline=None), TypeError, "baseline must be a number, a tensor or a"),
        (
            lambda: M.deletion(NET, IMAGES, MAPS, baseline=torch.ones(5)),
            ValueError,
            r"baseline has shape \(5,\), which does not broadcast to the inputs \(3, 2, 6, 7\)",
        ),
        (
            lambda: M.deletion(NET, IMAGES, MAPS, TARGETS, score=lambda output, targets: output),
            ValueError,
            r"deletion needs one number per image, \(3,\), got \(3, 3\)",
        ),
        (
            lambda: M.average_drop(NET, IMAGES, MAPS, TARGETS, normalize="none"),
            ValueError,
            r"average_drop hides by maps in \[0, 1\], but Raw\(\) gives values from -.*use normalize='minmax'",
        ),
        (
            lambda: M.average_drop(NET, IMAGES, MAPS, TARGETS, score=lambda output, targets: -output.exp()[:, 0]),
            ValueError,
            "which must not be negative, got -.*take score='probability'",
        ),
    ],
)
def test_errors_say_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()
