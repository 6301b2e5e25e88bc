"""What a model does on held-out data: its answers, and its maps beside the human maps."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from saliency_losses.diagnosis.batches import device_of, size_of
from saliency_losses.diagnosis.maps import Maps, together
from saliency_losses.divergences.base import Divergence
from saliency_losses.divergences.normalize import Scope
from saliency_losses.extractors.base import SaliencyExtractor
from saliency_losses.extractors.score import find_logits
from saliency_losses.guided import SaliencyGuidedLoss
from saliency_losses.task import IGNORED, TaskLoss, task_term

__all__ = ["Answers", "look"]

_OF_TRAINING = ("sample_weight", "task_sample_weight", "saliency_sample_weight", "denominator")


class Answers(NamedTuple):
    """What the model answered.

    Attributes:
        samples: How many samples there were.
        annotated: How many of them had a map.
        task_loss: Mean over samples.
        accuracy: Where the output holds logits and the targets are class indices; else ``None``.
    """

    samples: int
    annotated: int
    task_loss: float
    accuracy: float | None


class _Keep(Divergence):
    """Keeps the maps that a guided loss compares, and answers 1 for each."""

    spatial = True
    empty_is_suspicious = False

    def __init__(self, divergence: Divergence) -> None:
        super().__init__()
        self._for = divergence
        self.kept: list[tuple[Tensor, Tensor, Tensor | None]] = []

    @property
    def scope(self) -> Scope:
        """See :attr:`Divergence.scope`."""
        return self._for.scope

    @property
    def human_range(self) -> tuple[float, float]:
        """See :attr:`Divergence.human_range`."""
        return self._for.human_range

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        self.kept.append((model, human, known))
        return model.new_ones(len(model))


def look(
    views: list[tuple[SaliencyGuidedLoss, SaliencyExtractor]], steps: Iterable[Mapping[str, Any]], limit: int
) -> tuple[Answers, list[Maps]]:
    """Evaluate on the batches until ``limit`` samples are seen; models are left in eval mode.

    The guided loss itself brings maps to size and decides which are annotated, with a divergence in place of its own
    that keeps what it is given.

    Args:
        views: Losses, with the extractor to use instead of their own.
        steps: Keywords of guided steps.
        limit: How many samples suffice.

    Returns:
        The answers of the first loss's model, and the maps of each view.

    Raises:
        ValueError: No sample has a map, or maps differ in size between batches.
    """
    rows: list[list[Maps]] = [[] for _ in views]
    losses, hits, judged, samples = 0.0, 0, 0, 0
    for guided, _ in views:
        for module in guided.model.modules():
            module.training = False
    with torch.no_grad():
        for step in steps:
            count = size_of(step)
            given = {key: value for key, value in step.items() if key not in _OF_TRAINING}
            for number, ((guided, extractor), found) in enumerate(zip(views, rows, strict=True)):
                output, kept = _explain(guided, extractor, given, samples)
                found.extend(() if kept is None else (kept,))
                if number == 0:
                    loss = task_term(guided.task_loss, output, step["targets"], None, per_sample=False)
                    losses += float(loss) * count
                    right = _right(output, step["targets"])
                    hits, judged = hits + int(right.sum()), judged + len(right)
            samples += count
            if samples >= limit:
                break
    maps = [together(found, samples) for found in rows]
    annotated = len(torch.unique(maps[0].sample))
    return Answers(samples, annotated, losses / samples, hits / judged if judged else None), maps


def _explain(
    guided: SaliencyGuidedLoss, extractor: SaliencyExtractor, given: Mapping[str, Any], offset: int
) -> tuple[Any, Maps | None]:
    keep = _Keep(guided.divergence)
    observer = SaliencyGuidedLoss(
        guided.model,
        extractor,
        keep,
        saliency_weight=1.0,
        task_loss=_nothing(guided.model, size_of(given)),
        reduction="none",
        forward=guided.run,
        check_values=guided.check_values,
        gradient_sync="none",
    )
    out = observer(**given)
    if not keep.kept:
        return out.output, None
    models, humans, shares = zip(*keep.kept, strict=True)
    model, human = torch.cat(models), torch.cat(humans)
    known = None if shares[0] is None else torch.cat(shares)
    places = out.saliency_loss.shape[1] if out.saliency_loss.ndim == 2 else 1
    which = out.saliency_loss.flatten().nonzero().flatten()
    return out.output, Maps(
        model[which].cpu(),
        human[which].cpu(),
        None if known is None else known[which].cpu(),
        which.cpu() // places + offset,
        which.cpu() % places,
    )


def _nothing(model: nn.Module, size: int) -> TaskLoss:
    return lambda output, targets: torch.zeros(size, device=device_of(model))


def _right(output: Any, targets: Any) -> Tensor:
    """Whether each answer is right, for those that can be judged: logits, and targets that name a class."""
    logits = find_logits(output)
    if logits is None or not isinstance(targets, Tensor) or targets.numel() != len(logits):
        return torch.zeros(0)
    logits, targets = logits.reshape(len(logits), -1), targets.flatten()
    one = logits.shape[1] == 1
    named = targets != IGNORED
    classes = torch.arange(2 if one else logits.shape[1], device=targets.device)
    if (targets.is_floating_point() and not one) or not bool(torch.isin(targets[named], classes).all()):
        return torch.zeros(0)
    chosen = (logits[:, 0] > 0).long() if one else logits.argmax(1)
    right: Tensor = chosen[named] == targets[named]
    return right
