"""Which weight of the saliency term: short trainings, judged on validation data."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from saliency_losses.diagnosis.batches import read_batches
from saliency_losses.diagnosis.reading import ERRORS
from saliency_losses.diagnosis.report import diagnose
from saliency_losses.diagnosis.result import Diagnosis
from saliency_losses.diagnosis.untouched import random_state
from saliency_losses.guided import SaliencyGuidedLoss

__all__ = ["Sweep", "recommend", "sweep_weights"]

ACCURACY = 0.05
"""A weight may cost this much of the best validation accuracy: giving up a shortcut costs something."""

TASK_LOSS = 0.1
"""Where there is no accuracy, a weight may cost this share of the best validation task loss."""


@dataclass(frozen=True)
class Sweep:
    """What each weight came to; ``print`` it.

    Attributes:
        weights: As they were given.
        rows: The diagnosis on validation data after training with each.
        recommended: The weight to begin with; ``None`` if no weight made the maps agree more.
        recommendation: Why, in words.
    """

    weights: tuple[float, ...]
    rows: tuple[Diagnosis, ...]
    recommended: float | None
    recommendation: str

    def __str__(self) -> str:
        witness = self.rows[0].witness
        shown = [self.rows[0].trained.extractor, *(() if witness is None else (witness.extractor,))]
        lines = [f"{'weight':>10}{'task loss':>12}{'accuracy':>11}" + "".join(f"{name:>20}" for name in shown)]
        for weight, row in zip(self.weights, self.rows, strict=True):
            accuracy = "-" if row.accuracy is None else f"{row.accuracy:.1%}"
            found = [row.trained, *(() if row.witness is None else (row.witness,))]
            agreements = "".join(f"{one.difference:>12.3f} ± {one.standard_error:.3f}" for one in found)
            lines.append(f"{weight:>10g}{row.task_loss:>12.3g}{accuracy:>11}{agreements}")
        lines += [
            "",
            "maps: correlation with the human map of the same image minus that with others'",
            self.recommendation,
        ]
        return "\n".join(lines)


def sweep_weights(
    make: Callable[[float], tuple[SaliencyGuidedLoss, Optimizer]],
    loader_train: Iterable[Any],
    loader_val: Iterable[Any],
    weights: Sequence[float],
    *,
    steps: int,
    seed: int = 0,
    **options: Any,
) -> Sweep:
    """Train briefly with each weight and see what becomes of task and maps on validation data.

    Each training begins from the same seed. Recommended is the weight whose maps agree best, by the witness if there is
    one, among those that keep the task: within 0.05 of the best accuracy, or 10 % of the best task loss. Begin with
    weight zero (or alpha one), and the gain is what guidance did. Random states are afterwards what they were.

    Args:
        make: ``weight`` to a guided loss around a fresh model, and its optimizer.
        loader_train: Batches to train on, begun anew when they end; see :func:`~saliency_losses.diagnosis.diagnose`.
        loader_val: Batches to judge by.
        weights: To try, at least two; what they mean is up to ``make``.
        steps: How many optimizer steps each training takes.
        seed: Of each training.
        **options: For :func:`~saliency_losses.diagnosis.diagnose`, such as ``witness`` or ``limit``.

    Raises:
        ValueError: There are fewer than two weights, no steps, or no batches.

    Example:
        >>> def make(alpha):
        ...     net = torch.nn.Sequential(
        ...         torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2))
        ...     return SaliencyGuidedLoss(net, alpha=alpha), torch.optim.SGD(net.parameters(), lr=0.1)
        >>> loader = [(torch.rand(8, 3, 9, 9), torch.arange(8) % 2, torch.rand(8, 9, 9))]
        >>> sweep_weights(make, loader, loader, [1.0, 0.5], steps=2).recommended is None
        True
    """
    if len(weights) < 2:
        raise ValueError(f"weights must hold at least two values, such as [0.0, 0.1, 1.0], got {list(weights)}.")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    rows = []
    for weight in weights:
        with random_state(loader_train, loader_val):
            torch.manual_seed(seed)
            guided, optimizer = make(weight)
            guided.train()
            for step in _endless(loader_train, guided, steps):
                loss = guided(**step).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            rows.append(diagnose(guided, loader_val, **{"gradient_batches": 0, "seed": seed, **options}))
    recommended, why = recommend(tuple(weights), rows)
    return Sweep(tuple(weights), tuple(rows), recommended, why)


def _endless(loader: Iterable[Any], guided: SaliencyGuidedLoss, steps: int) -> Iterator[dict[str, Any]]:
    left = steps
    while left:
        before = left
        for step in read_batches(loader, guided.model, count=left):
            yield step
            left -= 1
        if left == before:
            raise ValueError(
                f"loader_train gave no batch with {left} of {steps} steps to go; pass something that can be iterated "
                "again, such as a DataLoader or a list."
            )


def _keeps_the_task(row: Diagnosis, rows: Sequence[Diagnosis]) -> bool:
    accuracies = [other.accuracy for other in rows if other.accuracy is not None]
    if row.accuracy is not None:
        return row.accuracy >= max(accuracies) - ACCURACY
    return row.task_loss <= (1 + TASK_LOSS) * min(other.task_loss for other in rows)


def recommend(weights: tuple[float, ...], rows: Sequence[Diagnosis]) -> tuple[float | None, str]:
    """The weight whose maps agree best of those that keep the task, if they agree more than the first's; and why."""
    found = [row.witness or row.trained for row in rows]
    keeping = [number for number, row in enumerate(rows) if _keeps_the_task(row, rows)]
    best, any_best = (max(among, key=lambda number: found[number].difference) for among in (keeping, range(len(rows))))
    first = found[0]
    gain = found[best].difference - first.difference
    error = (found[best].standard_error ** 2 + first.standard_error**2) ** 0.5
    costly = ""
    if any_best not in keeping:
        other = f"{weights[any_best]:g} agrees better ({found[any_best].difference:.2f})"
        costly = f" {other} but costs too much of the task; train longer, or try weights between."
    against = f"{first.difference:.2f} at {weights[0]:g}"
    if best == 0 or not gain > ERRORS * error:
        return (
            None,
            f"By {first.extractor}, no weight that keeps the task makes maps agree more than {against}.{costly}",
        )
    why = (
        f"of those that keep the task its maps agree best (by {first.extractor}, {found[best].difference:.2f} against "
    )
    better = f"by {first.extractor}, {found[best].difference:.2f} against {against}"
    why = f"Begin with {weights[best]:g}: of those that keep the task its maps agree best ({better}).{costly}"
    return weights[best], why
