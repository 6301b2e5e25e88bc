"""What each divergence declares to be, as a table."""

from typing import NamedTuple

from saliency_losses.divergences.base import DIVERGENCES, Reads
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import RAW
from saliency_losses.sizing import Sizing
from saliency_losses.table import aligned

__all__ = ["DivergenceDetails", "DivergenceDetailsTable", "details_of"]


class DivergenceDetails(NamedTuple):
    """What one divergence, made with its defaults, declares to be.

    Attributes:
        name: It is known by.
        reads: What the human map is; ``"nothing"`` for priors on the model's map alone.
        normalize: What is done to the model's map.
        human_normalize: What is done to the human map; ``None`` where there is none.
        sizing: How both come to one size; ``None`` where there is no human map.
        spatial: Whether it sees where the cells of a map lie.
        smallest: Fewest positions per axis.
        axes: How many axes maps may have; empty for any number.
        kernel: Whether a fused GPU kernel evaluates it.
    """

    name: str
    reads: Reads
    normalize: Normalizer
    human_normalize: Normalizer | None
    sizing: Sizing | None
    spatial: bool
    smallest: int
    axes: tuple[int, ...]
    kernel: bool


class DivergenceDetailsTable(list[DivergenceDetails]):
    """Details of several divergences; prints as a table."""

    def __str__(self) -> str:
        heading = (
            "divergence",
            "human map",
            "of the model",
            "of the human",
            "sizing",
            "spatial",
            "smallest",
            "axes",
            "kernel",
        )
        return aligned(heading, (self._row(details) for details in self))

    @staticmethod
    def _row(details: DivergenceDetails) -> tuple[object, ...]:
        normalizers = (details.normalize, details.human_normalize)
        shown = ("-" if which in (None, RAW) else which for which in normalizers)
        return (
            details.name,
            details.reads,
            *shown,
            details.sizing or "-",
            details.spatial,
            details.smallest,
            details.axes or "any",
            details.kernel,
        )


def details_of(name: str) -> DivergenceDetails:
    """What the divergence of this name declares to be.

    Example:
        >>> details_of("mse").normalize
        MinMax()
    """
    from saliency_losses.kernels.plan import plan_of

    part = DIVERGENCES.create(name)
    alone = part.reads == "nothing"
    return DivergenceDetails(
        name,
        part.reads,
        part.normalize,
        None if alone else part.human_normalize,
        None if alone else part.sizing,
        part.spatial,
        part.smallest,
        part.ranks,
        plan_of(part)[0] is not None,
    )
