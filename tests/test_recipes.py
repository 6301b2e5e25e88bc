"""The recipes of the documentation, as they stand there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
TITLES = ["Setup", *re.findall(r"^\*\*(.+?)\.?\*\*", PAGE.read_text(), re.MULTILINE)]
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


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
