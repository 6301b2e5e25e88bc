"""What a diagnosis found, as an object and as a page."""

from dataclasses import dataclass

from saliency_losses.diagnosis.alignment import Alignment, Gain
from saliency_losses.diagnosis.gradients import Gradients
from saliency_losses.diagnosis.reading import Verdict

__all__ = ["Diagnosis"]


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`~saliency_losses.diagnosis.diagnose` found; ``print`` it.

    Attributes:
        verdict: ``"works"``: maps and behaviour agree with people; ``"maps_only"``, ``"behaviour_only"``: one of both
            does; ``"not_aligned"``: neither; ``"maps_agree"``: maps do, and no witness looked; ``"too_few_maps"``.
        reading: In sentences, the most important first.
        trained: Alignment of the maps that are trained.
        witness: Alignment of maps that are not; ``None`` without a witness.
        gain: Over a baseline, by the witness if there is one; ``None`` without a baseline.
        gradients: Of both terms; ``None`` where they were not asked for, or nothing is trainable.
        samples: How many held-out samples were seen.
        annotated: How many of them have a human map.
        task_loss: On the held-out samples.
        accuracy: On them, where targets are class indices; else ``None``.
    """

    verdict: Verdict
    reading: tuple[str, ...]
    trained: Alignment
    witness: Alignment | None
    gain: Gain | None
    gradients: Gradients | None
    samples: int
    annotated: int
    task_loss: float
    accuracy: float | None

    def __str__(self) -> str:
        return "\n\n".join(filter(None, [self._sentences(), self._answers(), self._maps(), self._gradients()]))

    def _sentences(self) -> str:
        return "\n".join(f"- {sentence}" for sentence in self.reading)

    def _answers(self) -> str:
        accuracy = "" if self.accuracy is None else f", accuracy {self.accuracy:.1%}"
        return f"{self.samples} held-out samples, {self.annotated} with a map; task loss {self.task_loss:.3g}{accuracy}"

    def _maps(self) -> str:
        names = ("maps", "own", "others'", "p", "mean map", "divergence", "others'")
        rows = [f"{names[0]:<20}" + "".join(f"{name:>11}" for name in names[1:])]
        for found in filter(None, (self.trained, self.witness)):
            numbers = (found.correlation, found.shuffled, found.p_value, found.mean_map)
            parts = [f"{number:>11.3f}" for number in numbers]
            parts += [f"{number:>11.3g}" for number in (found.divergence, found.shuffled_divergence)]
            rows.append(f"{found.extractor:<20}" + "".join(parts))
        return "\n".join(rows)

    def _gradients(self) -> str:
        if self.gradients is None:
            return ""
        mode = "train" if self.gradients.training else "eval"
        return "\n".join(
            [
                f"gradients, {self.gradients.batches} batches in {mode} mode, median (lowest to highest)",
                f"saliency / task     {self.gradients.ratio}",
                f"the same, weighted  {self.gradients.weighted_ratio}",
                f"cosine              {self.gradients.cosine}",
            ]
        )
