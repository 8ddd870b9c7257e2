"""Phases of a command as lines: each when it begins, and again while it lasts.

Model: a phase that cannot be counted has a line when it begins. After some seconds every phase has
a line with the time so far and left, and the next ones at distances that grow with the time so
far. A thread asks for these lines, so that they come while the command waits for something.
Invariant: a counted phase that is over within `_FIRST_SECONDS` has no line. A phase has not more
than one line in `_FIRST_SECONDS`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raylab.store.phase import Phase, PhaseTeller, Tell, phase_line

_FIRST_SECONDS = 5.0
_SHARE = 10
"""A further line comes after this part of the time so far, at least."""
_TICK_SECONDS = 1.0


class PhaseLines:
    """Writes the lines of phases by `say`."""

    def __init__(self, say: Callable[[str], None], said: str = "") -> None:
        """`said` is the name of a phase whose first line is there already."""
        self._say, self._name = say, said
        self._next = time.time() + _FIRST_SECONDS

    def __call__(self, phase: Phase) -> None:
        """Write a line, if it is time for one."""
        now = time.time()
        if phase.name != self._name:
            self._name, self._next = phase.name, phase.started + _FIRST_SECONDS
            if phase.of is None:
                self._say(phase.text)
        elif now >= self._next:
            self._next = now + max(_FIRST_SECONDS, (now - phase.started) / _SHARE)
            self._say(phase_line(phase, now))


@contextmanager
def ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Within, a thread calls `tick` every second."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(_TICK_SECONDS):
            tick()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def said_phases(say: Callable[[str], None], said: str = "") -> Iterator[Tell]:
    """Within, phases that are told have lines; see `PhaseLines`."""
    lines = PhaseLines(say, said)
    tell = PhaseTeller(lines)
    if said:
        tell(said)
    with ticking(lambda: lines(tell.phase) if tell.phase else None):
        yield tell
