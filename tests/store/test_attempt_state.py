"""The state of a running attempt, and the attempt that is recorded when its process has died."""

from __future__ import annotations

import time

import pytest

from raylab.store.attempt_state import (
    RUNNING,
    RunningAttempt,
    begin_attempt,
    clear_stop_request,
    finish_attempt,
    hang_stack_file,
    kernel_oom_kills,
    read_running,
    request_stop,
    stop_checker,
    take_hang_stack,
)
from raylab.store.filesystem import Store
from raylab.store.records import read_attempts


@pytest.fixture
def store(tmp_path, scratch):
    return Store(str(tmp_path / "out"))


def running(attempt=1):
    return RunningAttempt(attempt=attempt, node="n", started=time.time(), oom_kills=0)


def test_running_attempt_that_is_closed_leaves_an_attempt_and_no_trace(store):
    begun = begin_attempt(store, "t-1", running())
    assert read_running(store, "t-1") == begun
    finish_attempt(store, "t-1", begun)
    assert read_running(store, "t-1") is None
    (ended,) = read_attempts(store, "t-1")
    assert (ended.cause, ended.final, ended.node) == (None, True, "n")
    assert ended.started == begun.started
    assert 0 <= time.time() - (ended.started + ended.seconds) < 10


def test_running_attempt_without_a_start_has_no_seconds(store):
    finish_attempt(
        store, "t-1", RunningAttempt(attempt=1, node="", started=0, oom_kills=0), cause="preempted"
    )
    (ended,) = read_attempts(store, "t-1")
    assert (ended.started, ended.seconds) == (0, 0)


def test_running_attempt_that_was_lost_is_an_attempt_once_the_next_begins(store):
    begin_attempt(store, "t-1", running())
    assert begin_attempt(store, "t-1", running()).attempt == 2
    (lost,) = read_attempts(store, "t-1")
    assert (lost.attempt, lost.cause, lost.final) == (1, "preempted", False)


def test_running_attempt_that_is_damaged_counts_as_none(store):
    store.write(f"trials/t-1/{RUNNING}", b'{"attempt": 1, "no')
    assert read_running(store, "t-1") is None
    assert begin_attempt(store, "t-1", running()).attempt == 1


def test_stop_requested_and_cleared_is_what_the_checker_returns(store):
    should_stop = stop_checker(store)
    assert not should_stop()
    request_stop(store)
    assert should_stop()
    clear_stop_request(store)
    assert not should_stop()


def test_hang_stack_of_a_trial_is_taken_once(store):
    file = hang_stack_file(store, "abc")
    file.parent.mkdir(parents=True)
    file.write_text("Thread 0x1")
    assert take_hang_stack(store, "abc") == "Thread 0x1"
    assert take_hang_stack(store, "abc") == ""


def test_kernel_oom_kills_of_this_machine_are_a_count():
    assert kernel_oom_kills() >= 0
