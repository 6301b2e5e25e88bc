"""Plain text tables."""

from collections.abc import Iterable
from typing import Any

__all__ = ["aligned"]


def aligned(heading: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """Rows as columns of equal width; booleans as yes and -, tuples by commas, ``None`` as varies.

    Example:
        >>> print(aligned(("part", "fast"), [("kl", True), ("sinkhorn", False)]))
        part      fast
        kl        yes
        sinkhorn  -
    """
    lines = [heading, *(tuple(map(_word, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "varies" if value is None else str(value)
