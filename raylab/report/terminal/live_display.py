"""Progress of a study: a table redrawn in place on a terminal, lines elsewhere.

Model: a Display has three methods. `write_line` writes a line, `update` takes the current rows of
all trials, `close` removes the table. A line that is transient, such as that of a trial's start or
of a quarter of its training, is left out where a table shows the same. A row is as in
`raylab.report.terminal.live_table`; a line begins with the number of trials that are done and the
trial's name.
Invariant: the table is drawn in the caller's thread, in `update` alone. Other output appears above
it. A stream that is no terminal gets whole lines and nothing else. Numbers are those that the
trial reported.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from raylab.report.terminal.live_table import live_table, totals
from raylab.report.terminal.phase_lines import PhaseLines
from raylab.store.phase import TRAINING, Phase, phase_line

_REDRAW_SECONDS = 0.5
_WATCH_SECONDS = 2.0

_QUARTERS = 4

Row = Mapping[str, Any]
Rows = Sequence[Row]
Left = Callable[[Rows, float], float | None]
"""The seconds until the last trial ends, out of the rows and the time since 1970."""


def unknown_left(rows: Rows, now: float) -> float | None:
    """A Left that knows nothing."""
    return None


class Display(Protocol):
    """A place where progress is shown."""

    def write_line(self, line: str, *, transient: bool = False) -> None:
        """Write a line about an event."""

    def update(self, rows: Rows, phase: Phase | None = None) -> None:
        """Show the current state of all trials, and what the study's driver is at."""

    def close(self) -> None:
        """End the display."""


def open_display(stream: TextIO, *, timed: bool, left: Left = unknown_left) -> Display:
    """A table where `stream` is a terminal that can move its cursor, else lines.

    A table that is `timed` shows the time since it was opened; it shows the time `left`.
    """
    if stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        return TableDisplay(stream, timed=timed, left=left)
    return LineDisplay(stream)


class LineDisplay:
    """Plain lines."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._phases = PhaseLines(self.write_line)

    def write_line(self, line: str, *, transient: bool = False) -> None:
        """Write the line."""
        print(line, file=self._stream, flush=True)

    def update(self, rows: Rows, phase: Phase | None = None) -> None:
        """Write a line where the phase is new, and as it goes on; other lines show the trials."""
        if phase:
            self._phases(phase)

    def close(self) -> None:
        """Do nothing."""


class TableDisplay:
    """A table below the lines."""

    def __init__(self, stream: TextIO, *, timed: bool, left: Left = unknown_left) -> None:
        """Draw on `stream`; the clock starts now."""
        self._left = left
        self._console = Console(file=stream, force_terminal=True)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="crop",
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        self._started = time.monotonic() if timed else None
        self._drawn = -_REDRAW_SECONDS
        self._size = self._console.size

    def write_line(self, line: str, *, transient: bool = False) -> None:
        """Write the line above the table, unless it is transient."""
        if not transient:
            self._console.print(escape(line), soft_wrap=True, highlight=False)

    def update(self, rows: Rows, phase: Phase | None = None) -> None:
        """Draw the table, unless it was drawn less than half a second ago."""
        now = time.monotonic()
        if now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        if not self._live.is_started:
            # The cursor comes back however the process ends.
            atexit.register(self.close)
            self._live.start()
        if self._size != self._console.size:
            # The terminal has wrapped the lines of the old table anew: its start is unknown.
            self._size = self._console.size
            self._console.clear()
        elapsed = None if self._started is None else now - self._started
        words = phase_line(phase, time.time()) if phase else ""
        left = self._left(rows, time.time())
        table = live_table(rows, *self._size, elapsed=elapsed, phase=words, left=left)
        self._live.update(table, refresh=True)

    def close(self) -> None:
        """Remove the table, and show the cursor again."""
        self._live.stop()
        atexit.unregister(self.close)


def watch(
    read: Callable[[], Rows],
    display: Display,
    is_driven: Callable[[], bool],
    read_phase: Callable[[], Phase | None] = lambda: None,
) -> Rows:
    """Show the rows that `read` gives until the study has ended, or the user interrupts.

    A study has ended when its driver has left, or when no trial runs or waits and there is no
    driver at work: `read_phase` gives what one is at.
    """
    rows: Rows = ()
    driven = False
    try:
        while True:
            was_driven, driven = driven, is_driven()
            before, rows = rows, read()
            for line, transient in changes(before, rows):
                display.write_line(line, transient=transient)
            phase = read_phase() if driven else None
            display.update(rows, phase)
            has_left = was_driven and not driven
            is_open = phase or any(row["status"] in ("running", "pending") for row in rows)
            if has_left or not is_open:
                return rows
            time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        return rows
    finally:
        display.close()


def changes(before: Rows, after: Rows) -> Iterator[tuple[str, bool]]:
    """(line, whether it is transient) for each change between two reads of the store."""
    old = {row["name"]: row for row in before}
    if not before:
        yield totals(after), False
    done = sum(row["status"] == "done" for row in after)
    for row in after:
        last = old.get(row["name"])
        has_changed = last is not None and last["status"] != row["status"]
        if has_changed and row["status"] in ("done", "failed", "blocked"):
            yield numbered_line(row, end_text(row), done, len(after)), False
        if row["status"] != "running":
            continue
        if last is not None and last["status"] != "running":
            yield numbered_line(row, start_text(row), done, len(after)), True
        reached = quarter(row)
        if row.get("phase") and (last is None or reached > quarter(last)):
            yield numbered_line(row, progress_text(row), done, len(after)), True


def numbered_line(row: Row, text: str, done: int, total: int) -> str:
    """One line: [ 3/22] name  text."""
    return f"[{done:>{len(str(total))}}/{total}] {row['name']}  {text}"


def quarter(row: Row) -> int:
    """How many quarters of its training a trial has done: 0 to 3; its end has another line."""
    step, steps = row.get("step"), row.get("steps")
    return min(_QUARTERS - 1, _QUARTERS * step // steps) if step and steps else 0


def start_text(row: Row) -> str:
    """The start of an attempt: the first, or another after a failure."""
    if (row.get("attempt") or 1) == 1:
        return "starts"
    after = f" after {row['cause']}" if row.get("cause") else ""
    return f"starts again{after}, attempt {row['attempt']}"


def progress_text(row: Row) -> str:
    """The phase of a running trial, with loss, speed and time left where they are known."""
    parts = {
        "loss": "loss {:.4g}",
        "tokens_per_second": "{:.0f} tokens/s",
        "seconds_left": "{:.0f} s left",
    }
    if not str(row["phase"]).startswith(TRAINING):
        del parts["loss"]
    known = [form.format(row[key]) for key, form in parts.items() if row.get(key) is not None]
    return "  ".join([row["phase"], *known])


def end_text(row: Row) -> str:
    """The end of a trial: done, failed, stopped or blocked."""
    if row["status"] == "done":
        seconds, l2 = row.get("seconds") or 0.0, row.get("l2")
        # A merge whose rows follow tokens may have no task vector.
        return f"done in {seconds:.1f} s" + ("" if l2 is None else f"  L2 {l2:.4g}")
    if row["status"] == "pending":
        return f"stopped; it {row.get('message') or 'begins again'}"
    if row["status"] == "blocked":
        return str(row.get("message") or "blocked")
    why = f": {row['cause']}" if row.get("cause") else ""
    return f"failed{why}; the trial table says why"
