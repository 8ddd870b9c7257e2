"""A table of the store in the format that the user chooses.

Model: a format is a row of FORMATS: a function from an Arrow table to text. A terminal shows no
column without values, prints a value that all rows share once above the table, and names the
columns that do not fit below it.
Invariant: every format but the terminal's has all rows, all columns and all digits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raylab.number_format import MISSING, count, listing, number, plural, setting
from raylab.report.page.blocks import Column
from raylab.report.page.markup import latex_rows, markdown_text
from raylab.report.terminal.columns import fitting
from raylab.spec.seeds import COLUMNS
from raylab.spec.swept_names import rate_text
from raylab.store.tables import to_csv

_MAX_TEXT_WIDTH, _GAP = 44, 2
# Columns that the name of a row holds already, or that are for files rather than windows.
_LAST = (
    "trial_id", "recipe", "label", "method", "data", "seed", *COLUMNS, "parent", "a", "b",
    "adapter", "log", "note", "steps", "examples", "token_ids", "message",
)  # fmt: skip
_CHOSEN = ("learning_rate", "density")


def show_table(table: pa.Table, console: Console) -> None:
    """The table for a terminal."""
    rows = table.to_pylist()
    alike, names = _alike(table.schema.names, rows)
    if alike:
        line = ", ".join(f"{name} {_text(name, value)}" for name, value in alike.items())
        console.print(escape(line), highlight=False)
    cells = {name: [_cell(name, row) for row in rows] for name in names}
    widths = {
        name: min(max(map(cell_len, (name, *cells[name]))), _MAX_TEXT_WIDTH) + _GAP
        for name in sorted(cells, key=lambda name: name in _LAST)
    }
    # The first column stays in the narrowest window.
    first = next(iter(widths), "")
    left = console.width - widths.pop(first, 0)
    chosen = fitting(widths, left)
    shown = [name for name in names if name == first or name in chosen]
    view = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for name in shown:
        right = not pa.types.is_string(table.schema.field(name).type)
        view.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
            max_width=None if right else _MAX_TEXT_WIDTH,
        )
    for place in range(len(rows)):
        view.add_row(*(escape(cells[name][place]) for name in shown))
    console.print(view)
    hidden = [name for name in names if name not in shown]
    if hidden:
        words = f"no room for {listing(hidden)}: choose by --column, or ask for another --format"
        console.print(words, highlight=False)
    console.print(plural(len(rows), "row"), highlight=False)


def csv_text(table: pa.Table) -> str:
    """The table as CSV."""
    return to_csv(table).decode()


def json_text(table: pa.Table) -> str:
    """The table as a JSON list of objects."""
    return json.dumps(table.to_pylist(), ensure_ascii=False, indent=1) + "\n"


def markdown_table(table: pa.Table) -> str:
    """The table in Markdown."""
    names = table.schema.names
    lines = [names, [":---" if _is_text(table, name) else "---:" for name in names]]
    lines += [[_full(row[name]) for name in names] for row in table.to_pylist()]
    texts = (" | ".join(map(markdown_text, line)) for line in lines)
    return "".join(f"| {text} |\n" for text in texts)


def latex_table(table: pa.Table) -> str:
    """The table in LaTeX, in booktabs' style."""
    names = table.schema.names
    columns = [Column(name, "text" if _is_text(table, name) else "number") for name in names]
    rows = [[_full(row[name]) for name in names] for row in table.to_pylist()]
    return latex_rows(columns, rows)


FORMATS: dict[str, Callable[[pa.Table], str]] = {
    "csv": csv_text,
    "json": json_text,
    "markdown": markdown_table,
    "latex": latex_table,
}


def _is_text(table: pa.Table, name: str) -> bool:
    return bool(pa.types.is_string(table.schema.field(name).type))


def _alike(
    names: Sequence[str], rows: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """The columns that have one value in all of several rows, and the others that have any."""
    alike, others = {}, []
    for name in names:
        values = [row[name] for row in rows]
        if len(rows) > 1 and values[0] is not None and all(v == values[0] for v in values):
            alike[name] = values[0]
        elif any(value is not None for value in values) or not rows:
            others.append(name)
    return alike, others


def _cell(column: str, row: dict[str, Any]) -> str:
    if column == "learning_rate":
        return rate_text(row.get("name") or "", row[column])
    return _text(column, row[column])


def _text(name: str, value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if name in ("seed", *COLUMNS) else count(value)
    if isinstance(value, float):
        return setting(value) if name in _CHOSEN else number(value)
    return _full(value)


def _full(value: Any) -> str:
    """A value with every digit."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (list, float, bool)) else str(value)
