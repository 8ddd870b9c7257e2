"""The lease of a driver, between real processes: killed, suspended, many at once, on S3."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from raylab.errors import LeaseError
from raylab.store import process_identity
from raylab.store.filesystem import Store
from raylab.store.lease import LEASE, hold_lease, read_lease
from raylab.store.process_identity import new_lease
from tests.object_store import QUICK
from tests.store.holds_lease import FAST

ROOT = Path(__file__).parents[2]
SLACK = 3.0


class Driver:
    """A second process that holds, or tries to hold, the lease of `out`."""

    def __init__(self, out: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.holds_lease", out],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def next_message(self) -> list:
        """The next line that it writes."""
        return json.loads(self.process.stdout.readline())

    def go(self) -> None:
        """Let it begin, or end."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@pytest.fixture
def drive():
    """Starts drivers, and ends them with the test."""
    drivers = []

    def start(out: str, count: int = 1) -> list[Driver]:
        new = [Driver(out) for _ in range(count)]
        drivers.extend(new)
        assert [driver.next_message() for driver in new] == [["ready"]] * count
        return new

    yield start
    for driver in drivers:
        driver.process.kill()
        driver.process.communicate()


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "out"), QUICK)
    store.prepare()
    return store


def started(drive, out) -> Driver:
    (driver,) = drive(out)
    driver.go()
    assert driver.next_message()[0] == "held"
    return driver


def elsewhere(lease, **changes):
    """The same lease as of another machine."""
    return lease.model_copy(update={"host": "far-away", "kernel": "another boot", **changes})


def leave(store, lease):
    store.write(LEASE, lease.model_dump_json().encode())


def test_lease_beats_while_held_and_is_gone_afterwards(store):
    with hold_lease(store, FAST) as held:
        first = read_lease(store)
        assert (first.owner, first.pid, first.beat) == (held.lease.owner, os.getpid(), 0)
        time.sleep(3 * FAST.heartbeat)
        assert read_lease(store).beat > first.beat
        assert read_lease(store).since == first.since
    assert read_lease(store) is None
    assert store.names("") == [".lease.lock"]


def test_lease_taken_at_once_where_none_is(store):
    begun = time.monotonic()
    with hold_lease(store):
        assert time.monotonic() - begun < 1


def test_lease_freed_when_the_work_fails(store):
    with pytest.raises(RuntimeError, match="work"), hold_lease(store, FAST):
        raise RuntimeError("work")
    assert read_lease(store) is None


def test_second_driver_while_the_first_beats_is_refused(store, drive):
    first = started(drive, store.uri)
    with pytest.raises(LeaseError) as caught, hold_lease(store, FAST):
        pass
    message = caught.value.message
    assert caught.value.exit_status == 1
    lease = read_lease(store)
    for word in (store.root, str(first.process.pid), lease.host, lease.since, "beat", "to do"):
        assert word in message
    (second,) = drive(store.uri)
    second.go()
    what, message, status = second.next_message()
    assert (what, status) == ("refused", 1)
    assert str(first.process.pid) in message
    assert read_lease(store).owner == lease.owner


def test_driver_that_ended_leaves_the_way_free(store, drive):
    first = started(drive, store.uri)
    first.go()
    assert first.next_message() == ["done"]
    with hold_lease(store, FAST):
        pass


def test_killed_driver_of_this_machine_is_replaced_at_once(store, drive):
    first = started(drive, store.uri)
    first.signal(signal.SIGKILL)
    first.process.wait()
    begun = time.monotonic()
    with hold_lease(store) as held:
        assert time.monotonic() - begun < 1
        assert held.lease.owner == read_lease(store).owner


def test_killed_driver_of_another_machine_is_replaced_when_it_was_watched(store):
    leave(store, elsewhere(new_lease(), pid=1))
    begun = time.monotonic()
    with hold_lease(store, FAST):
        assert FAST.expiry <= time.monotonic() - begun < FAST.expiry + SLACK


def test_clock_of_another_machine_is_not_believed(store, drive):
    """A lease from the year 2000 whose beat moves is held; one from the future is not."""
    lease = elsewhere(new_lease(), time="2000-01-01 00:00:00 +0000")
    leave(store, lease)
    end = threading.Event()

    def beat():
        now = lease
        while not end.wait(FAST.heartbeat):
            now = now.model_copy(update={"beat": now.beat + 1})
            leave(store, now)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(LeaseError, match="far-away"), hold_lease(store, FAST):
            pass
    finally:
        end.set()
        beating.join()
    leave(store, elsewhere(new_lease(), time="2999-01-01 00:00:00 +0000"))
    with hold_lease(store, FAST):
        pass


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"owner": 1}', b'{"pid": -1}'])
def test_lease_that_cannot_be_read_is_watched_and_replaced(text, store):
    store.write(LEASE, text)
    with hold_lease(store, FAST) as held:
        assert read_lease(store).owner == held.lease.owner


