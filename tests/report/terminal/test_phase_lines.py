"""Phases of a command as lines, by a clock that the test sets."""

from __future__ import annotations

import threading

import pytest

from raylab.report.terminal import phase_lines
from raylab.report.terminal.phase_lines import PhaseLines, said_phases, ticking
from raylab.store.phase import Phase


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(phase_lines.time, "time", lambda: now[0])
    return now


def test_phase_that_is_not_counted_has_a_line_at_once_and_again_while_it_lasts(clock):
    said = []
    lines, phase = PhaseLines(said.append), Phase("starting Ray", 100.0)
    while clock[0] < 200:
        lines(phase)
        clock[0] += 1
    assert said[:3] == [
        "starting Ray",
        "starting Ray, 0:05 so far",
        "starting Ray, 0:10 so far",
    ]
    # The distance grows to a tenth of the time so far.
    assert 10 < len(said) < 20
    assert said[-1] > "starting Ray, 1:30 so far"


def test_phase_that_is_counted_and_soon_over_has_no_line(clock):
    said = []
    lines = PhaseLines(said.append)
    for done in range(4):
        lines(Phase("reducing shard", 100.0, done, 4))
        clock[0] += 1
    assert said == []
    clock[0] += 2
    lines(Phase("reducing shard", 100.0, 3, 4))
    assert said == ["reducing shard 3/4, 0:06 so far, 0:02 left"]


def test_phase_whose_line_is_there_has_no_other_at_once(clock):
    said = []
    lines = PhaseLines(said.append, "loading libraries")
    lines(Phase("loading libraries", 100.0))
    clock[0] += 5
    lines(Phase("loading libraries", 100.0))
    assert said == ["loading libraries, 0:05 so far"]


def test_lines_come_while_the_command_waits(clock, monkeypatch):
    monkeypatch.setattr(phase_lines, "_TICK_SECONDS", 0.01)
    said, heard = [], threading.Event()

    def say(line):
        said.append(line)
        if "so far" in line:
            heard.set()

    with said_phases(say) as tell:
        tell("starting Ray")
        clock[0] += 7
        assert heard.wait(30)
    assert said[:2] == ["starting Ray", "starting Ray, 0:07 so far"]


def test_ticks_end_with_the_block(monkeypatch):
    monkeypatch.setattr(phase_lines, "_TICK_SECONDS", 0.01)
    before, ticked = threading.active_count(), threading.Event()
    with ticking(ticked.set):
        assert ticked.wait(30)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
