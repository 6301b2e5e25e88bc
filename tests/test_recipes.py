"""The pages of the documentation whose code is run, as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import grains

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


PAGES = {name: (DOCS / f"{name}.md").read_text() for name in ("recipes", "weighting")}
TITLES = {name: ["Setup", *re.findall(r"^\*\*(.+?)\.?\*\*", text, re.MULTILINE)] for name, text in PAGES.items()}
BLOCKS = {name: blocks(f"{name}.md") for name in PAGES}
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


def test_the_page_on_divergences_runs(tmp_path):
    """In a process of its own, since it registers one."""
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks("divergences.md")))
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=DOCS.parent, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("0.7 * KL() + 0.3 * SSIM() + 0.1 * Entropy()\n{'kl': tensor(")


def test_the_grains_are_drawn(tmp_path):
    grains.draw(tmp_path / "grains.png")
    assert 10_000 < (tmp_path / "grains.png").stat().st_size < 80_000


def test_the_page_on_kernels_runs():
    names = {}
    for block in blocks("kernels.md"):
        exec(block, names)
    assert [part.backend for _, part in names["both"].terms()] == ["auto"] * 3
