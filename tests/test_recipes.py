"""The pages of the documentation whose code is run, as they stand there."""

import re
from pathlib import Path

import pytest

from docs import grains

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


BLOCKS = blocks("recipes.md")
TITLES = ["Setup", *re.findall(r"^\*\*(.+?)\.?\*\*", (DOCS / "recipes.md").read_text(), re.MULTILINE)]


def test_every_recipe_has_code():
    assert len(TITLES) == len(BLOCKS)


@pytest.mark.parametrize("number", range(1, len(BLOCKS)), ids=TITLES[1:])
def test_recipe(number):
    names = {}
    for block in BLOCKS[: number + 1]:
        exec(block, names)
    parameters = [p for p in names["guided"].parameters() if p.requires_grad]
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters)
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in parameters)


def test_what_people_have_becomes_maps():
    names = {}
    for block in blocks("human_maps.md"):
        exec(block, names)
    full = [names[name] for name in ("heat", "boxes", "outlines", "tumour", "agreed", "region", "signed", "known")]
    small = [names[name] for name in ("density", "peaks", "statements")]
    assert {tuple(one.shape) for one in (*full, *names["grains"].values())} == {(2, 96, 128)}
    assert {tuple(one.shape) for one in small} == {(2, 24, 32)}
    assert all(bool(one.any()) for one in (*full, *small, *names["grains"].values(), names["agreement"]))
    assert names["weights"][0][0] == 0.0, "the stray fixation"


def test_the_grains_are_drawn(tmp_path):
    grains.draw(tmp_path / "grains.png")
    assert 10_000 < (tmp_path / "grains.png").stat().st_size < 80_000
