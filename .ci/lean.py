"""The built wheel in an empty environment with a small torch: one guided step, and an import that loads torch alone."""

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

STEP = """
import sys, importlib.util, torch
before = set(sys.modules)
import saliency_losses as sl
heavy = {"captum", "kornia", "torchvision", "triton", "matplotlib"}
loaded = heavy & ({name.split(".")[0] for name in set(sys.modules) - before})
assert not loaded, f"importing the package loaded {loaded}"
assert "site-packages" in sl.__file__, sl.__file__
net = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2))
for name in ("cam", "grad_cam", "input_gradient"):
    guided = sl.SaliencyGuidedLoss(net, name)
    out = guided(torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0]), torch.rand(4, 9, 9))
    out.loss.backward()
    assert out.loss.isfinite() and net[0].weight.grad.abs().sum() > 0, name
    net.zero_grad()
absent = [name for name in ("torchvision", "triton") if importlib.util.find_spec(name) is None]
assert "torchvision" in absent
if "triton" in absent:
    try:
        sl.create_divergence("mse", backend="triton")(torch.rand(2, 7, 7), torch.rand(2, 7, 7))
    except NotImplementedError as error:
        assert "Triton is not installed" in str(error), error
    else:
        raise AssertionError("a kernel was evaluated without Triton")
assert "kernel" in str(sl.list_divergences(details=True))
print("one guided step per extractor, torch", torch.__version__, "without", absent)
"""


def main() -> None:
    """Build, install, run; the first failing command ends it."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place / "env", with_pip=True)
        python = place / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-q"]
        source = shutil.copytree(
            root, place / "source", ignore=shutil.ignore_patterns(".venv", ".git", "runs", "build", "dist", "_build")
        )
        run([*pip, "wheel", "--no-deps", "-w", place / "dist", source], place)
        (wheel,) = (place / "dist").glob("*.whl")
        run([*pip, "install", "torch==2.13.*", wheel], place)
        run([python, "-c", STEP], place)
        run([python, "-m", "saliency_losses", "--output", place / "toy.png"], place)


def run(command: list[str | Path], folder: Path) -> None:
    """Run a command outside the checkout, so that the installed package is the one that is imported."""
    subprocess.run([str(part) for part in command], cwd=folder, check=True)


if __name__ == "__main__":
    main()
