"""What importing the package costs and offers."""

import subprocess
import sys

import saliency_losses as sl

PUBLIC = """Diagnosis Divergence Explanation LossOutput Preflight SaliencyExtractor SaliencyGuidedLoss Weighting
create_divergence create_extractor create_weighting data diagnose divergences extractors list_divergences
list_extractors list_layers list_weightings maps metrics preflight register_divergence register_extractor
register_weighting sweep_weights testing viz weighting"""


def test_public_names_are_these():
    assert sorted(sl.__all__) == sorted(PUBLIC.split()), (
        "The public names changed. If that is meant, change them here too, and say so where users read of it."
    )
    assert all(hasattr(sl, name) for name in sl.__all__)


def test_importing_loads_torch_alone():
    program = """
import sys, torch
before = set(sys.modules)
import saliency_losses, saliency_losses.data, saliency_losses.viz
saliency_losses.list_extractors(), saliency_losses.SaliencyGuidedLoss(torch.nn.Linear(1, 1))
heavy = {"captum", "kornia", "torchvision", "triton", "matplotlib", "sklearn", "scipy", "PIL", "numpy.testing"}
print(sorted({name.split(".")[0] for name in set(sys.modules) - before} & heavy))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
