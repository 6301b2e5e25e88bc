"""The arms of the study: what each network is trained with, one YAML file each in ``arms/``."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import saliency_losses as sl

from .settings import changed, find, parse, read, stems

FOLDER = Path(__file__).with_name("arms")
MAPS = ("own", "shuffled", "class_mean", "displaced", "uniform", "face", "parts")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: What the command line and the results call it: its file's name.
        title: What tables and pictures call it.
        extractor: Name of the extractor; None trains without a saliency loss.
        divergence: Name of the divergence.
        extractor_options: Keywords of the extractor.
        divergence_options: Keywords of the divergence.
        alpha: Weight of the task in the loss; the rest is the map's.
        saliency_weight: Instead of ``alpha``: the map's weight beside a task of weight one.
        weighting: Instead of both: the name of a weighting.
        unguided_epochs: Epochs at the start without a saliency loss.
        maps: Which human maps it sees: each image's "own"; those of other images of the class ("shuffled"); the
            "class_mean"; "displaced" ones; a "uniform" one; the "face" or its "parts" from a segmentation.
        map_blur: Standard deviation of a Gaussian that broadens the maps, as a share of the image's side.
        annotated: Share of the training images that have a map.
        data: How many times the training set's size it gets.
        background_blur: Standard deviation of a Gaussian that blurs the image outside the map, as a share of the side.
        head_weight: Weight of an auxiliary head that predicts the map from the last features.
        control: Whether its maps are meant to be of no use.
    """

    name: str
    title: str = ""
    extractor: str | None = None
    divergence: str = "mse"
    extractor_options: dict[str, Any] = field(default_factory=dict)
    divergence_options: dict[str, Any] = field(default_factory=dict)
    alpha: float | None = None
    saliency_weight: float | None = None
    weighting: str | None = None
    unguided_epochs: int = 0
    maps: str = "own"
    map_blur: float = 0.0
    annotated: float = 1.0
    data: int = 1
    background_blur: float = 0.0
    head_weight: float = 0.0
    control: bool = False

    def __post_init__(self) -> None:
        weights = [name for name in ("alpha", "saliency_weight", "weighting") if getattr(self, name) is not None]
        if len(weights) > 1:
            raise ValueError(f"arm {self.name!r} gives {' and '.join(weights)}; give one")
        if self.weighting is not None and self.unguided_epochs:
            raise ValueError(f"arm {self.name!r} gives weighting and unguided_epochs; a schedule goes with alpha")
        if self.maps not in MAPS:
            raise ValueError(f"arm {self.name!r} has maps={self.maps!r}; choose from {', '.join(MAPS)}")
        if not 0.0 <= self.annotated <= 1.0:
            raise ValueError(f"arm {self.name!r} has annotated={self.annotated}; it is a share, from 0 to 1")
        if not isinstance(self.data, int) or self.data < 1:
            raise ValueError(f"arm {self.name!r} has data={self.data}; it is a whole number of training sets")
        if self.extractor is None and self.maps != "own" and not self.uses_maps:
            raise ValueError(f"arm {self.name!r} has maps={self.maps!r} but nothing that uses a map; give an extractor")

    @property
    def uses_maps(self) -> bool:
        """Whether it looks at a human map at all."""
        return self.extractor is not None or self.background_blur > 0.0 or self.head_weight > 0.0

    def guide(self, model: Any) -> sl.SaliencyGuidedLoss:
        """Wraps the model in the arm's loss, which without an extractor is that of the task alone."""
        if self.extractor is None:
            return sl.SaliencyGuidedLoss(model, alpha=1.0)
        schedule = sl.weighting.OffUntil(self.unguided_epochs) if self.unguided_epochs else None
        if self.weighting is not None:
            weighting = sl.create_weighting(self.weighting)
        elif self.saliency_weight is not None:
            weighting = sl.weighting.Additive(self.saliency_weight, schedule=schedule)
        else:
            weighting = sl.weighting.Convex(0.5 if self.alpha is None else self.alpha, schedule=schedule)
        return sl.SaliencyGuidedLoss(
            model,
            sl.create_extractor(self.extractor, **self.extractor_options),
            sl.create_divergence(self.divergence, **self.divergence_options),
            weighting=weighting,
        )

    def settings(self) -> dict[str, Any]:
        """What differs from the defaults: what its YAML file holds."""
        defaults = Arm("")
        return {key: value for key, value in asdict(self).items() if key != "name" and value != getattr(defaults, key)}


def names() -> list[str]:
    """The arms that have a file, cross-entropy first."""
    return sorted(stems(FOLDER), key=lambda name: (name != "cross_entropy", name))


def load(spec: str) -> Arm:
    """The arm of that name, or of that YAML file, with changes: "cyborg", "my.yaml", "cyborg+alpha=0.1+divergence=kl".

    Raises:
        ValueError: There is no such arm, its file holds something else, or a setting does not fit; the message says
            what.
    """
    name, *assignments = spec.split("+")
    path = find(FOLDER, name, "arm")
    arm = change(Arm(path.stem, title=path.stem), read(path))
    if not assignments:
        return arm
    title = ", ".join([arm.title, *(text.replace("=", " ").replace("_", " ") for text in assignments)])
    named = replace(arm, name=re.sub(r"[^\w+=.-]+", "-", "+".join([path.stem, *assignments])).strip("-"), title=title)
    return change(named, parse(assignments))


def change(arm: Arm, settings: dict[str, Any]) -> Arm:
    """The arm with other settings; a weight of one kind takes the place of another kind's.

    Raises:
        ValueError: A setting is unknown, of the wrong type or out of range.
    """
    weights = {"alpha", "saliency_weight", "weighting"}
    dropped = dict.fromkeys(weights - settings.keys(), None) if weights & settings.keys() else {}
    return changed(arm, {**dropped, **settings}, fixed=("name",))
