"""Draws and gathers everything about one comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from examples.synthetic_faces.sources.base import Source

from .averages import draw_averages, draw_sheet
from .epochs import draw_epochs
from .gallery import Gallery, collect
from .gate import Gate
from .page import Section
from .plots import draw_gains, draw_pairs
from .relations import draw_alignment, draw_annotation
from .study import Comparison
from .style import INK
from .table import Table
from .tables import Estimates, alignment, generalisation, pairs

CAPTIONS = {
    "auc": "AUC on unseen generators. Dots are trainings, a bar ends at their mean, a line is its 95 % interval over "
    "seeds, generators and images.",
    "pairs": "Paired renders of the same faces, at each network's own threshold.",
    "alignment": "Alignment with human maps against generalisation. What lies right of the tick is what the network "
    "looks at because of this face, and not because of its class.",
    "annotation": "AUC on unseen generators by the share of training images that have a map.",
    "average_maps": "Where people and networks looked, on average over test images and seeds.",
    "epochs": "Accuracy over epochs, on images of the training generator.",
}


def build(comparison: Comparison, folder: Path, source: Source | None, suffix: str = "") -> Section:
    """Estimates, tables, figures (written into the folder) and the gallery of one comparison."""
    gate, estimates = Gate.of(comparison), Estimates.of(comparison)
    drawings: dict[str, Callable[[Path, Comparison, bool], bool]] = {
        "auc": partial(draw_gains, estimates=estimates),
        "pairs": draw_pairs,
        "alignment": draw_alignment,
        "annotation": draw_annotation,
        "average_maps": draw_averages,
        "epochs": draw_epochs,
    }
    figures = []
    for name, draw in drawings.items():
        path = folder / f"{name}{suffix}.png"
        if draw(path, comparison, gate.state == "failed"):
            figures.append((path, CAPTIONS[name]))
        else:
            path.unlink(missing_ok=True)
    gallery = collect(comparison, source)
    sheet = folder / f"gallery{suffix}.png"
    sheet.unlink(missing_ok=True)
    files = [path for path, _ in figures]
    if gallery.hits or gallery.misses:
        _sheet(sheet, gallery, gate.state == "failed")
        files.append(sheet)
    return Section(comparison, estimates, gate, tables(comparison, estimates), figures, gallery, files)


def tables(comparison: Comparison, estimates: Estimates) -> list[Table]:
    """The tables that there is something to show in."""
    found = (generalisation(comparison, estimates), pairs(comparison), alignment(comparison))
    return [table for table in found if table is not None]


def _sheet(path: Path, gallery: Gallery, invalid: bool) -> None:
    """The gallery as one picture."""
    examples = gallery.hits + gallery.misses
    titles = list(dict.fromkeys(tile.title for example in examples for tile in example.tiles))
    pictures = [{tile.title: tile.picture for tile in example.tiles} for example in examples]
    labels = [f"{'hit' if n < len(gallery.hits) else 'miss'}\n{e.group}" for n, e in enumerate(examples)]
    columns = [(title, INK, [found.get(title) for found in pictures]) for title in titles]
    draw_sheet(path, columns, labels, invalid)
