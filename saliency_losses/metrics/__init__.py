r"""Metrics of saliency maps: against human maps, against fixations, and of maps that no human annotated.

Each metric is a function that gives one value per map, (B,), and a torchmetrics class that takes in batches, averages
over the maps that count, and reduces over processes. Functions compute in double precision and give float32, or
float64 where it went in; classes give float64. What has no value, a map that ``annotated`` leaves out or to which the
formula assigns none, is NaN in a function's result and left out by the class. Maps that hold NaN are refused.

Maps that differ in size are brought to one by ``sizing``, as in the guided loss. By default the model's map is enlarged
to the human map, as benchmarks do and so that maps of different layers are judged by one ruler; ``sizing="area"``
judges the maps that the loss sees.
"""

from typing import Any

from saliency_losses.metrics.auc_judd import AUCJudd, auc_judd
from saliency_losses.metrics.average_drop import ConfidenceDrop, average_drop
from saliency_losses.metrics.base import METRICS, MeanOverMaps, SaliencyMetric
from saliency_losses.metrics.cc import CC, cc
from saliency_losses.metrics.deletion_insertion import ConfidenceCurve, deletion, insertion
from saliency_losses.metrics.energy_pointing_game import EnergyPointingGame, energy_pointing_game
from saliency_losses.metrics.human_alignment import HUMAN_CEILING, HumanAlignment, human_alignment
from saliency_losses.metrics.information_gain import InformationGain, information_gain
from saliency_losses.metrics.iou import IoU, iou
from saliency_losses.metrics.kl import KL, kl
from saliency_losses.metrics.map_entropy import MapEntropy, map_entropy
from saliency_losses.metrics.nss import NSS, nss
from saliency_losses.metrics.pointing_game import PointingGame, pointing_game
from saliency_losses.metrics.shuffled_auc import ShuffledAUC, shuffled_auc
from saliency_losses.metrics.sim import SIM, sim
from saliency_losses.metrics.spearman import Spearman, spearman
from saliency_losses.metrics.stability import Stability, stability

__all__ = [
    "CC",
    "HUMAN_CEILING",
    "KL",
    "NSS",
    "SIM",
    "AUCJudd",
    "ConfidenceCurve",
    "ConfidenceDrop",
    "EnergyPointingGame",
    "HumanAlignment",
    "InformationGain",
    "IoU",
    "MapEntropy",
    "MeanOverMaps",
    "PointingGame",
    "SaliencyMetric",
    "ShuffledAUC",
    "Spearman",
    "Stability",
    "auc_judd",
    "average_drop",
    "cc",
    "create_metric",
    "deletion",
    "energy_pointing_game",
    "human_alignment",
    "information_gain",
    "insertion",
    "iou",
    "kl",
    "list_metrics",
    "map_entropy",
    "nss",
    "pointing_game",
    "register_metric",
    "shuffled_auc",
    "sim",
    "spearman",
    "stability",
]


def create_metric(name: str, **options: Any) -> SaliencyMetric:
    """The metric of this name.

    Raises:
        ValueError: Unknown name; the message lists the known ones and suggests the nearest.
        TypeError: The metric does not know an option.

    Example:
        >>> create_metric("pointing_game", tolerance=15)
        PointingGame(sizing='enlarge', tolerance=15)
    """
    return METRICS.create(name, **options)


def list_metrics() -> list[str]:
    """The names of all metrics, those of installed plugins included.

    Example:
        >>> list_metrics()[:4]
        ['auc_judd', 'cc', 'energy_pointing_game', 'human_alignment']
    """
    return METRICS.names()


register_metric = METRICS.register
