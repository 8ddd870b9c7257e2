"""The lease of a running driver: two drivers must not work on one OUT.

Model: OUT/lease.json names its owner and counts heartbeats. A second driver that finds a lease
watches it. If its count changes, the lease is held. If it stays the same for `expiry` seconds of
the watcher's own clock, or its process is known to have ended, it is abandoned. A free lease is
taken by writing one's own; its owner is then read back: at once under a lock on a local disk,
after `settle` seconds on an object store, where only the last write is certain to stay. No clock
of another machine is used.
Invariant: of several drivers that start on one OUT, one goes on. A holder that reads another
owner in the file writes nothing more to it, and its driver is interrupted. A store that fails,
for however long, does not lose the lease.
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
from raylab.store.process_identity import Lease, is_dead, new_lease, parse_lease

LEASE = "lease.json"
_LOCK = ".lease.lock"

_log = logging.getLogger("raylab.store")


@dataclass(frozen=True)
class Intervals:
    """Seconds in the life of a lease."""

    heartbeat: float = 5.0
    expiry: float = 18.0
    """How long a lease must stay unchanged to be abandoned; more than one heartbeat may fail."""
    settle: float = 2.0
    """How long the writer on an object store waits before it reads whether it was the last."""


class HeldLease:
    """A lease that this process holds; `lost` is set when another owner is read in the file."""

    def __init__(
        self, store: Store, lease: Lease, intervals: Intervals, on_lost: Callable[[], None]
    ) -> None:
        """`lease` is in the store already; its heartbeat does not run yet."""
        # A heartbeat that fails is followed by the next: it must not block the thread for minutes.
        self._store, self._intervals = store.with_timeout(intervals.heartbeat), intervals
        self._on_lost, self.lease = on_lost, lease
        self.lost, self._stopped = threading.Event(), threading.Event()
        self.new_owner: Lease | None = None
        self._thread = threading.Thread(target=self._run_heartbeat, name="lease", daemon=True)

    def start(self) -> None:
        """Start the heartbeat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the heartbeat, and delete the lease if this process still owns it."""
        self._stopped.set()
        self._thread.join()
        try:
            with _exclusive(self._store, self._intervals):
                found = read_lease(self._store)
                if found and found.owner == self.lease.owner:
                    self._store.delete(LEASE)
        except StoreError as error:
            _log.warning("the lease could not be deleted; it will expire: %s", error)

    def check(self) -> None:
        """Raise LeaseError if the lease is lost."""
        if self.lost.is_set():
            raise _lost_error(self._store, self.new_owner)

    def _run_heartbeat(self) -> None:
        while not self._stopped.wait(self._intervals.heartbeat):
            try:
                self._renew()
            except StoreError as error:
                _log.warning("the lease could not be renewed; this is tried again: %s", error)
            if self.lost.is_set():
                if not self._stopped.is_set():
                    self._on_lost()
                return

    def _renew(self) -> None:
        with _exclusive(self._store, self._intervals):
            found = read_lease(self._store)
            if found and found.owner != self.lease.owner:
                self.new_owner = found
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
    """Hold the lease of `store` inside the block. Use it in the main thread, around all writes.

    When another driver takes the lease over, `on_lost` is called in the heartbeat's thread. The
    default interrupts the main thread as Ctrl-C does, and the block then ends with LeaseError.
    Raises LeaseError if another driver holds the store, and StoreError.
    """
    _restore_interrupts()
    intervals = intervals or Intervals()
    held = HeldLease(store, acquire(store, intervals), intervals, on_lost or _interrupt_main_thread)
    held.start()
    try:
        try:
            yield held
        finally:
            held.stop()
    except BaseException:
        held.check()  # If the lease is lost, that is the cause of the interruption.
        raise
    held.check()


def read_lease(store: Store) -> Lease | None:
    """The lease in the store, whoever owns it, or None. Raises StoreError."""
    return parse_lease(store.read_if_there(LEASE))


def acquire(store: Store, intervals: Intervals) -> Lease:
    """Take the lease of `store`; wait until it is clear whether another driver holds it.

    Raises LeaseError if one does, and StoreError.
    """
    while True:
        seen = store.read_if_there(LEASE)
        if seen is not None and not _is_abandoned(store, seen, intervals):
            continue
        lease = new_lease()
        if _claim(store, lease, seen, intervals):
            return lease


def _is_abandoned(store: Store, seen: bytes, intervals: Intervals) -> bool:
    """Whether nobody holds the lease `seen`; False if another lease replaces it.

    Raises LeaseError if its heartbeat runs.
    """
    lease = parse_lease(seen)
    if lease and is_dead(lease):
        return True
    started = time.monotonic()
    while time.monotonic() - started < intervals.expiry:
        time.sleep(intervals.heartbeat / 4)
        now = store.read_if_there(LEASE)
        if now == seen:
            continue
        later = parse_lease(now)
        if later and lease and later.owner == lease.owner:
            raise _held_error(store, later)
        return False
    return True


def _claim(store: Store, lease: Lease, seen: bytes | None, intervals: Intervals) -> bool:
    """Replace `seen` by `lease`; return whether `lease` stays."""
    with _exclusive(store, intervals) as is_exclusive:
        started = time.monotonic()
        if store.read_if_there(LEASE) != seen:
            return False
        _write(store, lease)
        write_seconds = time.monotonic() - started
    if not is_exclusive:
        # A slow write may come after another driver's `settle`: give that driver time to see it.
        is_slow = write_seconds > intervals.settle / 2
        time.sleep(intervals.expiry if is_slow else intervals.settle)
    found = read_lease(store)
    return found is not None and found.owner == lease.owner


@contextmanager
def _exclusive(store: Store, intervals: Intervals) -> Iterator[bool]:
    """Exclude other processes from the lease file; False if that is not possible.

    A lock ends with its process. Without a lock (an object store, a disk without locks, a process
    that was suspended while it held the lock), the last write stays.
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


def _restore_interrupts() -> None:
    """Handle SIGINT again: a shell makes its background processes ignore it."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt_main_thread() -> None:
    """Interrupt the main thread as Ctrl-C does, even while it waits."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def _held_error(store: Store, lease: Lease) -> LeaseError:
    return LeaseError(
        f"another driver is at work on {store.address('').rstrip('/')}",
        found=f"process {lease.pid} on {lease.host}, since {lease.since}, "
        f"whose beat {lease.beat} was at {lease.time}",
        expected="one driver at a time",
        todo="wait until it ends, or end it there; a driver that was killed is replaced by itself",
    )


def _lost_error(store: Store, new_owner: Lease | None) -> LeaseError:
    found = None
    if new_owner:
        found = f"process {new_owner.pid} on {new_owner.host}, since {new_owner.since}"
    return LeaseError(
        f"another driver has taken over {store.address('').rstrip('/')}",
        found=found,
        expected="this driver's lease, which it could not renew; perhaps it was suspended",
        todo="let the other driver go on; it continues with whatever is finished",
    )
