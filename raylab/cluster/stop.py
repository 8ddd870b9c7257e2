"""Stopping on request: what runs is saved first, and the next driver goes on from there.

Model: the first Ctrl-C, or a request to end (SIGTERM, as `ray job stop` sends it), asks every
trial through the store to save a checkpoint and to end, and lets no other begin. The second one
ends the driver at once, as does the loss of its lease.
Invariant: nothing that is written is cut short by the first request; whether it came is asked of
this process, never of the store, where another driver may have asked.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from raylab.store.attempt_state import clear_stop_request, request_stop
from raylab.store.filesystem import Store
from raylab.store.lease import HeldLease

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether this driver is to stop, and why."""

    def __init__(self, store: Store) -> None:
        """Nobody has asked yet."""
        # Nothing here may hold a lock: Tune pickles who is to ask.
        self._store, self._asked, self.why = store, False, ""

    def ask(self, why: str) -> None:
        """Ask the trials to save and to end. May be called from any thread."""
        if not self._asked:
            self._asked, self.why = True, why
            request_stop(self._store)

    def is_asked(self) -> bool:
        """Whether anybody has."""
        return self._asked


@contextmanager
def stoppable(store: Store, lease: HeldLease, say: Callable[[str], None]) -> Iterator[Stop]:
    """Within, signals ask the driver to stop; only the main thread can hear them.

    Raises KeyboardInterrupt at the second signal, at the end where one came, and at once where
    `lease` is lost: whoever asked the trials through the store would stop another's.
    """
    clear_stop_request(store)
    stop = Stop(store)
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _SIGNALS} if is_main else {}

    def heard(number: int, frame: FrameType | None) -> None:
        if stop.is_asked() or lease.lost.is_set():
            raise KeyboardInterrupt
        say("stopping: trials save what they need to go on; once more stops at once")
        stop.ask("interrupted")

    for number in before:
        signal.signal(number, heard)
    try:
        yield stop
        if stop.is_asked():
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if not lease.lost.is_set():
            clear_stop_request(store)