def test_suspended_driver_is_replaced_and_stops_when_it_wakes(store, drive):
    first = started(drive, store.uri)
    first.signal(signal.SIGSTOP)
    with hold_lease(store, FAST) as held:
        woken = time.monotonic()
        first.signal(signal.SIGCONT)
        what, message, status = first.next_message()
        assert time.monotonic() - woken < SLACK
        assert (what, status) == ("lost", 1)
        assert str(os.getpid()) in message
        assert read_lease(store).owner == held.lease.owner
    assert read_lease(store) is None


def test_suspended_driver_that_wakes_in_time_goes_on(store, drive):
    first = started(drive, store.uri)
    first.signal(signal.SIGSTOP)
    time.sleep(FAST.expiry / 3)
    first.signal(signal.SIGCONT)
    time.sleep(FAST.expiry)
    first.go()
    assert first.next_message() == ["done"]


def test_lost_lease_calls_on_lost_once(store):
    calls = []
    holding = hold_lease(store, FAST, lambda: calls.append(time.monotonic()))
    thief = elsewhere(new_lease())
    with pytest.raises(LeaseError, match="far-away"), holding as held:
        held.check()
        leave(store, thief)
        assert held.lost.wait(SLACK)
        time.sleep(3 * FAST.heartbeat)
    with pytest.raises(LeaseError, match="far-away"):
        held.check()
    assert len(calls) == 1
    assert read_lease(store) == thief


def test_interruption_by_the_user_stays_one(store):
    with pytest.raises(KeyboardInterrupt), hold_lease(store, FAST):
        raise KeyboardInterrupt
    assert read_lease(store) is None


LEFT = {
    "nothing": lambda: None,
    "dead": lambda: new_lease().model_copy(update={"pid": 1 << 22}),
    "far": lambda: elsewhere(new_lease()),
}


def storm(store, drivers, left):
    """Let all begin at once over what was left there; the one that held it, and goes on."""
    if lease := LEFT[left]():
        leave(store, lease)
    for driver in drivers:
        driver.go()
    messages = [driver.next_message()[0] for driver in drivers]
    assert sorted(messages) == ["held", *["refused"] * 4]
    winner = drivers[messages.index("held")]
    time.sleep(3 * FAST.heartbeat)
    winner.go()
    assert winner.next_message() == ["done"]
    assert read_lease(store) is None


def test_storm_of_five_starters_has_one_winner(store, drive):
    drivers = drive(store.uri, 5)
    for left in LEFT:
        storm(store, drivers, left)


def test_storm_on_s3_has_one_winner(remote, drive):
    drivers = drive(remote.uri, 5)
    for left in ("nothing", "far"):
        storm(remote, drivers, left)


def test_store_that_fails_for_long_is_no_loss(remote, proxy):
    with hold_lease(remote, FAST) as held:
        with proxy.failing(lambda request: "internal"):
            time.sleep(FAST.expiry + 5 * FAST.heartbeat)
        assert len(proxy.seen) > 3
        assert not held.lost.is_set()
        before = held.lease.beat
        time.sleep(5 * FAST.heartbeat)
        assert read_lease(remote).beat > before
    assert read_lease(remote) is None


def test_lease_on_s3_is_refused_then_taken_over(remote, drive):
    first = started(drive, remote.uri)
    with pytest.raises(LeaseError, match=str(first.process.pid)), hold_lease(remote, FAST):
        pass
    first.signal(signal.SIGSTOP)
    with hold_lease(remote, FAST) as held:
        first.signal(signal.SIGCONT)
        assert first.next_message()[0] == "lost"
        assert read_lease(remote).owner == held.lease.owner


def test_dead_process_differs_from_one_whose_id_is_used_again():
    mine = new_lease()
    assert not process_identity.is_dead(mine)
    assert process_identity.is_dead(mine.model_copy(update={"started": "1"}))
    assert process_identity.is_dead(mine.model_copy(update={"pid": 1 << 22}))
    for kernel in ("", "another boot"):
        unknown = mine.model_copy(update={"pid": 1 << 22, "kernel": kernel})
        assert not process_identity.is_dead(unknown)


def test_process_that_ended_but_was_not_waited_for_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lease = new_lease().model_copy(
        update={"pid": child.pid, "started": process_identity._start_time(child.pid)}
    )
    assert not process_identity.is_dead(lease)
    child.kill()
    time.sleep(0.2)
    assert process_identity.is_dead(lease)
    child.communicate()
    assert process_identity.is_dead(lease)
