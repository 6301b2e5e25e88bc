"""The table of the results, with what guidance gains over cross-entropy and how sure that is."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from .arms import Arm
from .experiment import Gate

RESAMPLES = 2000
HEADINGS = (
    "Arm",
    "alpha",
    "Worst group",
    "Worst seed",
    "Gain over cross-entropy (95%)",
    "Mean of groups",
    "Textures swapped: answers that change",
    "Map and human map: same scene; another",
)

LEGEND = """*Worst group*: accuracy on test patches in the worst of the four groups of label and texture, of which
training has two; guessing gives 0.5, and one answer for all 0. {spread}; *worst seed* is the lowest. The gain's
interval is a bootstrap over seeds and, within each class, test patches. *Textures swapped* follows the same patch in
the same place on the other texture. The last column correlates the network's map with the human map of the same
scene, and of another. alpha is the task's share of the loss."""


def of_arm(results: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The arm's trainings, by seed."""
    return sorted((r for r in results if r["arm"] == name), key=lambda r: int(r["seed"]))


def interval(results: list[dict[str, Any]], name: str, against: str) -> tuple[float, float]:
    """Percentile bootstrap of the difference in mean worst-group accuracy, paired by seed and by patch."""
    right = torch.stack([torch.tensor([r["patches"] for r in of_arm(results, arm)]) for arm in (name, against)])
    _, seeds, groups, patches = right.shape
    generator = torch.Generator().manual_seed(0)

    def resample() -> Tensor:
        rows = right[:, torch.randint(seeds, (seeds,), generator=generator)]
        draw = torch.randint(patches, (2, patches), generator=generator).repeat_interleave(groups // 2, 0)
        worst = rows.gather(3, draw.expand(2, seeds, groups, patches)).mean(3).amin(2).mean(1)
        return worst[0] - worst[1]

    differences = torch.stack([resample() for _ in range(RESAMPLES)])
    low, high = differences.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def cell(results: list[dict[str, Any]], key: str, form: str = "{:.3f}") -> str:
    """Mean and, with several seeds, standard deviation."""
    values = [r["metrics"][key] for r in results]
    return form.format(mean(values)) + (f" ± {form.format(stdev(values))}" if len(values) > 1 else "")


def row(results: list[dict[str, Any]], arm: Arm) -> list[str]:
    """The arm's cells."""
    own = of_arm(results, arm.name)
    worst = [r["metrics"]["worst_group"] for r in own]
    gain = ""
    if arm.name != "cross_entropy":
        low, high = interval(results, arm.name, "cross_entropy")
        plain = mean(r["metrics"]["worst_group"] for r in of_arm(results, "cross_entropy"))
        gain = f"{mean(worst) - plain:+.3f} ({low:+.3f} to {high:+.3f})"
    return [
        arm.title,
        f"{arm.alpha:g}" if arm.extractor else "",
        cell(own, "worst_group"),
        f"{min(worst):.3f}",
        gain,
        cell(own, "mean"),
        cell(own, "flips", "{:.2f}"),
        f"{cell(own, 'alignment', '{:.2f}')}; {cell(own, 'alignment_other', '{:.2f}')}",
    ]


def markdown(arms: list[Arm], results: list[dict[str, Any]], gate: Gate, seeds: int) -> str:
    """The gate, the table and how to read it."""
    verdict = "Gate passed." if gate.passed else "**Gate FAILED: the comparison below is invalid.**"
    rows = [list(HEADINGS), ["---", *["---:"] * (len(HEADINGS) - 1)], *(row(results, arm) for arm in arms)]
    table = ["| " + " | ".join(cells) + " |" for cells in rows]
    spread = f"Mean ± standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    return "\n".join(
        [*(f"- {line}" for line in gate.lines), "", verdict, "", *table, "", LEGEND.format(spread=spread), ""]
    )
