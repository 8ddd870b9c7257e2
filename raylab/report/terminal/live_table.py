"""The table of a study in progress, for a window of any size.

Model: a row is a mapping with a trial's `name` and `status`, and whatever is known of the rest.
Trials that run have a line each; below them stand how many wait, what failed, and the totals.
Where the window is too narrow columns go, the least missed first; where it is too low rows go.
Invariant: a pure function of the rows and the window, never wider or taller than it; no number
is cut, or made up out of another; every row is shown or counted.
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
    attempt, cause = row.get("attempt") or 1, row.get("cause")
    if row["status"] != "running" or attempt == 1:
        return str(row["status"])
    return f"attempt {attempt}: {cause}" if cause else f"attempt {attempt}"


def _step(row: Row) -> str:
    return MISSING if row.get("step") is None else f"{row['step']}/{row['steps']}"


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
    Column("status", _status, min_width=7),
    Column("step", _step, min_width=7),
    Column("loss", lambda row: number(row.get("loss")), importance=4, min_width=8),
    Column("tokens/s", _tokens, importance=2),
    Column("left", lambda row: clock(row.get("seconds_left")), importance=5, min_width=5),
    Column("memory", _memory, importance=1, min_width=7),
    Column("heard", _heard, importance=3, min_width=8),
)


def live_table(
    rows: Sequence[Row], width: int, height: int | None = None, elapsed: float | None = None
) -> Group:
    """What is going on in a window of `width` and `height`; without a height nothing is left out.

    `elapsed` seconds have passed, where that is known.
    """
    waiting = [row for row in rows if row["status"] in ("pending", "blocked")]
    listed = [row for row in rows if row["status"] == "running"]
    listed += waiting if height is None else []
    heard = any(row.get("heard_seconds") is not None for row in listed)
    known = [column for column in _COLUMNS if heard or column.title != "heard"]
    columns, left = fit_beside_names(known, listed, width, longest_name(rows), _GAP)
    name_width = min(left, max(len(_NAME), longest_name(rows)))
    troubles = _troubles(rows)
    ending = [_line(words) for words in _ending(rows, elapsed, width)]
    heights = [-(-cell_len(row["name"]) // name_width) for row in listed]
    room = _room(height, len(ending), sum(heights), len(troubles))
    shown, told = _how_many(heights, room[0]), _how_many([1] * len(troubles), room[1])
    parts: list[Any] = [_drawn(listed[:shown], columns, name_width)] if shown else []
    if 0 < shown < len(listed):
        parts.append(_line(f"… {len(listed) - shown} more running"))
    parts += [_line(words, style, whole=height is None) for words, style in troubles[:told]]
    if 0 < told < len(troubles):
        parts.append(_line(f"… {len(troubles) - told} more like these"))
    return Group(*parts, *ending[-max(1, (height or len(ending) + 1) - 1) :])


def totals(rows: Sequence[Row]) -> str:
    """How many trials there are, and how many have which status."""
    counts = Counter(str(row["status"]) for row in rows)
    found = ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])
    merges = sum(map(is_merge, rows))
    amount = plural(len(rows) - merges, "trial")
    amount += f" and {plural(merges, 'merge')}" if merges else ""
    return f"{amount}: {found}" if found else amount


def _ending(rows: Sequence[Row], elapsed: float | None, width: int) -> list[str]:
    """How many wait, the time so far and the time left as far as they are known; the totals."""
    pending = sum(row["status"] == "pending" for row in rows)
    parts = [f"{pending} not training yet"] if pending else []
    if elapsed is not None:
        parts.append(f"{clock(elapsed)} so far")
    parts += _time_left(rows)
    return [*wrap("; ".join(parts), width), *wrap(totals(rows), width)]


def _time_left(rows: Sequence[Row]) -> list[str]:
    """The longest that a running trial has to train; where others wait, a lower bound."""
    running = [row for row in rows if row["status"] == "running"]
    known = [row["seconds_left"] for row in running if row.get("seconds_left") is not None]
    if max(known, default=0) < 1:
        return []
    if any(row["status"] == "pending" for row in rows):
        return [f"at least {clock(max(known))} to go"]
    return [f"{clock(max(known))} of training left"] if len(known) == len(running) else []


def _troubles(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(what is wrong with a trial, its style): those that failed, and those that fell silent."""
    found = []
    for row in rows:
        if row["status"] == "failed":
            said = str(row.get("message") or "").partition("\n")[0]
            why = ": ".join(part for part in (row.get("cause"), said) if part)
            found.append((f"{row['name']} failed{': ' if why else ''}{why}", "red"))
        elif row["status"] == "pending" and row.get("heard_seconds") is not None:
            silent = clock(row["heard_seconds"])
            found.append((f"{row['name']} stopped: no sign of life for {silent}", "yellow"))
    return found


def _room(height: int | None, ending: int, listed: int, troubles: int) -> tuple[int, int]:
    """(lines for trials that run, lines for troubles); the last line of the window stays free."""
    if height is None:
        return listed, troubles
    lines = max(0, height - 1 - ending - (_HEAD if listed else 0))
    kept = min(troubles, max(1, lines // 4)) if lines else 0
    return min(listed, lines - kept), lines - min(listed, lines - kept)


def _how_many(heights: Sequence[int], room: int) -> int:
    """How many fit, with a line to spare for the count of the others if not all do."""
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
        side: Any = "left" if column.title == "status" else "right"
        table.add_column(column.title, no_wrap=True, justify=side, min_width=column.min_width)
    for row in rows:
        style = STYLES.get(str(row["status"]), "dim")
        cells = [escape(column.cell(row)) for column in columns]
        table.add_row(escape(row["name"]), *cells, style=None if style == "cyan" else style)
    return table


def _line(words: str, style: str = "", *, whole: bool = False) -> Text:
    return Text(words, style=style, no_wrap=not whole, overflow="fold" if whole else "ellipsis")
