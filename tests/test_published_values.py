"""Values of published code, run by its authors' functions on fixed inputs, reproduced by one line each."""

import pytest
import torch

from saliency_losses.divergences import KL, MAE, NSS, PPCE, SIM, Correlation, MaxAbs, SumToOne

# pysaliency (Kümmerer et al.), metrics.py: |sin| and |cos| of 0..15 as 4x4 maps, two fixations.
MODEL = torch.arange(16, dtype=torch.float64).sin().abs().view(1, 4, 4)
HUMAN = torch.arange(16, dtype=torch.float64).cos().abs().view(1, 4, 4)
FIXATIONS = torch.zeros(1, 4, 4, dtype=torch.float64)
FIXATIONS[0, [0, 3], [1, 2]] = 1.0

# Model-Guidance (Rao et al. 2023), losses.py: -1..1 as an 8x8 map, the box of rows and columns 2..5.
ATTRIBUTION = torch.linspace(-1, 1, 64).view(1, 8, 8)
BOX = torch.zeros(1, 8, 8)
BOX[:, 2:6, 2:6] = 1.0


@pytest.mark.parametrize(
    ("divergence", "value"),
    [
        (Correlation(), 1.0 + 0.905358669),
        (SIM(), 1.0 - 0.575834949),
        (KL(normalize=SumToOne(minimum=1e-20, log_floor=0.0), human_normalize=SumToOne(minimum=1e-20)), 4.919962600),
        (KL(normalize="sum", form="mit"), 3.705721942),
        (NSS(), -0.9294520),
    ],
    ids=repr,
)
def test_benchmark_metrics(divergence, value):
    human = FIXATIONS if divergence.reads == "fixations" else HUMAN
    assert float(divergence(MODEL, human)) == pytest.approx(value, abs=1e-6 if human is FIXATIONS else 1e-9)


@pytest.mark.parametrize(
    ("divergence", "value"),
    [(MAE(normalize=MaxAbs(positive=True), human_normalize="none"), 0.440476), (PPCE(), 50.768742)],
    ids=repr,
)
def test_model_guidance(divergence, value):
    assert float(divergence(ATTRIBUTION, BOX)) == pytest.approx(value, rel=2e-6)
