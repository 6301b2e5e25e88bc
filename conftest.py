"""Which modules are not collected for their doctests here."""

from importlib.util import find_spec
from pathlib import Path

_KERNELS = Path(__file__).parent / "saliency_losses" / "kernels"
_WITHOUT_TRITON = ("__init__", "plan", "select", "support")

# All other modules of the folder import Triton, which is not installed everywhere.
collect_ignore = [
    str(module)
    for module in _KERNELS.glob("*.py")
    if module.stem not in _WITHOUT_TRITON and find_spec("triton") is None
]
