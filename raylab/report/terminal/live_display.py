"""Where a study in progress is shown: a table redrawn in place on a terminal, lines elsewhere.

Model: two forms with the same three verbs. `say` keeps a line, unless it is passing and a table
shows the same; `show` takes the rows as they are now; `close` takes the table away again.
Invariant: the table is drawn in the caller's thread, only when it is told to; what others print
while it stands comes above it; a stream that is no terminal gets whole lines and nothing else.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from raylab.report.terminal.live_table import live_table
from raylab.report.terminal.progress_lines import news

_REDRAW_SECONDS = 0.5
_WATCH_SECONDS = 2.0

Rows = Sequence[Mapping[str, Any]]


class Outlet(Protocol):
    """Either form."""

    def say(self, line: str, *, passing: bool = False) -> None:
        """Something happened."""

    def show(self, rows: Rows) -> None:
        """This is how the trials are now."""

    def close(self) -> None:
        """Nothing comes any more."""


def outlet(stream: TextIO, *, timed: bool) -> Outlet:
    """A table where `stream` is a terminal that can move its cursor, else lines.

    A table that is `timed` shows how long it has been there.
    """
    if stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        return Screen(stream, timed=timed)
    return Lines(stream)


class Lines:
    """Plain lines."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    def say(self, line: str, *, passing: bool = False) -> None:
        """Write the line."""
        print(line, file=self._stream, flush=True)

    def show(self, rows: Rows) -> None:
        """Lines have said it."""

    def close(self) -> None:
        """Nothing to take away."""


class Screen:
    """A table below the lines that were said."""

    def __init__(self, stream: TextIO, *, timed: bool) -> None:
        """Draw on `stream`; the clock starts now."""
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

    def say(self, line: str, *, passing: bool = False) -> None:
        """Put the line above the table."""
        if not passing:
            self._console.print(escape(line), soft_wrap=True, highlight=False)

    def show(self, rows: Rows) -> None:
        """Draw the table, if the last time was long enough ago."""
        now = time.monotonic()
        if now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        if not self._live.is_started:
            # The cursor comes back however the process ends.
            atexit.register(self.close)
            self._live.start()
        if self._size != self._console.size:
            # The terminal has broken the lines of the old table anew: where it began is unknown.
            self._size = self._console.size
            self._console.clear()
        elapsed = None if self._started is None else now - self._started
        self._live.update(live_table(rows, *self._size, elapsed=elapsed), refresh=True)

    def close(self) -> None:
        """Take the table away, and give the cursor back."""
        self._live.stop()
        atexit.unregister(self.close)


def watch(read: Callable[[], Rows], out: Outlet, is_driven: Callable[[], bool]) -> Rows:
    """Show what `read` gives until the study has ended, or the user has seen enough.

    It has ended when no trial runs or waits, or when its driver was there and has left.
    """
    rows: Rows = ()
    driven = False
    try:
        while True:
            was_driven, driven = driven, is_driven()
            before, rows = rows, read()
            for words, passing in news(before, rows):
                out.say(words, passing=passing)
            out.show(rows)
            left = was_driven and not driven
            if left or not any(row["status"] in ("running", "pending") for row in rows):
                return rows
            time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        return rows
    finally:
        out.close()
