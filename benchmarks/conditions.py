"""Where and with what something was measured."""

import datetime
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import saliency_losses as sl
from benchmarks.schema import Conditions

__all__ = ["ROOT", "conditions", "slug"]

ROOT = Path(__file__).resolve().parent.parent


def conditions(device: str) -> Conditions:
    """What every result file says besides its suite, settings and rows."""
    cuda = device == "cuda"
    changes = _said("git", "status", "--porcelain", "saliency_losses", "benchmarks")
    return {
        "version": sl.__version__,
        "commit": _said("git", "rev-parse", "HEAD"),
        "dirty": None if changes is None else any("benchmarks/results/" not in line for line in changes.splitlines()),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": str(torch.__version__),
        "triton": _version("triton"),
        "cuda": torch.version.cuda if cuda else None,
        "driver": _driver() if cuda else None,
        "device": torch.cuda.get_device_name() if cuda else _processor(),
        "device_type": device,
        "threads": torch.get_num_threads(),
    }


def slug(name: str) -> str:
    """A device's name as part of a file's.

    Example:
        >>> slug("NVIDIA H100 80GB HBM3")
        'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _said(*command: str) -> str | None:
    """What a command prints, or nothing where there is no such command, or it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    said = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return said.splitlines()[0] if said else None


def _processor() -> str:
    """The processor's name: Linux alone tells it in a file."""
    facts = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", facts.read_text()) if facts.exists() else []
    return names[0].strip() if names else platform.processor() or platform.machine()
