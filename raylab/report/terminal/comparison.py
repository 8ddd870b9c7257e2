"""Two studies side by side in a terminal.

Model: one table of what was asked differently, one of the numbers that changed by more than seed
noise. All other numbers are counted by what became of them; those that one study alone has
are named by their trials.
Invariant: every number is in the table or in a count; `--json` has them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raylab.number_format import MISSING, listing, number, plural
from raylab.report.terminal.printing import print_line
from raylab.spec.study_file import field_text

if TYPE_CHECKING:
    from raylab.report.compare import Comparison, NumberChange

_MOST_NAMES = 6
_VERDICTS = {
    "beyond": "clear",
    "near": "weak",
    "within": "within seed noise",
    "unknown": "of unknown seed noise",
    "only_one": "in the first only",
    "only_other": "in the second only",
}
_SHOWN = ("beyond", "near")


def print_comparison(found: Comparison, names: tuple[str, str], console: Console) -> None:
    """The fields that differ, the numbers that changed, and the number of those that did not."""
    print_line(console, f"first: {names[0]}")
    print_line(console, f"second: {names[1]}")
    if found.asked:
        view = _comparison_table("asked", "first", "second")
        for field in found.asked:
            view.add_row(
                *(escape(field_text(text)) for text in (field.field, field.one, field.other))
            )
        console.print(view)
    else:
        print_line(console, "the same was asked")
    moved = sorted((row for row in found.numbers if row.verdict in _SHOWN), key=_rank)
    if moved:
        view = _comparison_table("number", "first", "second", "times the seed", "verdict")
        for row in moved:
            view.add_row(*map(escape, _changed_cells(row)))
        console.print(view)
    else:
        print_line(console, "no number changed by more than seed noise")
    _print_counts(found.numbers, console)


def _print_counts(numbers: Sequence[NumberChange], console: Console) -> None:
    """What became of all numbers, a line each."""
    by_verdict = {"same": "the same", **_VERDICTS}
    print_line(console, f"{plural(len(numbers), 'number')}; --json has each of them")
    for verdict, words in by_verdict.items():
        rows = [row for row in numbers if row.verdict == verdict]
        of = f" (of {_names(rows)})" if rows and verdict in ("only_one", "only_other") else ""
        if rows:
            print_line(console, f"  {len(rows)} {words}{of}")


def _names(rows: Sequence[NumberChange]) -> str:
    """The trials and the number of the comparisons of `rows`."""
    trials = [*dict.fromkeys(row.name for row in rows if row.what == "trial")]
    parts = trials[:_MOST_NAMES]
    if len(trials) > _MOST_NAMES:
        parts.append(plural(len(trials) - _MOST_NAMES, "more trial"))
    comparisons = {row.name for row in rows if row.what == "comparison"}
    if comparisons:
        parts.append(plural(len(comparisons), "comparison"))
    return listing(parts)


def _changed_cells(row: NumberChange) -> tuple[str, ...]:
    name = row.name.replace("~", "\n~ ", 1)
    times = MISSING if row.times is None else f"{row.times:.3g}"
    values = number(row.one), number(row.other)
    return (f"{row.metric} of {name}", *values, times, _VERDICTS[row.verdict])


def _rank(row: NumberChange) -> tuple[int, float]:
    return list(_VERDICTS).index(row.verdict), -(row.times or 0.0)


def _comparison_table(*titles: str) -> Table:
    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, title in enumerate(titles):
        is_number = title in ("first", "second", "times the seed") and titles[0] != "asked"
        view.add_column(
            title, overflow="fold", no_wrap=is_number, justify="right" if is_number else "left",
            ratio=1 if not place else None,
        )  # fmt: skip
    return view
