"""The lease of a running driver: two must not work on one OUT.

Model: OUT/lease.json names the holder and counts its beats. Whoever finds one watches: a lease
whose count moves is held, one that stays as it is for `watch` seconds of the watcher's own clock
is left, and so is one whose process is known to have ended. A free lease is taken by writing
one's own, and it is theirs whose owner is read back: at once under a lock where the disk is
local, after `settle` seconds on an object store, which promises no more than that the last
writer stays. No clock of another machine is believed.
Invariant: of all that start on one OUT, one goes on. A holder that reads another owner in the
file writes nothing more there, and its driver is told; that the store fails is no loss, however
long it lasts.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from filelock import FileLock

from raylab.errors import LeaseError, StoreError
from raylab.store.filesystem import Store
from raylab.store.process_identity import Lease, is_dead, own_lease, parse_lease

LEASE = "lease.json"
_LOCK = ".lease.lock"

_log = logging.getLogger("raylab.store")


@dataclass(frozen=True)
class Intervals:
    """Seconds of a lease's life."""

    beat: float = 5.0
    watch: float = 18.0
    """How long a lease must stay as it is to be taken for left; some beats more than one."""
    settle: float = 2.0
    """How long an object store's last writer waits before it believes that it was the last."""


class HeldLease:
    """A lease that is held; `lost` is set when another owner was read in its place."""

    def __init__(
        self, store: Store, lease: Lease, intervals: Intervals, on_lost: Callable[[], None]
    ) -> None:
        """`lease` is in the store already; it does not beat yet."""
        # A beat that fails is the next beat's business: it must not hold the thread for minutes.
        self._store, self._intervals = store.with_timeout(intervals.beat), intervals
        self._on_lost, self.lease = on_lost, lease
        self.lost, self._end = threading.Event(), threading.Event()
        self.taker: Lease | None = None
        self._thread = threading.Thread(target=self._beats, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more, and free the lease if it is still one's own."""
        self._end.set()
        self._thread.join()
        try:
            with _exclusive(self._store, self._intervals):
                found = read_lease(self._store)
                if found and found.owner == self.lease.owner:
                    self._store.delete(LEASE)
        except StoreError as error:
            _log.warning("the lease could not be freed, and runs out by itself: %s", error)

    def check(self) -> None:
        """Raise LeaseError where the lease is lost."""
        if self.lost.is_set():
            raise _taken_over(self._store, self.taker)

    def _beats(self) -> None:
        while not self._end.wait(self._intervals.beat):
            try:
                self._beat()
            except StoreError as error:
                _log.warning("the lease's beat failed, and is tried again: %s", error)
            if self.lost.is_set():
                if not self._end.is_set():
                    self._on_lost()
                return

    def _beat(self) -> None:
        with _exclusive(self._store, self._intervals):
            found = read_lease(self._store)
            if found and found.owner != self.lease.owner:
                self.taker = found
                self.lost.set()
                return
            self.lease = self.lease.next()
            _write(self._store, self.lease)


@contextmanager
def hold_lease(
    store: Store,
    intervals: Intervals | None = None,
    on_lost: Callable[[], None] | None = None,
) -> Iterator[HeldLease]:
    """Hold the lease of `store` within; use it in the main thread, around all that writes.

    When another driver has taken the lease over, `on_lost` is called in the lease's thread;
    by itself that interrupts the main thread as Ctrl-C does, and the interruption leaves here as
    LeaseError. Raises LeaseError where another driver holds the store, and StoreError.
    """
    _hear_interruptions()
    intervals = intervals or Intervals()
    held = HeldLease(store, acquire(store, intervals), intervals, on_lost or _interrupt)
    held.start()
    try:
        try:
            yield held
        finally:
            held.stop()
    except BaseException:
        held.check()  # Whatever came of the interruption, this is why.
        raise
    held.check()


def read_lease(store: Store) -> Lease | None:
    """The lease in the store, whoever holds it, or None. Raises StoreError."""
    return parse_lease(store.read_if_there(LEASE))


def acquire(store: Store, intervals: Intervals) -> Lease:
    """Take the lease of `store`, waiting as long as it takes to see whether it is held.

    Raises LeaseError where it is, and StoreError.
    """
    while True:
        seen = store.read_if_there(LEASE)
        if seen is not None and not _is_left(store, seen, intervals):
            continue
        lease = own_lease()
        if _claim(store, lease, seen, intervals):
            return lease


def _is_left(store: Store, seen: bytes, intervals: Intervals) -> bool:
    """Whether nobody holds the lease `seen`; False where another one came in its place.

    Raises LeaseError when it beats.
    """
    lease = parse_lease(seen)
    if lease and is_dead(lease):
        return True
    started = time.monotonic()
    while time.monotonic() - started < intervals.watch:
        time.sleep(intervals.beat / 4)
        now = store.read_if_there(LEASE)
        if now == seen:
            continue
        later = parse_lease(now)
        if later and lease and later.owner == lease.owner:
            raise _held(store, later)
        return False
    return True


def _claim(store: Store, lease: Lease, seen: bytes | None, intervals: Intervals) -> bool:
    """Write `lease` in the place of `seen`; whether it stayed."""
    with _exclusive(store, intervals) as is_exclusive:
        started = time.monotonic()
        if store.read_if_there(LEASE) != seen:
            return False
        _write(store, lease)
        took = time.monotonic() - started
    if not is_exclusive:
        # Who wrote later than others waited gives them the time to see it, and to stop.
        late = took > intervals.settle / 2
        time.sleep(intervals.watch if late else intervals.settle)
    found = read_lease(store)
    return found is not None and found.owner == lease.owner


@contextmanager
def _exclusive(store: Store, intervals: Intervals) -> Iterator[bool]:
    """Within, no other process reads and writes the lease; False where that cannot be had.

    A lock ends with its process. A disk without locks, or a process that was suspended with the
    lock, leaves it to the file's last writer, as an object store does.
    """
    if not store.is_local:
        yield False
        return
    lock = FileLock(store.path(_LOCK), timeout=intervals.settle, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        _log.info("the lease is taken without a lock: %s", error)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _write(store: Store, lease: Lease) -> None:
    store.write(LEASE, lease.model_dump_json(indent=1).encode() + b"\n")


def _hear_interruptions() -> None:
    """A process that a shell put in the background ignores SIGINT, and would not hear of a loss."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt() -> None:
    """Interrupt the main thread as Ctrl-C does, also out of a wait."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def _held(store: Store, lease: Lease) -> LeaseError:
    return LeaseError(
        f"another driver is at work on {store.address('').rstrip('/')}",
        found=f"process {lease.pid} on {lease.host}, since {lease.since}, "
        f"whose beat {lease.beat} was at {lease.time}",
        expected="one driver at a time",
        todo="wait until it ends, or end it there; one that was killed is replaced by itself",
    )


def _taken_over(store: Store, taker: Lease | None) -> LeaseError:
    found = f"process {taker.pid} on {taker.host}, since {taker.since}" if taker else None
    return LeaseError(
        f"another driver has taken over {store.address('').rstrip('/')}",
        found=found,
        expected="this driver's lease, which it could not renew: was it suspended?",
        todo="let the other go on; it finds whatever is finished",
    )
