"""Axes of maps are judged from input gradients alone, and the table of architectures says what is measured."""

import json

import pytest
import torch
from torch import nn

from docs.architectures import FOLDER, cells, examine, is_good, write
from docs.axes import judge_axes
from docs.zoo import CASES, Case
from saliency_losses.extractors import CAM, GradCAM

TABLE = {row["model"]: row for row in json.loads((FOLDER / "architectures.json").read_text())["rows"]}
REPRESENTATIVE = (
    "torchvision mobilenet_v2",
    "torchvision squeezenet1_1",
    "timm edgenext_xx_small",
    "timm levit_conv_128s",
    "timm pvt_v2_b0",
    "timm vit_tiny_patch16_224",
)
READINGS = {
    "as it is": lambda t: t,
    "rows and columns swapped": lambda t: t.transpose(2, 3),
    "channels for rows": lambda t: t.transpose(1, 2),
    "channels for columns": lambda t: t.transpose(1, 3),
    "upside down": lambda t: t.flip(2),
    "mirrored": lambda t: t.flip(3),
    "rows dealt out": lambda t: t[:, :, [0, 2, 4, 6, 1, 3, 5, 7]],
    "rows in halves": lambda t: t[:, :, [4, 5, 6, 7, 0, 1, 2, 3]],
    "one axis": lambda t: t.flatten(2),
}


class Tokens(nn.Module):
    """Patches that all look at each other, twice, and keep their place by their residual alone."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.blocks = nn.Identity()
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        for _ in range(2):
            x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.blocks(x).square().mean(1))


def convolutions():
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.GELU(), nn.Conv2d(8, 8, 3, 2, 1), nn.GELU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 3))


def verdict(net, extractor, images):
    return judge_axes(lambda images: extractor(net, images, torch.tensor([0, 1])).saliency, images)


@pytest.mark.parametrize("reading", READINGS)
def test_only_the_right_reading_of_a_layer_is_right(reading):
    # Eight channels, rows and columns: no shape gives a wrong reading away.
    found = verdict(convolutions(), GradCAM(layer="3", reshape=READINGS[reading]), torch.randn(2, 3, 32, 32))
    assert found.word == ("right" if reading == "as it is" else "wrong")
    blame = {"as it is": "", "one axis": "shape", "mirrored": "columns do", "channels for columns": "columns do"}
    assert blame.get(reading, "rows") in found.why


@pytest.mark.parametrize(("shape", "word"), [((6, 8), "right"), ((8, 6), "wrong"), ((4, 12), "wrong")])
def test_tokens_that_all_look_at_each_other_are_told_by_what_they_keep(shape, word):
    def reshape(tokens):
        return tokens.transpose(1, 2).unflatten(2, shape)

    found = verdict(Tokens(), GradCAM(layer="blocks", reshape=reshape), torch.randn(2, 3, 24, 32))
    assert found.word == word


def test_swapped_tokens_are_wrong_also_on_a_square():
    def reshape(tokens):
        return tokens.transpose(1, 2).unflatten(2, (6, 6)).transpose(2, 3)

    found = verdict(Tokens(), GradCAM(layer="blocks", reshape=reshape), torch.randn(2, 3, 24, 24))
    assert found.word == "wrong"
    assert "rows and columns" in found.why


def test_a_map_that_does_not_depend_on_the_image_is_not_right():
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        flat[0].bias.fill_(-100.0)
    assert verdict(flat, CAM(), torch.randn(2, 3, 12, 12)).word == "undecided"


def test_a_broken_model_breaks_its_own_row_only(tmp_path):
    rows = [examine(Case("timm", "no_such_network", (32, 32), {})), TABLE["timm pvt_v2_b0"]]
    assert "no_such_network" in rows[0]["broken"]
    write(rows, tmp_path)
    assert "| timm pvt_v2_b0 | 160 x 192 | verified |" in (tmp_path / "architectures.md").read_text()
    assert "1 in bold are neither" in (tmp_path / "architectures.md").read_text()
    assert json.loads((tmp_path / "architectures.json").read_text())["rows"] == rows


def test_an_error_without_advice_is_not_good():
    advice = {"advice": "its classifier does not read a globally averaged feature map"}
    row = {"model": "m", "image": [8, 8], "cam": advice, "grad_cam": {"error": "KeyError in layers.py: 3"}}
    assert not is_good(row)
    assert "**KeyError in layers.py: 3**" in cells(row)
    assert is_good({**row, "grad_cam": advice})
    assert not is_good({**row, "grad_cam": {"map": [3, 4], "axes": "wrong", "why": "rows do not follow the image"}})


def test_the_table_holds_all_models():
    assert list(TABLE) == [case.label for case in CASES]
    assert len(TABLE) >= 70


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.label, marks=[] if case.label in REPRESENTATIVE else [pytest.mark.slow])
        for case in CASES
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:timm", "ignore::FutureWarning:timm")
def test_the_table_is_what_is_measured(case):
    assert without_numbers(examine(case)) == without_numbers(TABLE[case.label])


def without_numbers(row):
    """The row without the strengths, which rounding on another machine changes."""
    if not isinstance(row, dict):
        return row
    return {key: without_numbers(value) for key, value in row.items() if key not in ("rows", "columns")}
