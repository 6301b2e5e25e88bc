"""Writes the reference pages: one per registered part, from the registries, so that none can be forgotten."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import saliency_losses as sl
from saliency_losses.divergences.base import DIVERGENCES
from saliency_losses.extractors.base import EXTRACTORS
from saliency_losses.table import aligned

INTRODUCTIONS = {
    "extractors": "An extractor finds where a model looks. Every map below can be trained through: each name is tested "
    "by finite differences over every parameter, in train mode.",
    "divergences": "A divergence says how far a model's map is from a human's, one value per map.",
    **{
        module.__name__.rpartition(".")[2]: f".. currentmodule:: {module.__name__}\n\n"
        + inspect.cleandoc(module.__doc__ or "").partition("\n\n")[2]
        for module in (sl.maps, sl.data, sl.metrics, sl.viz)
    },
}
FLAT = (
    "Values with default options for a model map that rises from 0 to 1 against an annotated but empty human map, and "
    "for a model map that is 1 everywhere against a human map that marks one half; and whether the model's map gets a "
    "gradient. Priors do not look at the human map."
)
PAGES = {
    "guided": ("The guided loss", ["guided.SaliencyGuidedLoss", "guided.LossOutput", "task.cross_entropy"]),
    "weighting": (
        "Weighting",
        [
            "weighting.Convex",
            "weighting.Additive",
            "weighting.OffUntil",
            "weighting.ConstantUntil",
            "weighting.Linear",
            "weighting.Cosine",
            "weighting.Normalised",
            "weighting.Balanced",
            "weighting.Dynamic",
            "weighting.Uncertainty",
            "weighting.dynamic_shares",
            "weighting.relative_weights",
            "weighting.create_weighting",
            "weighting.list_weightings",
        ],
    ),
    "normalizers": (
        "Normalisers, sizes and sums",
        [
            "divergences.Normalizer",
            "divergences.Raw",
            "divergences.MinMax",
            "divergences.MaxAbs",
            "divergences.L2",
            "divergences.ZScore",
            "divergences.ZScoreReLU",
            "divergences.SumToOne",
            "divergences.Softmax",
            "divergences.create_normalizer",
            "divergences.list_normalizers",
            "sizing.to_size",
            "sizing.bring_to_size",
            "divergences.Sum",
        ],
    ),
    "preflight": (
        "Preflight",
        [
            "checks.preflight",
            "checks.Preflight",
            "checks.Finding",
            "checks.Reached",
            "checks.GradientNorms",
            "checks.StepCost",
        ],
    ),
    "diagnosis": (
        "Is guidance working",
        [
            "diagnosis.diagnose",
            "diagnosis.Diagnosis",
            "diagnosis.Alignment",
            "diagnosis.Gradients",
            "diagnosis.Spread",
            "diagnosis.Gain",
            "diagnosis.sweep_weights",
            "diagnosis.Sweep",
        ],
    ),
    "data": ("Data", [f"data.{name}" for name in sl.data.__all__]),
    "metrics": (
        "Metrics",
        [f"metrics.{name}" for name in sl.metrics.__all__ if name not in ("HUMAN_CEILING", "register_metric")],
    ),
    "viz": ("Pictures", [f"viz.{name}" for name in sl.viz.__all__]),
    "maps": ("Human maps", [f"maps.{name}" for name in sl.maps.__all__]),
    "layers": (
        "Finding layers",
        [
            "extractors.list_layers",
            "extractors.Layer",
            "extractors.layout.Layout",
            "extractors.layout.Tokens",
            "extractors.call_model",
        ],
    ),
    "extend": (
        "Writing your own",
        [
            "extractors.SaliencyExtractor",
            "extractors.activations.ActivationExtractor",
            "extractors.activation_gradients.ActivationGradientExtractor",
            "extractors.activation_gradients.LayerView",
            "extractors.Explanation",
            "extractors.list_extractors",
            "divergences.Divergence",
            "divergences.Prior",
            "divergences.masked_mean",
            "divergences.masked_sum",
            "divergences.best_threshold",
            "weighting.Weighting",
            "testing.check_extractor",
            "testing.check_divergence",
            "testing.check_gradients",
        ],
    ),
}

HIDDEN = dict.fromkeys(["SaliencyGuidedLoss", "SaliencyExtractor", "Divergence", "Prior", "Weighting"], "extra_repr")
HIDDEN |= dict.fromkeys(["ActivationExtractor", "ActivationGradientExtractor"], "extra_repr, forward")


def write_reference(folder: Path) -> None:
    """Write all pages and their index into ``folder``."""
    folder.mkdir(exist_ok=True)
    for page, (title, names) in PAGES.items():
        _write(folder / f"{page}.rst", title, INTRODUCTIONS.get(page, ""), [_directive(name) for name in names])
    for page, registry, names in (
        ("extractors", EXTRACTORS, sl.list_extractors()),
        ("divergences", DIVERGENCES, sl.list_divergences()),
    ):
        entries = []
        for name in names:
            maker: Callable[..., Any] = registry.find(name)
            path = f"{maker.__module__}.{maker.__qualname__}".removeprefix("saliency_losses.")
            entries.append(f"{_heading(name, '-')}\n\n{_directive(path, inspect.isclass(maker))}")
            if page == "divergences":
                entries += _functions_beside(maker)
        if page == "extractors":
            entries.append(
                f"{_heading('Which score', '-')}\n\n.. autodata:: saliency_losses.extractors.score.Score\n   :no-value:"
            )
            reshape = ".. autodata:: saliency_losses.extractors.layout.Reshape\n   :no-value:"
            entries.append(f"{_heading('How to read a layer', '-')}\n\n{reshape}")
            details = "\n".join(f"   {line}" for line in str(sl.list_extractors(details=True)).splitlines())
            entries.append(f"{_heading('What each declares', '-')}\n\n.. code-block:: text\n\n{details}")
            entries.append(_directive("extractors.channels.reduce_channels"))
            entries.append(_directive("extractors.eigen_cam.eigen_cam"))
            entries.append(f"{_heading('CaptumExtractor', '-')}\n\n{_directive('extractors.captum.CaptumExtractor')}")
        if page == "divergences":
            details = "\n".join(f"   {line}" for line in str(sl.list_divergences(details=True)).splitlines())
            entries.insert(0, f"{_heading('What each declares', '-')}\n\n.. code-block:: text\n\n{details}")
            table = "\n".join(f"   {line}" for line in flat_and_empty().splitlines())
            entries.insert(1, f"{_heading('Flat and empty maps', '-')}\n\n{FLAT}\n\n.. code-block:: text\n\n{table}")
        _write(folder / f"{page}.rst", page.title(), INTRODUCTIONS[page], entries)
    pages = [
        "guided",
        "extractors",
        "divergences",
        "normalizers",
        "weighting",
        "preflight",
        "diagnosis",
        "maps",
        "data",
        "metrics",
        "viz",
        "layers",
        "extend",
    ]
    toctree = "\n".join([".. toctree::", "   :maxdepth: 2", "", *(f"   {page}" for page in pages)])
    _write(folder / "index.rst", "Reference", "", [toctree])


def flat_and_empty() -> str:
    """What each divergence gives for an empty human map and for a flat model map, as a table."""
    ramp, flat = torch.arange(64.0).view(1, 8, 8) / 63, torch.ones(1, 8, 8)
    rows = []
    for name in sl.list_divergences():
        divergence = sl.create_divergence(name)
        row: list[str] = [name]
        for model, human in ((ramp, torch.zeros_like(ramp)), (flat, (ramp > 0.5).float())):
            leaf = model.clone().requires_grad_()
            value = divergence(leaf, human)
            (grad,) = torch.autograd.grad(value.sum(), leaf)
            row += [f"{float(value.detach()):.3g}", "yes" if bool(grad.any()) else "none"]
        rows.append(tuple(row))
    return aligned(("divergence", "empty human map", "gradient", "flat model map", "gradient"), rows)


def _functions_beside(maker: Callable[..., Any]) -> list[str]:
    """The public functions of a part's module, such as the definition that it computes."""
    module = sys.modules[maker.__module__]
    names = [name for name in module.__all__ if inspect.isfunction(getattr(module, name))]
    return [_directive(f"{module.__name__}.{name}".removeprefix("saliency_losses.")) for name in names]


def _directive(path: str, is_class: bool | None = None) -> str:
    name = path.rsplit(".", 1)[1]
    if is_class is None:
        is_class = name[0].isupper()
    kind = "autoclass" if is_class else "autofunction"
    hidden = HIDDEN.get(name, "extra_repr, forward, compare, combine, read, measure, scope")
    members = f"\n   :members:\n   :exclude-members: {hidden}" if is_class else ""
    return f".. {kind}:: saliency_losses.{path}{members}"


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}"


def _write(path: Path, title: str, introduction: str, entries: list[str]) -> None:
    path.write_text("\n\n".join(filter(None, [_heading(title, "="), introduction, *entries])) + "\n")


if __name__ == "__main__":
    write_reference(Path(__file__).resolve().parent / "reference")
