"""The examples and the toy run, end in pictures, and say what is wrong with bad arguments."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments, folder=ROOT):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def pictures(folder):
    return {path.name for path in folder.glob("*.png") if path.read_bytes().startswith(b"\x89PNG")}


def test_toy(tmp_path):
    result = run("-m", "saliency_losses", "--output", tmp_path / "toy.png")
    assert result.returncode == 0, result.stderr
    assert pictures(tmp_path) == {"toy.png"}
    assert "guided" in result.stdout
    refused = run("-m", "saliency_losses", "--output", tmp_path / "no" / "such" / "folder" / "toy.png")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr


def test_decoy_digits(tmp_path):
    result = run("-m", "examples.decoy_digits", "--quick", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert pictures(tmp_path)
    json.loads((tmp_path / "results.json").read_text())


def test_synthetic_faces(tmp_path):
    result = run("-m", "examples.synthetic_faces", "--quick", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert {"auc.png", "pairs.png", "alignment.png", "average_maps.png", "epochs.png", "gallery.png"} == pictures(
        tmp_path
    )
    assert "INVALID" in result.stdout, "so short a training cannot pass the gate"
    assert result.stdout.split()[-1] == str(tmp_path / "report.html")
    results = json.loads((tmp_path / "results.json").read_text())
    assert "nan" not in json.dumps(results).lower()
    assert "CYBORG" in (tmp_path / "table.md").read_text()
    assert "<script" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("example", ["synthetic_faces", "decoy_digits", "pasted_faces"])
def test_help(example):
    assert run("-m", f"examples.{example}", "--help").returncode == 0
