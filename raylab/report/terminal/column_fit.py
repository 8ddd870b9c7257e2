"""Which columns of a table fit a window beside the names of its rows.

Model: a column is a row of a list: its title, how a cell is made of a row, and when it goes, if
ever. Names come first and take what the others leave.
Invariant: a column that stays is as wide as its widest cell, so that no number is cut; columns
go in the order of `goes`, and only while names have less than they need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

Row = Mapping[str, Any]

_LEAST_NAME = 12


@dataclass(frozen=True)
class Column:
    """One column; `width` is its least, which spares it from jumping as numbers change."""

    title: str
    cell: Callable[[Row], str]
    goes: int | None = None
    width: int = 0

    def widest(self, rows: Sequence[Row]) -> int:
        """The width it takes for `rows`."""
        return max(self.width, cell_len(self.title), *(cell_len(self.cell(row)) for row in rows))


def longest_name(rows: Sequence[Row]) -> int:
    """The width of the longest name."""
    return max((cell_len(row["name"]) for row in rows), default=0)


def fit(
    columns: Sequence[Column], rows: Sequence[Row], space: int, needed: int, gap: int
) -> tuple[Sequence[Column], int]:
    """The columns that stay, each with a `gap`, and the width left for names that need `needed`."""
    kept = list(columns)
    going = sorted((c for c in kept if c.goes is not None), key=lambda c: c.goes or 0)
    widths = {column.title: column.widest(rows) + gap for column in kept}
    for column in going:
        if space - sum(widths[c.title] for c in kept) >= needed:
            break
        kept.remove(column)
    return kept, max(_LEAST_NAME, space - sum(widths[column.title] for column in kept))
