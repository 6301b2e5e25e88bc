"""The table of architectures, measured: ``python -m docs.architectures`` writes architectures.md and .json."""

import gc
import json
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

import saliency_losses as sl
from docs.axes import judge_axes
from docs.zoo import CASES, Case
from saliency_losses.extractors.probe import probe

Row = dict[str, Any]

FOLDER = Path(__file__).resolve().parent
PACKAGE = Path(sl.__file__).resolve().parent
ADVICE = re.compile(r"\b(Use|Choose|Name|choose|use|name)\b")

INTRODUCTION = """# Architectures

What `cam` and `grad_cam`, both without options, give on {count} classifiers of torchvision {torchvision} and timm
{timm}, with random weights, in eval mode. On {maps}, `grad_cam` gives a map whose axes are right; on {errors}, the
error that says what to do{bad}.

- **cam**: whether the identity behind the map (its mean plus the bias is the logit) was verified, or why there is none.
- **grad_cam taps**: the layer that it chooses by itself.
- **axes**: whether the cells of the map lie in the image where the map says. This is judged from input gradients alone:
  cells in four rows and four columns of the map, channel weights held constant, are differentiated with respect to the
  image, and must have more energy in their own quarter of its height and of its width than other cells have there. No
  other order of the rows or columns may fit better, and chance is ruled out by a permutation test. Height and width of
  the images differ wherever the architecture allows it. The numbers say how many times more energy a cell has in its
  own rows, and in its own columns: from just above 1 where everything is mixed with everything, to astronomic where
  nothing is.

`python -m docs.architectures` measures it anew.

| model | image | `cam` | `grad_cam` taps | map | axes |
|---|---|---|---|---|---|
"""


def sweep(cases: Iterable[Case]) -> list[Row]:
    """One row for each, in their order; a model that breaks breaks its own row only."""
    rows = []
    for case in cases:
        start = time.process_time()
        rows.append(examine(case))
        gc.collect()
        seconds = time.process_time() - start
        print(f"{case.label:60}{seconds:6.1f} s  {cells(rows[-1])[3:]}", file=sys.stderr, flush=True)
    return rows


def examine(case: Case) -> Row:
    """What both extractors give on one model."""
    row: Row = {"model": case.label, "image": list(case.size)}
    try:
        net, images = case.make()
    except Exception as error:
        return {**row, "broken": f"{type(error).__name__}: {error}"}
    labels = torch.arange(len(images))
    row["cam"], cam = examine_extractor("cam", net, images, labels, None)
    row["grad_cam"], _ = examine_extractor("grad_cam", net, images, labels, (cam, row["cam"]))
    if "map" in row["grad_cam"]:
        row["grad_cam"]["layer"] = chosen_layer(net, images, labels)
    return row


def examine_extractor(
    name: str, net: nn.Module, images: Tensor, labels: Tensor, known: Any
) -> tuple[Row, Tensor | None]:
    """The map's shape and axes or the error, and the map; one that is but a multiple of ``known`` is judged like it."""
    extractor = sl.create_extractor(name)

    def explain(images: Tensor) -> Tensor:
        return extractor(net, images, labels).saliency

    try:
        with torch.no_grad():
            saliency = explain(images)
        if known is not None and _is_multiple(saliency, known[0]):
            return dict(known[1]), saliency
        verdict = judge_axes(explain, images)
    except Exception as error:
        return _explain_error(error), None
    judged = {
        "axes": verdict.word,
        "why": verdict.why,
        "rows": _rounded(verdict.rows),
        "columns": _rounded(verdict.columns),
    }
    return {"map": list(saliency.shape[1:]), **judged}, saliency


def chosen_layer(net: nn.Module, images: Tensor, labels: Tensor) -> str:
    """What ``grad_cam`` taps by itself, in words."""
    (name,) = probe(net, images, None, [None], score=lambda logits: logits.gather(1, labels[:, None])[:, 0]).names
    return name.removeprefix("the layer taken by default, ").rstrip(",").replace("'", "`")


def is_good(row: Row) -> bool:
    """Whether each extractor gave a map with two right axes, or an error that helps."""
    results = [row[name] for name in ("cam", "grad_cam") if name in row]
    return bool(results) and all(result.get("axes") == "right" or "advice" in result for result in results)


def cells(row: Row) -> list[str]:
    """What the table says of the model."""
    image = " x ".join(map(str, row["image"]))
    if "broken" in row:
        return [row["model"], image, "", f"**{row['broken']}**", "", ""]
    cam, grad_cam = row["cam"], row["grad_cam"]
    words = "verified" if "map" in cam else cam.get("advice") or f"**{cam['error']}**"
    if "map" in cam and cam["axes"] != "right":
        words = f"verified, **{cam['why']}**"
    if "map" not in grad_cam:
        return [row["model"], image, words, grad_cam.get("advice") or f"**{grad_cam['error']}**", "", ""]
    axes = f"{grad_cam['axes']}, {grad_cam['rows']:g} and {grad_cam['columns']:g}"
    if grad_cam["axes"] != "right":
        axes = f"**{grad_cam['axes']}: {grad_cam['why']}**"
    return [row["model"], image, words, grad_cam["layer"], " x ".join(map(str, grad_cam["map"])), axes]


def write(rows: list[Row], folder: Path) -> None:
    """Write both files into ``folder``."""
    kinds = Counter("maps" if is_good(row) and "map" in row["grad_cam"] else "errors" for row in rows if is_good(row))
    bad = len(rows) - kinds.total()
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    versions = {name: version.split("+")[0] for name, version in versions.items()}
    head = INTRODUCTION.format(
        count=len(rows),
        maps=kinds["maps"],
        errors=kinds["errors"],
        bad=f"; {bad} in bold are neither" if bad else "",
        **versions,
    )
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in cells(row))} |" for row in rows]
    (folder / "architectures.md").write_text(head + "\n".join(lines) + "\n")
    table = ",\n".join(json.dumps(row) for row in rows)
    (folder / "architectures.json").write_text(f'{{"versions": {json.dumps(versions)},\n"rows": [\n{table}\n]}}\n')


def _explain_error(error: Exception) -> Row:
    """The reason in short, as ``advice`` if the package raised it and says what to do, else as a plain ``error``."""
    text = " ".join(str(error).split())
    where = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    helps = isinstance(error, (ValueError, RuntimeError)) and PACKAGE in where.parents and ADVICE.search(text)
    short = text.split(" but of this model ")[-1].split(". ")[0]
    return {"advice": short} if helps else {"error": f"{type(error).__name__} in {where.name}: {short}"}


def _is_multiple(one: Tensor, other: Tensor | None) -> bool:
    if other is None or one.shape != other.shape or not bool(one.any()):
        return False
    return torch.allclose(one / one.norm(), other / other.norm(), rtol=0.0, atol=1e-4)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


if __name__ == "__main__":
    write(sweep(CASES), FOLDER)
