"""Draws and gathers everything about one comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from .averages import draw_averages, draw_sheet
from .comparison import Comparison
from .epochs import draw_epochs
from .gallery import Gallery, OpenSource, collect
from .gate import Gate
from .page import Block, Section
from .plots import draw_gains, draw_pairs
from .relations import draw_alignment, draw_annotation
from .style import INK
from .table import Table
from .tables import Estimates, alignment, generalisation, pairs

FIGURES = {
    "auc": (
        "Unseen generators",
        "Dots are trainings, a bar ends at their mean, a line is its 95 % interval over seeds, generators and images.",
    ),
    "pairs": ("Paired renders", "Pairs of renders of the same faces, judged at each network's own threshold."),
    "alignment": (
        "Alignment with human maps",
        "What lies right of the tick is what the network looks at because of this face, and not because of its class.",
    ),
    "annotation": ("Share of annotated images", "Dots are trainings, lines join their means."),
    "average_maps": ("Average maps", "Where people and networks looked, on average over test images and seeds."),
    "epochs": (
        "Accuracy over epochs",
        "Solid, validation; dotted, training; bands, range over seeds. On the training generator, so no claim is made.",
    ),
}
"""Title and caption of each figure, in the order of the page."""


def build(comparison: Comparison, folder: Path, open_source: OpenSource | None, suffix: str = "") -> Section:
    """Estimates, tables, figures (written into the folder) and the gallery of one comparison."""
    gate, estimates = Gate.of(comparison), Estimates.of(comparison)
    invalid, found = gate.state == "failed", tables(comparison, estimates)
    draws: dict[str, Callable[[Path, Comparison, bool], bool]] = {
        "auc": partial(draw_gains, estimates=estimates),
        "pairs": draw_pairs,
        "alignment": draw_alignment,
        "annotation": draw_annotation,
        "average_maps": draw_averages,
        "epochs": draw_epochs,
    }
    blocks = []
    for name, (title, caption) in FIGURES.items():
        path = folder / f"{name}{suffix}.png"
        drawn = draws[name](path, comparison, invalid)
        if not drawn:
            path.unlink(missing_ok=True)
        if drawn or name in found:
            blocks.append(Block(title, path if drawn else None, caption, found.get(name)))
    gallery = collect(comparison, open_source)
    sheet = folder / f"gallery{suffix}.png"
    sheet.unlink(missing_ok=True)
    if gallery.hits or gallery.misses:
        _sheet(sheet, gallery, invalid)
    return Section(comparison, estimates, gate, blocks, gallery, sheet if sheet.exists() else None)


def tables(comparison: Comparison, estimates: Estimates) -> dict[str, Table]:
    """The tables that there is something to show in, by the name of the figure that they belong to."""
    made = {
        "auc": generalisation(comparison, estimates),
        "pairs": pairs(comparison),
        "alignment": alignment(comparison),
    }
    return {name: table for name, table in made.items() if table is not None}


def _sheet(path: Path, gallery: Gallery, invalid: bool) -> None:
    """The gallery as one picture."""
    examples = gallery.hits + gallery.misses
    titles = list(dict.fromkeys(tile.title for example in examples for tile in example.tiles))
    pictures = [{tile.title: tile.picture for tile in example.tiles} for example in examples]
    labels = [f"{'hit' if n < len(gallery.hits) else 'miss'}\n{e.group}" for n, e in enumerate(examples)]
    columns = [(title, INK, [found.get(title) for found in pictures]) for title in titles]
    draw_sheet(path, columns, labels, invalid)
