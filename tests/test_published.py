"""Every line of the page on published losses, run and compared with the published formula."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from published_formulas import FORMULAS
from published_parts import BATCH, SIZE, DenseNet, ResNet, ordinary
from torch.nn import functional as F

PAGE = (Path(__file__).parents[1] / "docs" / "published.md").read_text()
SETUP, *_ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SECTIONS = dict(section.split("\n", 1) for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:])
LINES = {title: "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)) for title, text in SECTIONS.items()}


def test_every_line_has_a_formula_and_every_formula_a_line():
    assert PAGE.count("```python\n") == 1 + len(LINES)
    assert set(FORMULAS) == set(LINES)


def gradient(value, model):
    """Of every parameter, as one vector."""
    parameters = [*model.parameters()]
    grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([grad.flatten() for grad in grads])


def near(ours, theirs, tolerance):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.detach().abs().max()))


def run(title, model, batch):
    """The names that the page's line defines, where those that it uses mean this model and batch."""
    names = {
        "model": model,
        "images": batch.images,
        "human_saliency": batch.human,
        "batch_size": BATCH,
        "pixels": SIZE * SIZE,
        "neighbours": 2 * SIZE * (SIZE - 1),
    }
    exec(SETUP, names)
    exec(LINES[title], names)
    return names


def step(title, model, batch):
    """The saliency's term and the loss, by the page's line, after the epochs in which a schedule is off."""
    names = run(title, model, batch)
    if "loss" in names:
        return names["loss"], names["loss"]
    guided = names["guided"].double()
    for _ in range(50):
        guided.weighting.step()
    out = guided(batch.images, batch.targets, batch.human, **batch.options)
    return out.saliency_loss, out.loss


@pytest.mark.parametrize("title", LINES)
def test_line(title):
    formula, make, make_batch, tolerance = FORMULAS[title]
    torch.manual_seed(1)
    model, batch = make().double(), make_batch()
    torch.manual_seed(2)
    ours = step(title, model, batch)
    torch.manual_seed(2)
    theirs = formula(model, batch)
    for mine, other in zip(ours, theirs, strict=True):
        near(mine, other, tolerance)
        grads, expected = gradient(mine, model), gradient(other, model)
        assert bool(grads.any())
        near(grads, expected, 10 * tolerance)


def waves(function, count, *shape, dtype=torch.float64):
    return function(torch.arange(count, dtype=dtype)).view(shape)


def square(size, first, last):
    mask = torch.zeros(1, size, size)
    mask[:, first:last, first:last] = 1.0
    return mask


CAMS = torch.einsum("bchw,bc->bhw", waves(torch.sin, 24, 2, 3, 2, 2), waves(torch.cos, 6, 2, 3))
RAMP = torch.linspace(-1, 1, 64).view(1, 8, 8), square(8, 2, 6)
GRADS = torch.linspace(-1, 1, 48).view(1, 3, 4, 4).abs().mean(1)
ATTENTION = [waves(f, 96, 2, 3, 4, 4, dtype=torch.float32).square().mean(1) for f in (torch.sin, torch.cos)]
MAPS = waves(torch.sin, 16, 1, 4, 4).abs(), waves(torch.cos, 16, 1, 4, 4).abs()
FIXATIONS = F.one_hot(torch.tensor([1, 14]), 16).sum(0).double().view(1, 4, 4)


@pytest.mark.parametrize(
    ("title", "maps", "human", "value"),
    [
        ("CYBORG with the extremes of the batch", CAMS, waves(lambda x: x / 7, 8, 2, 2, 2), 0.317721103290),
        ("GALS", GRADS, square(4, 1, 3), 0.390071005),
        ("Model-Guidance: energy", *RAMP, 0.875),
        ("Model-Guidance: RRR\\*", *RAMP, 20.700428),
        ("Model-Guidance: L1", *RAMP, 0.440476),
        ("Model-Guidance: PPCE", *RAMP, 50.768742),
        ("Attention transfer", *ATTENTION, 0.070811845),
        ("KL", *MAPS, 4.919962600),
        ("KL of the MIT benchmark", *MAPS, 3.705721942),
        ("CC", *MAPS, 1 + 0.905358669),
        ("SIM", *MAPS, 1 - 0.575834949),
        ("NSS", MAPS[0], FIXATIONS, -0.929452),
    ],
)
def test_what_the_published_code_returned(title, maps, human, value):
    """Functions of the repositories that the page names, executed on these maps."""
    divergence = run(title, ResNet(), ordinary())["guided"].divergence
    assert float(divergence(maps, human).mean()) == pytest.approx(value, rel=2e-6)


def test_the_share_that_viser_gives_the_task():
    """CVRL/VISER, calculateAlpha."""
    weighting = run("VISER", DenseNet(), ordinary())["guided"].weighting
    task, saliency = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.7, 0.05))
    alpha = 0.933333320889
    loss = weighting(task, saliency)
    assert loss.item() == pytest.approx(alpha * 0.7 + (1 - alpha) * 0.05, rel=1e-9)
    loss.backward()
    assert saliency.grad.item() == pytest.approx(-0.742, abs=5e-4)


def test_the_deviations_that_gg_cam_learns():
    weighting = run("GG-CAM", ResNet(), ordinary())["guided"].weighting
    with torch.no_grad():
        weighting.log_sigma.copy_(torch.tensor([0.3, -0.2]))
    first, second = np.exp([0.3, -0.2])
    expected = 0.7 / first**2 + np.log(first + 1) + 0.4 / (2 * second**2) + np.log(second + 1)
    assert weighting(torch.tensor(0.7), torch.tensor(0.4)).item() == pytest.approx(expected, rel=1e-6)


def test_the_normaliser_of_the_xil_typology():
    """Its util.py, norm_saliencies_fast."""
    normalize = run("XIL typology: RRR-G", ResNet(), ordinary())["guided"].divergence.normalize
    found = normalize(torch.tensor([[-1.0, 0.0, 1.0, 3.0]], dtype=torch.float64))
    expected = torch.tensor([[0.0, 0.2499999, 0.4999999, 0.9999998]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_the_energy_of_a_map_that_is_next_to_nothing():
    """Below a total of 1e-7 the published code leaves it undivided."""
    divergence = run("Model-Guidance: energy", ResNet(), ordinary())["guided"].divergence
    assert float(divergence(1e-9 * RAMP[0], RAMP[1])) == pytest.approx(1.0)


def test_rrr_g_is_off_for_fifty_epochs():
    weighting = run("XIL typology: RRR-G", ResNet(), ordinary())["guided"].weighting
    on = []
    for _ in range(52):
        on.append(weighting.needs_saliency)
        weighting.step()
    assert on == [False] * 50 + [True] * 2
