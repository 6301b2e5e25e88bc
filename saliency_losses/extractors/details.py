"""What each extractor declares to be, as a table."""

from collections.abc import Callable
from typing import NamedTuple

from saliency_losses.extractors.base import EXTRACTORS, SaliencyExtractor
from saliency_losses.table import aligned

__all__ = ["Details", "DetailsTable", "details_of"]


class Details(NamedTuple):
    """What one extractor, made with its defaults, declares to be.

    Attributes:
        name: It is known by.
        needs: What its maps are made of.
        order: 1 where training through it differentiates the model once, 2 where twice.
        passes: Forward passes of the model in one call; ``None`` where it depends.
        compiles: Whether a prepared guided step compiles into one graph.
        static_graph: Whether it may run under ``DistributedDataParallel(static_graph=True)``.
        tokens: Whether it works on transformers.
        dimensions: Of how many position axes a map may be.
        maps_per_sample: Whether it explains several classes of an image in one pass.
    """

    name: str
    needs: str
    order: int
    passes: int | None
    compiles: bool
    static_graph: bool
    tokens: bool
    dimensions: tuple[int, ...]
    maps_per_sample: bool


class DetailsTable(list[Details]):
    """Details of several extractors; prints as a table."""

    def __str__(self) -> str:
        heading = ("extractor", "needs", "order", "passes", "compiles", "static graph", "tokens", "axes", "K maps")
        return aligned(heading, self)


def details_of(name: str) -> Details:
    """What the extractor of this name declares to be.

    Example:
        >>> details_of("cam").order
        1
    """
    extractor = _make(EXTRACTORS.find(name))
    return Details(
        name,
        extractor.needs,
        extractor.order,
        extractor.passes,
        extractor.compiles,
        extractor.order == 1,
        extractor.tokens,
        extractor.dimensions,
        extractor.maps_per_sample,
    )


def _make(maker: Callable[..., SaliencyExtractor]) -> SaliencyExtractor:
    """One made with its defaults; a layer that must be named has any name."""
    try:
        return maker()
    except (TypeError, ValueError):
        return maker(layer="layer")
