"""Where a study in progress is shown: in place on a terminal, in lines elsewhere."""

from __future__ import annotations

import io
import itertools

import pytest

from raylab.report.terminal import live_display
from raylab.report.terminal.live_display import (
    LineDisplay,
    TableDisplay,
    changes,
    open_display,
    watch,
)
from raylab.store.phase import Phase

RUNNING = {"name": "a", "status": "running", "method": "sft", "phase": "training 1/2", "loss": 0.5}
DONE = {**RUNNING, "status": "done", "seconds": 3.0, "l2": 1.0}


def not_driven():
    """No driver is there."""
    return False


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def short_pause(monkeypatch):
    monkeypatch.setattr(live_display, "_WATCH_SECONDS", 0)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_open_display_draws_a_table_on_terminals_that_can_move_their_cursor_only(
    terminal, monkeypatch
):
    assert isinstance(open_display(terminal, timed=True), TableDisplay)
    assert isinstance(open_display(io.StringIO(), timed=True), LineDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_display(terminal, timed=True), LineDisplay)


def test_table_display_keeps_lines_above_its_table_and_gives_the_cursor_back(terminal):
    display = open_display(terminal, timed=True)
    display.write_line("[0/1] a  step", transient=True)
    display.update([RUNNING])
    display.write_line("[1/1] [a]  done")
    display.close()
    text = terminal.getvalue()
    assert "[0/1] a  step" not in text
    assert "[1/1] [a]  done" in text
    assert text.index("\x1b[?25l") < text.index("1 trial: 1 running") < text.index("\x1b[?25h")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_table_display_that_is_not_timed_shows_no_time(terminal):
    display = open_display(terminal, timed=False)
    display.update([RUNNING])
    display.close()
    assert "so far" not in terminal.getvalue()


def test_table_display_shows_the_time_left_that_it_is_given(terminal):
    def left(rows, now):
        return 130.0 if rows == [RUNNING] else None

    display = open_display(terminal, timed=True, left=left)
    display.update([RUNNING])
    display.close()
    assert "about 2.2 min of training left" in terminal.getvalue()


def test_table_display_draws_seldom_however_often_it_is_asked(terminal):
    display = open_display(terminal, timed=True)
    for _ in range(100):
        display.update([RUNNING])
    assert terminal.getvalue().count("1 trial: 1 running") == 1
    display.close()


def test_watch_ends_with_the_study_and_prints_changes():
    stream, looks = io.StringIO(), iter([[RUNNING], [RUNNING], [DONE]])
    assert watch(lambda: next(looks), LineDisplay(stream), not_driven) == [DONE]
    assert stream.getvalue().splitlines() == [
        "1 trial: 1 running",
        "[0/1] a  training 1/2  loss 0.5",
        "[1/1] a  done in 3.0 s  L2 1",
    ]


def test_watch_that_the_user_ends_gives_the_cursor_back(terminal):
    def read():
        if "1 running" in terminal.getvalue():
            raise KeyboardInterrupt
        return [RUNNING]

    assert watch(read, open_display(terminal, timed=False), not_driven) == [RUNNING]
    assert "\x1b[?25h" in terminal.getvalue()


def test_watch_ends_when_the_driver_has_left_whatever_waits():
    waiting, drivers = [{**RUNNING, "status": "pending"}], iter([False, True, True, False])
    assert watch(lambda: waiting, LineDisplay(io.StringIO()), lambda: next(drivers)) == waiting


@pytest.mark.parametrize("status", ["failed", "blocked", "done"])
def test_watch_of_an_ended_study_looks_once(status):
    looks = iter([[{**DONE, "status": status}]])
    watch(lambda: next(looks), LineDisplay(io.StringIO()), not_driven)


def test_watch_goes_on_while_the_driver_is_at_something_though_no_trial_runs():
    stream, drivers = io.StringIO(), iter([True, True, False])
    phases = iter([Phase("starting Ray", 0.0), Phase("reducing shard", 0.0, 3, 20)])
    watch(lambda: [DONE], LineDisplay(stream), lambda: next(drivers), lambda: next(phases))
    assert stream.getvalue().splitlines() == ["1 trial: 1 done", "starting Ray"]


def test_changes_says_each_quarter_of_a_training_once():
    steps = [row("running", **at(step)) for step in range(1, 41)]
    said = [line for before, after in itertools.pairwise(steps) for line in texts(before, after)]
    assert [text.split()[2:4] for text, transient in said if transient] == [
        ["training", "10/40"],
        ["training", "20/40"],
        ["training", "30/40"],
    ]


def test_changes_of_a_start_says_it():
    assert texts(row("pending"), row("running", **at(0))) == [("[1/2] demo.a.s1  starts", True)]


def at(step):
    """The progress at a step of 40."""
    return PROGRESS | {"phase": f"training {step}/40", "step": step, "steps": 40}


def row(status, **more):
    return {"name": "demo.a.s1", "status": status, "method": "sft", **more}


OTHER = {"name": "demo.b.s1", "status": "done", "method": "sft"}
PROGRESS = {
    "phase": "training 3/9",
    "loss": 0.12344,
    "tokens_per_second": 612.4,
    "seconds_left": 80.6,
}


def texts(before, after):
    return list(changes([before, OTHER], [after, OTHER]))


def test_changes_at_the_first_look_is_the_totals_and_what_runs():
    assert list(changes([], [row("running", **PROGRESS), OTHER])) == [
        ("2 trials: 1 done, 1 running", False),
        ("[1/2] demo.a.s1  training 3/9  loss 0.1234  612 tokens/s  81 s left", True),
    ]


def test_changes_of_an_unchanged_trial_is_none():
    assert texts(row("running", **PROGRESS), row("running", **PROGRESS)) == []
    assert texts(row("failed", cause="oom"), row("failed", cause="oom")) == []


def test_changes_of_a_step_without_a_rate_leaves_the_rate_out():
    after = row("running", **at(10) | {"tokens_per_second": None})
    (line,) = texts(row("running", **at(9)), after)
    assert line == ("[1/2] demo.a.s1  training 10/40  loss 0.1234  81 s left", True)


def test_changes_of_an_end_says_what_became_of_it():
    done = texts(row("running", **PROGRESS), row("done", seconds=14.52, l2=8.5091))
    assert done == [("[2/2] demo.a.s1  done in 14.5 s  L2 8.509", False)]
    (failed,) = texts(row("running", **PROGRESS), row("failed", cause="oom", message="long"))
    assert failed == ("[1/2] demo.a.s1  failed: oom; the trial table says why", False)
    (blocked,) = texts(row("pending"), row("blocked", message="its parent x is failed"))
    assert blocked == ("[1/2] demo.a.s1  its parent x is failed", False)
