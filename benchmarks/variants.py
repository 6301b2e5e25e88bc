"""The ways to compute a divergence that are compared, and what a pass over a batch of maps does."""

import importlib.util
import inspect
from collections.abc import Sequence

import torch
from torch import Tensor

import saliency_losses as sl
from benchmarks.shortest import SHORTEST, Formula
from benchmarks.timing import Work
from benchmarks.traffic import Direction
from saliency_losses.divergences import KL, MAE, MSE
from saliency_losses.divergences.base import DIVERGENCES, Backend

__all__ = ["SUM", "VARIANTS", "draw", "fusable", "has_triton", "make", "work"]

VARIANTS = {
    "plain": "the shortest PyTorch formula of the same value, which survives no flat, empty or partly unknown map",
    "eager": "this package without a kernel",
    "compile": "torch.compile of that",
    "triton": "this package's kernel",
    "triton in compile": "torch.compile of that",
}
SUM = "0.5 mse + 0.3 mae + 0.2 kl"


def fusable() -> list[str]:
    """Names of the divergences that may have a kernel: those with an option ``backend``."""
    return [name for name in sl.list_divergences() if "backend" in inspect.signature(DIVERGENCES.find(name)).parameters]


def has_triton() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def draw(
    batch: int, size: int, dtype: torch.dtype, device: str, seed: int = 0, human_size: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Square maps of a model, (B, H, W), human maps whose upper half is empty, and weights of the rows, (B,)."""
    generator = torch.Generator().manual_seed(seed)
    side = human_size or size
    model = torch.randn((batch, size, size), generator=generator)
    human = torch.rand((batch, side, side), generator=generator)
    human[:, : side // 2] = 0.0
    weights = torch.rand(batch, generator=generator) + 0.5
    return model.to(device, dtype).requires_grad_(), human.to(device, dtype), weights.to(device)


def make(name: str, variant: str) -> Formula:
    """A divergence, or the sum of three, in one of the variants; ``"mse, enlarge"`` has ``sizing="enlarge"``."""
    if variant == "plain":
        return _apart if name == SUM else _flattened(SHORTEST[name])
    backend: Backend = "triton" if variant.startswith("triton") else "eager"
    if name == SUM:
        divergence = 0.5 * MSE(backend=backend) + 0.3 * MAE(backend=backend) + 0.2 * KL(backend=backend)
    else:
        name, _, sizing = name.partition(", ")
        options = {"backend": backend} if name in fusable() else {}
        divergence = sl.create_divergence(name, **options, **({"sizing": sizing} if sizing else {}))
    if variant in ("compile", "triton in compile"):
        return torch.compile(divergence, fullgraph=True, dynamic=False)
    return divergence


def _flattened(formula: Formula) -> Formula:
    return lambda model, human: formula(model.flatten(1), human.flatten(1))


def _apart(model: Tensor, human: Tensor) -> Tensor:
    parts = zip((0.5, 0.3, 0.2), (MSE(backend="eager"), MAE(backend="eager"), KL(backend="eager")), strict=True)
    values: list[Tensor] = [weight * part(model, human) for weight, part in parts]
    return torch.stack(values).sum(0)


def work(compare: Formula, maps: Sequence[Tensor], direction: Direction) -> Work:
    """A forward pass that autograd records, the backward pass behind it, or both."""
    model, human, weights = maps

    def forward(_: object = None) -> Tensor:
        return compare(model, human)

    def backward(values: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(values, model, weights.to(values.dtype))
        return gradient

    if direction == "forward":
        return Work(forward)
    if direction == "backward":
        return Work(backward, forward)
    return Work(lambda _: backward(forward()))
