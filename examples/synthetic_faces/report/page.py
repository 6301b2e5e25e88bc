"""The report as one HTML page that needs nothing outside itself; every text from outside is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from .comparison import Comparison
from .gallery import Example, Gallery
from .gate import Gate
from .table import Table
from .tables import Estimates

PLANTED = (
    "A controlled experiment on rendered faces: the shortcut is planted, so it shows whether guidance makes a network "
    "give up a shortcut, and says nothing of how guidance fares on GANs."
)
GIVEN = "A comparison on data that was not made for it: no shortcut was planted, so none is known to be given up."


@dataclass(frozen=True)
class Block:
    """A figure and the table that belongs to it; either may be missing."""

    title: str
    figure: Path | None
    caption: str
    table: Table | None


@dataclass(frozen=True)
class Section:
    """Everything about one comparison.

    Attributes:
        comparison: What is compared.
        estimates: Of AUC on unseen generators.
        gate: Whether it may be.
        blocks: Figures and tables, in order.
        gallery: Hits and misses.
        sheet: The gallery as one picture; None where there is none.
    """

    comparison: Comparison
    estimates: Estimates
    gate: Gate
    blocks: list[Block]
    gallery: Gallery
    sheet: Path | None

    @property
    def tables(self) -> list[Table]:
        """In order."""
        return [block.table for block in self.blocks if block.table is not None]

    @property
    def files(self) -> list[Path]:
        """The pictures, in order."""
        return [path for path in (*(block.figure for block in self.blocks), self.sheet) if path is not None]

    @property
    def invalid(self) -> bool:
        """Whether its gate failed."""
        return self.gate.state == "failed"


def page(sections: Sequence[Section], downloads: Sequence[Path], settings: Mapping[str, Any]) -> str:
    """The page's HTML."""
    planted = any(section.gate.planted for section in sections) or not sections
    invalid = any(section.invalid for section in sections)
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>Do human saliency maps make a network give up a shortcut?</title>",
        f'<link rel="icon" href="data:,"><style>{style}</style></head><body>',
        '<div class="stamp">INVALID: the gate failed</div>' if invalid else "",
        "<h1>Do human saliency maps make a network give up a shortcut?</h1>",
        f"<p>{PLANTED if planted else GIVEN}</p>",
        *(_section(section) for section in sections),
        "" if sections else '<p class="verdict">No finished training was found: there is nothing to report.</p>',
        "<h2>Settings</h2>",
        *(f"<h3>{escape(title)}</h3>{_listed(value)}" for title, value in settings.items()),
        "<h2>Downloads</h2><ul>",
        *(f'<li><a href="{escape(path.name)}">{escape(path.name)}</a></li>' for path in downloads),
        "</ul></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _section(section: Section) -> str:
    comparison, gate = section.comparison, section.gate
    heading = f"<h2>{escape(comparison.label)}</h2>" if comparison.label else ""
    state = gate.state.replace(" ", "-")
    lines = "".join(f"<div>{escape(line)}</div>" for line in gate.lines)
    problems = "".join(f"<li>{escape(problem)}</li>" for problem in comparison.problems)
    return "\n".join(
        [
            '<div class="invalid">' if section.invalid else "<div>",
            heading,
            f'<div class="verdict {state}"><strong>{escape(gate.verdict)}</strong>{lines}</div>',
            _facts(section),
            f'<div class="verdict"><strong>Missing or uneven</strong><ul>{problems}</ul></div>' if problems else "",
            *map(_block, section.blocks),
            "<h2>Hits and misses</h2>",
            _gallery(section.gallery),
            "</div>",
        ]
    )


def _facts(section: Section) -> str:
    """The primary measures of the best guided arm."""
    comparison, best = section.comparison, section.comparison.best_guided
    if best is None:
        return ""
    facts = []
    gain = section.estimates.gains.get(best.title)
    if gain is not None:
        interval = "one seed: no interval"
        if gain.interval is not None:
            interval = f"95 % interval {gain.interval[0]:+.3f} to {gain.interval[1]:+.3f}, {len(gain.seeds)} seeds"
        facts.append((f"{gain.value:+.3f} AUC", f"on unseen generators over cross-entropy: {best.title}; {interval}"))
    for metric, text in (
        ("auc_fingerprint_free", "AUC on fakes without fingerprint"),
        ("flip_rate_fingerprint", "of its decisions flip when the fingerprint is removed"),
        ("flip_rate_defect", "of its decisions flip when the defect is repaired"),
    ):
        own, plain = best.mean(metric), comparison.baseline.mean(metric) if comparison.baseline else None
        if own is not None:
            form = "{:.3f}" if metric.startswith("auc") else "{:.0%}"
            against = "" if plain is None else f" (cross-entropy: {form.format(plain)})"
            facts.append((form.format(own), text + against))
    items = "".join(f"<li><b>{escape(number)}</b>{escape(text)}</li>" for number, text in facts)
    note = "The best guided arm is chosen by the test AUC shown here: its gain is an optimistic one."
    return f'<ul class="facts">{items}</ul><p class="note">{note}</p>' if facts else ""


def _gallery(gallery: Gallery) -> str:
    if gallery.missing:
        return f"<p>{escape(gallery.missing)}</p>"
    name = escape(gallery.guided)
    return (
        f'<p class="note">Networks of seed {gallery.seed}. A tick: right about the image; a cross: wrong.</p>'
        f"<h3>Hits: cross-entropy is wrong, “{name}” is right</h3>{_examples(gallery.hits)}"
        f"<h3>Misses: “{name}” is wrong</h3>{_examples(gallery.misses)}"
    )


def _examples(examples: Iterable[Example]) -> str:
    marks = {None: "", True: '<span class="yes">✓</span> ', False: '<span class="no">✗</span> '}
    shown = [
        f'<div class="note">{escape(example.group)}, image {example.index}</div><div class="tiles">'
        + "".join(
            f'<figure><img alt="{escape(tile.title)}" src="{_picture(tile.picture)}">'
            f"<figcaption>{marks[tile.right]}{escape(tile.title)}</figcaption></figure>"
            for tile in example.tiles
        )
        + "</div>"
        for example in examples
    ]
    return "".join(shown) or "<p>None among the stored images.</p>"


def _block(block: Block) -> str:
    figure, caption = "", escape(block.caption)
    if block.figure is not None:
        source = "data:image/png;base64," + base64.b64encode(block.figure.read_bytes()).decode()
        image = f'<img alt="{escape(block.title)}" src="{source}">'
        figure = f'<figure class="plot">{image}<figcaption>{caption}</figcaption></figure>'
    return f"<h2>{escape(block.title)}</h2>{figure}{block.table.html() if block.table else ''}"


def _picture(picture: Any) -> str:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _listed(value: Any) -> str:
    """A mapping as a table of two columns, several lines as code, anything else as text."""
    if isinstance(value, Mapping):
        rows = "".join(
            f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(str(entry))}</td></tr>'
            for key, entry in value.items()
        )
        return f'<div class="wide"><table class="kv">{rows}</table></div>'
    return f"<pre>{escape(str(value))}</pre>"
