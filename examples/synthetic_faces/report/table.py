"""A table that is written out as Markdown, CSV, JSON, HTML or for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

from rich import table as terminal
from rich.text import Text


@dataclass(frozen=True)
class Cell:
    """What is shown, and the numbers that it is made of, by name."""

    text: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings, in groups.

    Attributes:
        title: What it shows.
        headings: One for each column; the first column names the row.
        groups: The rows by the group's name.
        note: How to read it.
    """

    title: str
    headings: tuple[str, ...]
    groups: dict[str, list[tuple[Cell, ...]]]
    note: str

    def markdown(self) -> str:
        """For a README."""
        lines = [_line(self.headings), _line(("---", *["---:"] * (len(self.headings) - 1)))]
        for group, rows in self.groups.items():
            lines.append(_line((f"*{_marked(group)}*", *[""] * (len(self.headings) - 1))))
            lines += [_line(tuple(_marked(cell.text) for cell in row)) for row in rows]
        return "\n".join([f"**{_marked(self.title)}**", "", *lines, "", self.note, ""])

    def html(self) -> str:
        """For a page, which gives the title; everything is escaped."""
        head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in self.headings)
        body = ""
        for group, rows in self.groups.items():
            body += f'<tr class="group"><th colspan="{len(self.headings)}">{escape(group)}</th></tr>'
            for first, *others in rows:
                cells = "".join(f"<td>{escape(cell.text)}</td>" for cell in others)
                body += f'<tr><th scope="row">{escape(first.text)}</th>{cells}</tr>'
        table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        return f'{table}<p class="note">{escape(self.note)}</p>'

    def records(self) -> list[dict[str, Any]]:
        """For JSON: one dictionary per row, of the numbers where there are some."""
        return [
            {"group": group, **{h: c.numbers or c.text for h, c in zip(self.headings, row, strict=True)}}
            for group, row in self._rows()
        ]

    def csv(self) -> str:
        """One column for each number, at full precision."""
        flat = [
            {key: value for h, cell in record.items() for key, value in _columns(h, cell)} for record in self.records()
        ]
        out = io.StringIO()
        writer = csv.DictWriter(out, list(dict.fromkeys(key for row in flat for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _harmless(value) for key, value in row.items()} for row in flat)
        return out.getvalue()

    def rich(self, width: int) -> terminal.Table:
        """For a terminal of that many characters: as many of the columns as go in, three at least."""
        rows = [row for _, row in self._rows()]
        taken, columns = 1, 0
        for index, heading in enumerate(self.headings):
            taken += 3 + max([len(row[index].text) for row in rows] + [len(word) for word in heading.split()])
            columns += taken <= width or index < 3
        left_out = "" if columns == len(self.headings) else f" Not shown: {', '.join(self.headings[columns:])}."
        shown = terminal.Table(title=Text(self.title), caption=Text(self.note + left_out), title_style="bold")
        shown.title_justify = shown.caption_justify = "left"
        for index, heading in enumerate(self.headings[:columns]):
            shown.add_column(Text(heading), justify="right" if index else "left")
        for group, grouped in self.groups.items():
            shown.add_row(Text(group, style="bold dim"))
            for row in grouped:
                shown.add_row(*(Text(cell.text) for cell in row[:columns]))
        return shown

    def _rows(self) -> Iterator[tuple[str, tuple[Cell, ...]]]:
        return ((group, row) for group, rows in self.groups.items() for row in rows)


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _marked(text: str) -> str:
    """Text that Markdown shows as it is."""
    for character in "\\|*_`[]<>":
        text = text.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return " ".join(text.split())


def _columns(heading: str, cell: dict[str, float] | str) -> Iterator[tuple[str, float | str]]:
    if isinstance(cell, str):
        yield heading, cell
    else:
        yield from ((f"{heading}, {name}", value) for name, value in cell.items())


def _harmless(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
