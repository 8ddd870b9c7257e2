"""Where a study in progress is shown: in place on a terminal, in lines elsewhere."""

from __future__ import annotations

import io

import pytest

from raylab.report.terminal import live_display as screen
from raylab.report.terminal.live_display import Lines, Screen, outlet, watch

RUNNING = {"name": "a", "status": "running", "method": "sft", "step": 1, "steps": 2, "loss": 0.5}
DONE = {**RUNNING, "status": "done", "seconds": 3.0, "l2": 1.0}


def alone():
    """No driver is there."""
    return False


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(screen, "_WATCH_SECONDS", 0)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_outlet_is_a_screen_on_terminals_that_can_move_their_cursor_only(terminal, monkeypatch):
    assert isinstance(outlet(terminal, timed=True), Screen)
    assert isinstance(outlet(io.StringIO(), timed=True), Lines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(outlet(terminal, timed=True), Lines)


def test_screen_keeps_lines_above_its_table_and_gives_the_cursor_back(terminal):
    out = outlet(terminal, timed=True)
    out.say("[0/1] a  step", passing=True)
    out.show([RUNNING])
    out.say("[1/1] [a]  done")
    out.close()
    text = terminal.getvalue()
    assert "[0/1] a  step" not in text
    assert "[1/1] [a]  done" in text
    assert text.index("\x1b[?25l") < text.index("1 trial: 1 running") < text.index("\x1b[?25h")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_screen_that_is_not_timed_shows_no_time(terminal):
    out = outlet(terminal, timed=False)
    out.show([RUNNING])
    out.close()
    assert "so far" not in terminal.getvalue()


def test_screen_draws_seldom_however_often_it_is_asked(terminal):
    out = outlet(terminal, timed=True)
    for _ in range(100):
        out.show([RUNNING])
    assert terminal.getvalue().count("1 trial: 1 running") == 1
    out.close()


def test_watch_ends_with_the_study_and_prints_changes():
    stream, looks = io.StringIO(), iter([[RUNNING], [RUNNING], [DONE]])
    assert watch(lambda: next(looks), Lines(stream), alone) == [DONE]
    assert stream.getvalue().splitlines() == [
        "1 trial: 1 running",
        "[0/1] a  step 1/2  loss 0.5",
        "[1/1] a  done in 3.0 s  L2 1",
    ]


def test_watch_that_the_user_ends_gives_the_cursor_back(terminal):
    def read():
        if "1 running" in terminal.getvalue():
            raise KeyboardInterrupt
        return [RUNNING]

    assert watch(read, outlet(terminal, timed=False), alone) == [RUNNING]
    assert "\x1b[?25h" in terminal.getvalue()


def test_watch_ends_when_the_driver_has_left_whatever_waits():
    waiting, drivers = [{**RUNNING, "status": "pending"}], iter([False, True, True, False])
    assert watch(lambda: waiting, Lines(io.StringIO()), lambda: next(drivers)) == waiting


@pytest.mark.parametrize("status", ["failed", "blocked", "done"])
def test_watch_of_an_ended_study_looks_once(status):
    looks = iter([[{**DONE, "status": status}]])
    watch(lambda: next(looks), Lines(io.StringIO()), alone)
