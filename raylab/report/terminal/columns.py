"""Choice of the columns of a table that fit a window.

Model: `fitting` takes columns in order of importance, each one that still finds room. Tables with
a name in each row have Columns: a title, a function from a row to a cell, and an importance.
Invariant: a column that stays is as wide as its widest cell, so that no number is cut. A column
without an importance always stays.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.cells import cell_len

Row = Mapping[str, Any]
Key = TypeVar("Key", bound=Hashable)

_MIN_NAME_WIDTH = 12


@dataclass(frozen=True)
class Column:
    """One column; `min_width` keeps it from jumping as numbers change."""

    title: str
    cell: Callable[[Row], str]
    importance: int | None = None
    min_width: int = 0

    def width(self, rows: Sequence[Row]) -> int:
        """The width of the widest cell of `rows`, title included."""
        return max(self.min_width, cell_len(self.title), *(cell_len(self.cell(r)) for r in rows))


def fitting(widths: Mapping[Key, int], space: int) -> list[Key]:
    """The columns that fit in `space` characters, chosen in the order of `widths`."""
    chosen = []
    for key, width in widths.items():
        if width <= space:
            chosen.append(key)
            space -= width
    return chosen


def longest_name(rows: Sequence[Row]) -> int:
    """The width of the longest name."""
    return max((cell_len(row["name"]) for row in rows), default=0)


def fit_beside_names(
    columns: Sequence[Column], rows: Sequence[Row], space: int, name_width: int, gap: int
) -> tuple[Sequence[Column], int]:
    """The columns that fit beside names of `name_width`, and the width that is left for names.

    Each column takes a `gap` beside its own width.
    """
    widths = {column.title: column.width(rows) + gap for column in columns}
    optional = sorted((c for c in columns if c.importance), key=lambda c: -(c.importance or 0))
    fixed = sum(widths[column.title] for column in columns if not column.importance)
    chosen = fitting({c.title: widths[c.title] for c in optional}, space - name_width - fixed)
    kept = [column for column in columns if not column.importance or column.title in chosen]
    return kept, max(_MIN_NAME_WIDTH, space - sum(widths[column.title] for column in kept))
