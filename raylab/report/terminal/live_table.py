"""The table of a study in progress, for a window of any size.

Model: a row is a mapping with a trial's `name` and `status`, and further values where known.
Each running trial has a line. Below are the failures, a bar of the trials that have ended, with
the time so far and left, and the totals. A running trial counts in the bar by the steps that it has
trained. A narrow window shows fewer columns, the most important first; a low one fewer rows.
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
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raylab.number_format import MISSING, clock, listing, long_time, number, plural, size
from raylab.report.terminal.columns import Column, Row, fit_beside_names, longest_name
from raylab.spec.merge_methods import is_merge

STYLES = {"done": "green", "failed": "red", "blocked": "yellow", "running": "cyan"}
_ORDER = ("done", "running", "failed", "blocked", "pending")
_HEAD = 2
_GAP = 1
_NAME = "trial"
_KINDS = ("trial", "merge", "finished model")
"""Of a row of a status, in the order in which they are counted."""
_ENDED = ("done", "failed", "blocked")
_MIN_BAR, _MAX_BAR = 10, 40
_TRAINED = 0.9
"""The part of a trial that is behind it when it has trained all its steps: it is then evaluated."""


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
    left: float | None = None,
) -> Group:
    """The table for a window of `width` and `height`; without a height no row is left out.

    `elapsed` is the time since the start in seconds, `left` that until the last trial ends, where
    they are known; `phase` is what the study's driver is at.
    """
    waiting = [row for row in rows if row["status"] in ("pending", "blocked")]
    listed = [row for row in rows if row["status"] == "running"]
    listed += waiting if height is None else []
    heard = any(row.get("heard_seconds") is not None for row in listed)
    absent = set() if heard else {"heard"}
    absent |= set() if any(map(_is_retried, listed)) else {"attempt"}
    known = [column for column in _COLUMNS if column.title not in absent]
    columns, room_for_names = fit_beside_names(known, listed, width, longest_name(rows), _GAP)
    name_width = min(room_for_names, max(len(_NAME), longest_name(rows)))
    failures = _failures(rows)
    ending = [
        *map(_line, wrap(phase, width)),
        *_overall(rows, elapsed, left, width),
        *map(_line, wrap(totals(rows), width)),
    ]
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
    return f"{_amount(rows)}: {found}" if found else _amount(rows)


def _amount(rows: Sequence[Row]) -> str:
    """24 trials, or 24 trials, 2 merges and 1 finished model."""
    counts = Counter(row.get("kind") or ("merge" if is_merge(row) else "trial") for row in rows)
    return listing(plural(counts[kind], kind) for kind in _KINDS if counts[kind] or kind == "trial")


def _overall(
    rows: Sequence[Row], elapsed: float | None, left: float | None, width: int
) -> list[Any]:
    """The bar of the whole study and its words, as lines; one line where the window is wide."""
    if not rows:
        return []
    done = sum(row["status"] == "done" for row in rows)
    parts = [f"{done} of {_amount(rows)}"]
    if elapsed is not None:
        parts.append(f"{clock(elapsed)} so far")
    if left is not None:
        parts.append(f"about {long_time(left)} of training left")
    else:
        parts += _reported_left(rows)
    words = ", ".join(parts)
    room = width - cell_len(words) - 2
    bar_width = min(_MAX_BAR, room if room >= _MIN_BAR else width)
    bar = ProgressBar(
        len(rows),
        sum(map(_share, rows)),
        width=bar_width,
        complete_style="cyan",
        finished_style="green",
    )
    line = Table.grid(padding=(0, 2, 0, 0))
    if room < _MIN_BAR:
        # In a grid, since a bar by itself does not end its line.
        line.add_row(bar)
        return [line, *map(_line, wrap(words, width))]
    line.add_row(bar, _line(words))
    return [line]


def _share(row: Row) -> float:
    """The part of a trial that is behind it: 1 once it has ended, whatever became of it."""
    if row["status"] in _ENDED:
        return 1.0
    step, steps = row.get("step"), row.get("steps")
    if row["status"] != "running" or not step or not steps:
        return 0.0
    return _TRAINED * min(1.0, step / steps)


def _reported_left(rows: Sequence[Row]) -> list[str]:
    """The longest time left that a running trial reports; a lower bound where others wait."""
    running = [row for row in rows if row["status"] == "running"]
    known = [row["seconds_left"] for row in running if row.get("seconds_left") is not None]
    if max(known, default=0) < 1:
        return []
    if any(row["status"] == "pending" for row in rows):
        return [f"at least {clock(max(known))} left"]
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
