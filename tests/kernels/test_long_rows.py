"""Long rows in Triton's interpreter, each by one program or split among several."""

import pytest
import torch
from kernel_cases import PARTS, agree, humans, require_interpreter, rows, three

from saliency_losses.kernels import launch
from saliency_losses.kernels.plan import KINDS, Plan, plan_of

pytestmark = [pytest.mark.interpreter, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

COUNT = 4999
ODD = [name for name in rows(1) if name != "denormal"]  # empty in single precision only
ODD_HUMANS = [name for name in humans(1) if name != "denormal"]


@pytest.fixture(scope="module", autouse=True)
def _interpreted():
    require_interpreter()


@pytest.fixture(params=[0, 64], ids=["whole", "split"])
def split(request, monkeypatch):
    monkeypatch.setattr(launch, "_FEWEST_PROGRAMS", request.param)
    return request.param > 0


@pytest.mark.parametrize("name", [*KINDS, "MSE of zscore", "MSE of none", "KL of softmax raw to sum"])
def test_odd_rows(name, split):
    model = torch.stack([rows(COUNT)[odd] for odd in ODD])
    human = humans(COUNT)["uniform"].expand(len(ODD), COUNT)
    agree([PARTS[name]], model, human, gradient=1e-4, names=ODD)


@pytest.mark.parametrize("name", [*KINDS, "MSE to sum", "KL of sum to sum minimum, reversed", "JS of sum to softmax"])
def test_odd_human_maps(name, split):
    human = torch.stack([humans(COUNT)[odd] for odd in ODD_HUMANS])
    model = rows(COUNT)["normal"].repeat(len(ODD_HUMANS), 1)
    agree([PARTS[name]], model, human, gradient=1e-4, names=ODD_HUMANS)


@pytest.mark.parametrize("name", KINDS)
def test_chunks_of_a_row_that_have_little_in_common(name, split):
    model, human = torch.randn(3, 12_288), torch.rand(3, 12_288)
    for maps in (model, human):
        maps[0, :5000] = 0.0
        maps[1, 4000:9000] *= 1e-20
        maps[2, 8192:] = 1.0
    agree([PARTS[name]], model, human)


def test_a_sum_of_all_kinds_of_visits(split):
    parts = [PARTS[name] for name in ("kl", "mse", "js", "soft_iou", "correlation")]
    agree(parts, torch.randn(4, 9001), torch.rand(4, 9001), weights=torch.rand(5, 4))


def test_maps_that_agree_are_told_apart_from_equal_ones(split):
    human = torch.rand(3, COUNT)
    model = torch.stack([human[0], human[1] + 1e-4 * torch.randn(COUNT), 5.0 * human[2] - 3.0])
    kernel, _, exact = three([PARTS["mse"]], model, human)
    assert float(kernel.values[0, 0]) == 0.0
    torch.testing.assert_close(kernel.values, exact.values, rtol=1e-3, atol=1e-13)


def test_few_rows_are_split(split):
    maps, weights = torch.rand(3, COUNT), torch.ones(1, 3)
    plan = Plan((plan_of(PARTS["kl"])[0],))
    launched = launch.forward_launches(maps, maps, weights, *launch.empty_forward(maps, weights, plan), plan)
    assert len(launched) == (3 if split else 1)
