"""The pages of the documentation that are code, as they stand there."""

import re
from pathlib import Path

import pytest

PAGES = {name: (Path(__file__).parents[1] / "docs" / f"{name}.md").read_text() for name in ("recipes", "weighting")}
TITLES = {name: ["Setup", *re.findall(r"^\*\*(.+?)\.?\*\*", text, re.MULTILINE)] for name, text in PAGES.items()}
BLOCKS = {name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in PAGES.items()}
RECIPES = [
    pytest.param(BLOCKS[name][:number], id=title)
    for name, titles in TITLES.items()
    for number, title in enumerate(titles, 1)
    if title != "Setup"
]


@pytest.mark.parametrize("name", PAGES)
def test_every_recipe_has_code(name):
    assert len(TITLES[name]) == len(BLOCKS[name])


@pytest.mark.parametrize("blocks", RECIPES)
def test_recipe(blocks):
    names = {}
    for block in blocks:
        exec(block, names)
    parameters = [p for p in names["guided"].parameters() if p.requires_grad]
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters)
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in parameters)
