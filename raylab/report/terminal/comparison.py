"""Two studies side by side in a terminal.

Invariant: every number that changed has a line, the largest change first; those that are the same
are counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raylab.number_format import MISSING, number, plural
from raylab.report.compare import Comparison, NumberChange

_SAID = {
    "beyond": "beyond the seed",
    "near": "little more than the seed",
    "within": "not to be told from the seed",
    "unknown": "the seed's part is not known",
    "only_one": "in the first only",
    "only_other": "in the second only",
}
_ORDER = tuple(_SAID)


def print_comparison(found: Comparison, names: tuple[str, str], console: Console) -> None:
    """What was asked differently, the numbers that changed, and how many did not."""
    _line(console, f"first: {names[0]}")
    _line(console, f"second: {names[1]}")
    if found.asked:
        view = _table("asked", "first", "second")
        for field in found.asked:
            view.add_row(*(escape(_value(text)) for text in (field.field, field.one, field.other)))
        console.print(view)
    else:
        _line(console, "the same was asked")
    changed = sorted((row for row in found.numbers if row.verdict != "same"), key=_rank)
    if changed:
        view = _table("number", "first", "second", "times the seed", "verdict")
        for row in changed:
            view.add_row(*map(escape, _cells(row)))
        console.print(view)
    counts = Counter(row.verdict for row in found.numbers)
    same = counts.pop("same", 0)
    parts = [f"{counts[name]} {_SAID[name]}" for name in _ORDER if name in counts]
    _line(
        console,
        f"{plural(len(found.numbers), 'number')}: {', '.join([f'{same} the same', *parts])}",
    )


def _cells(row: NumberChange) -> tuple[str, ...]:
    name = row.name.replace("~", "\n~ ", 1)
    times = MISSING if row.times is None else f"{row.times:.3g}"
    values = number(row.one), number(row.other)
    return (f"{row.metric} of {name}", *values, times, _SAID[row.verdict])


def _rank(row: NumberChange) -> tuple[int, float]:
    return _ORDER.index(row.verdict), -(row.times or 0.0)


def _value(value: Any) -> str:
    return MISSING if value is None else str(value)


def _table(*titles: str) -> Table:
    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, title in enumerate(titles):
        is_number = title in ("first", "second", "times the seed") and titles[0] != "asked"
        view.add_column(
            title, overflow="fold", no_wrap=is_number, justify="right" if is_number else "left",
            ratio=1 if not place else None,
        )  # fmt: skip
    return view


def _line(console: Console, text: str) -> None:
    console.print(escape(text), soft_wrap=True, highlight=False)
