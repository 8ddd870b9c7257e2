"""The table of a study in progress, for a window of any size.

Model: a row is a mapping with a trial's `name` and `status`, and further values where known.
Each running trial has a line. Below are the failures, the number of waiting trials and the
totals. A narrow window shows fewer columns, the most important first; a low one fewer rows.
Invariant: a pure function of the rows and the window, never wider or taller than the window. No
number is cut or derived from another. Every row is shown or counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from raylab.number_format import MISSING, clock, number, plural, size
from raylab.report.study_tables import is_merge
from raylab.report.terminal.columns import Column, Row, fit_beside_names, longest_name

STYLES = {"done": "green", "failed": "red", "blocked": "yellow", "running": "cyan"}
_ORDER = ("done", "running", "failed", "blocked", "pending")
_HEAD = 2
_GAP = 1
_NAME = "trial"


def _status(row: Row) -> str:
    """What a running trial is at, else what became of it."""
    phase = row.get("phase") if row["status"] == "running" else None
    return str(phase or row["status"])


def _is_retried(row: Row) -> bool:
    return row["status"] == "running" and (row.get("attempt") or 1) > 1


def _attempt(row: Row) -> str:
    if not _is_retried(row):
        return MISSING
    cause = row.get("cause")
    return f"{row['attempt']} after {cause}" if cause else str(row["attempt"])


def _tokens(row: Row) -> str:
    rate = row.get("tokens_per_second")
    return MISSING if rate is None else f"{rate:.0f}"


def _memory(row: Row) -> str:
    taken = row.get("memory_bytes")
    return MISSING if taken is None else size(taken)


def _heard(row: Row) -> str:
    heard = row.get("heard_seconds")
    return MISSING if heard is None else f"{clock(heard)} ago"


_COLUMNS = (
    Column("status", _status, min_width=16),
    Column("attempt", _attempt, importance=6),
    Column("loss", lambda row: number(row.get("loss")), importance=4, min_width=8),
    Column("tokens/s", _tokens, importance=2),
    Column("left", lambda row: clock(row.get("seconds_left")), importance=5, min_width=5),
    Column("memory", _memory, importance=1, min_width=7),
    Column("heard", _heard, importance=3, min_width=8),
)


def live_table(
    rows: Sequence[Row],
    width: int,
    height: int | None = None,
    elapsed: float | None = None,
    phase: str = "",
) -> Group:
    """The table for a window of `width` and `height`; without a height no row is left out.

    `elapsed` is the time since the start in seconds, where known; `phase` what the study's driver
    is at.
    """
    waiting = [row for row in rows if row["status"] in ("pending", "blocked")]
    listed = [row for row in rows if row["status"] == "running"]
    listed += waiting if height is None else []
    heard = any(row.get("heard_seconds") is not None for row in listed)
    absent = set() if heard else {"heard"}
    absent |= set() if any(map(_is_retried, listed)) else {"attempt"}
    known = [column for column in _COLUMNS if column.title not in absent]
    columns, left = fit_beside_names(known, listed, width, longest_name(rows), _GAP)
    name_width = min(left, max(len(_NAME), longest_name(rows)))
    failures = _failures(rows)
    told = wrap(phase, width)
    ending = [_line(words) for words in (*told, *_ending(rows, elapsed, width))]
    heights = [-(-cell_len(row["name"]) // name_width) for row in listed]
    room = _room(height, len(ending), sum(heights), len(failures))
    shown, shown_failures = _how_many(heights, room[0]), _how_many([1] * len(failures), room[1])
    parts: list[Any] = [_drawn(listed[:shown], columns, name_width)] if shown else []
    if 0 < shown < len(listed):
        parts.append(_line(f"… {len(listed) - shown} more running"))
    parts += [
        _line(words, style, whole=height is None) for words, style in failures[:shown_failures]
    ]
    if 0 < shown_failures < len(failures):
        parts.append(_line(f"… {len(failures) - shown_failures} more like these"))
    return Group(*parts, *ending[-max(1, (height or len(ending) + 1) - 1) :])


def totals(rows: Sequence[Row]) -> str:
    """The number of trials, and of trials of each status."""
    counts = Counter(str(row["status"]) for row in rows)
    found = ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])
    merges = sum(map(is_merge, rows))
    amount = plural(len(rows) - merges, "trial")
    amount += f" and {plural(merges, 'merge')}" if merges else ""
    return f"{amount}: {found}" if found else amount


def _ending(rows: Sequence[Row], elapsed: float | None, width: int) -> list[str]:
    """The number of waiting trials, the time so far and left where known, and the totals."""
    pending = sum(row["status"] == "pending" for row in rows)
    parts = [f"{pending} not training yet"] if pending else []
    if elapsed is not None:
        parts.append(f"{clock(elapsed)} so far")
    parts += _time_left(rows)
    return [*wrap("; ".join(parts), width), *wrap(totals(rows), width)]


def _time_left(rows: Sequence[Row]) -> list[str]:
    """The longest time left of a running trial; a lower bound where others wait."""
    running = [row for row in rows if row["status"] == "running"]
    known = [row["seconds_left"] for row in running if row.get("seconds_left") is not None]
    if max(known, default=0) < 1:
        return []
    if any(row["status"] == "pending" for row in rows):
        return [f"at least {clock(max(known))} to go"]
    return [f"{clock(max(known))} of training left"] if len(known) == len(running) else []


def _failures(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(line, style) for each trial that failed or stopped reporting."""
    found = []
    for row in rows:
        if row["status"] == "failed":
            message = str(row.get("message") or "").partition("\n")[0]
            reason = ": ".join(part for part in (row.get("cause"), message) if part)
            found.append((f"{row['name']} failed{': ' if reason else ''}{reason}", "red"))
        elif row["status"] == "pending" and row.get("heard_seconds") is not None:
            age = clock(row["heard_seconds"])
            found.append((f"{row['name']} stopped: no sign of life for {age}", "yellow"))
    return found


def _room(height: int | None, ending: int, listed: int, failed: int) -> tuple[int, int]:
    """(lines for running trials, lines for failures); the last line of the window stays free."""
    if height is None:
        return listed, failed
    lines = max(0, height - 1 - ending - (_HEAD if listed else 0))
    kept = min(failed, max(1, lines // 4)) if lines else 0
    return min(listed, lines - kept), lines - min(listed, lines - kept)


def _how_many(heights: Sequence[int], room: int) -> int:
    """The number that fit, with a line for the count of the others if not all do."""
    if sum(heights) <= room:
        return len(heights)
    taken = 0
    for index, lines in enumerate(heights):
        taken += lines
        if taken > room - 1:
            return index
    return len(heights)


def _drawn(rows: Sequence[Row], columns: Sequence[Column], name_width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column(_NAME, width=name_width, overflow="fold")
    for column in columns:
        side: Any = "left" if column.title in ("status", "attempt") else "right"
        table.add_column(column.title, no_wrap=True, justify=side, min_width=column.min_width)
    for row in rows:
        style = STYLES.get(str(row["status"]), "dim")
        cells = [escape(column.cell(row)) for column in columns]
        table.add_row(escape(row["name"]), *cells, style=None if style == "cyan" else style)
    return table


def _line(words: str, style: str = "", *, whole: bool = False) -> Text:
    return Text(words, style=style, no_wrap=not whole, overflow="fold" if whole else "ellipsis")
