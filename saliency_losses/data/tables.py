"""Tables of comma-separated values, read so that every message can name a line."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass

from saliency_losses.data.errors import DataError
from saliency_losses.registry import nearest

__all__ = ["Table", "read_lines", "read_table"]


@dataclass(frozen=True)
class Table:
    """A table with a header.

    Attributes:
        path: Where it was read.
        columns: The header.
        lines: The number of each line that holds something, and its cells.
    """

    path: str
    columns: tuple[str, ...]
    lines: tuple[tuple[int, tuple[str, ...]], ...]

    def column(self, name: str, option: str) -> int:
        """The place of a column.

        Args:
            name: Its name.
            option: What the caller calls the option that names it.

        Raises:
            DataError: The header has no such column, or several.
        """
        count = self.columns.count(name)
        if count == 1:
            return self.columns.index(name)
        if count > 1:
            raise DataError(f"{self.path!r} has {count} columns named {name!r}; columns need different names.")
        found = ", ".join(map(repr, self.columns))
        hint = nearest(name, self.columns)
        if len(self.columns) == 1 and any(mark in self.columns[0] for mark in ";\t|"):
            hint = " It is not separated by commas: pass delimiter=."
        raise DataError(f"{self.path!r} has no column {name!r} ({option}=); its columns are {found}.{hint}")

    def where(self, line: int) -> str:
        """How messages name a line."""
        return f"{os.path.basename(self.path)} line {line}"


def read_lines(
    path: str | os.PathLike[str], *, delimiter: str = ",", encoding: str = "utf-8"
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """The number of each line that holds something, and its cells without the white space around them.

    Args:
        path: A file of text; a byte order mark, blank lines and any line ends are allowed.
        delimiter: What separates cells.
        encoding: How it was written.

    Raises:
        DataError: There is no such file, nothing in it, or no text.
    """
    name = os.fspath(path)
    read: list[tuple[int, tuple[str, ...]]] = []
    try:
        with open(path, encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            read.extend((reader.line_num, tuple(cell.strip() for cell in cells)) for cells in reader)
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name!r} is not {encoding} (byte {error.object[error.start]:#04x}): save it as UTF-8, or pass encoding=, "
            "such as 'latin-1' or 'utf-16'."
        ) from error
    except csv.Error as error:
        after = f"after line {read[-1][0]}" if read else "in the first line"
        raise DataError(f"{name!r} is not a table of comma-separated values {after}: {error}.") from error
    lines = tuple((number, cells) for number, cells in read if any(cells))
    if not lines:
        raise DataError(f"{name!r} is empty.")
    return lines


def read_table(path: str | os.PathLike[str], *, delimiter: str = ",", encoding: str = "utf-8") -> Table:
    r"""A table whose first line names its columns.

    Args:
        path: As for :func:`read_lines`.
        delimiter: What separates cells.
        encoding: How it was written.

    Raises:
        DataError: It cannot be read, has no lines below the header, or a line of another length.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "rows.csv")
        ...     _ = path.write_text("image,label\na.png,cat\n")
        ...     read_table(path).lines
        ((2, ('a.png', 'cat')),)
    """
    (_, columns), *lines = read_lines(path, delimiter=delimiter, encoding=encoding)
    table = Table(os.fspath(path), columns, tuple((number, _fit(cells, columns)) for number, cells in lines))
    if not lines:
        raise DataError(f"{table.path!r} has a header ({', '.join(map(repr, columns))}) and no lines below it.")
    for number, cells in table.lines:
        if len(cells) != len(columns):
            raise DataError(
                f"{table.where(number)}: {len(cells)} cells, but the header has {len(columns)} columns. Quote cells "
                "that hold a delimiter."
            )
    return table


def _fit(cells: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Cells without empty ones after the last column."""
    kept = len(cells)
    while kept > len(columns) and not cells[kept - 1]:
        kept -= 1
    return tuple(cells[:kept])
