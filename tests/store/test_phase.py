"""What work is at: told seldom, kept, and written in one way."""

from __future__ import annotations

import pytest

from raylab.store import phase as phases
from raylab.store.filesystem import Store
from raylab.store.phase import (
    STUDY_PHASE,
    Phase,
    PhaseTeller,
    phase_line,
    phase_of,
    read_study_phase,
    write_study_phase,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets: both of its faces show the same."""
    now = [100.0]
    monkeypatch.setattr(phases.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(phases.time, "time", lambda: now[0])
    return now


def test_phase_text_counts_where_it_can():
    assert Phase("answering", 0.0, 8, 32).text == "answering 8/32"
    assert Phase("starting Ray", 0.0).text == "starting Ray"


@pytest.mark.parametrize(
    ("phase", "left"),
    [
        (Phase("a", 100.0, 2, 8), 30.0),
        (Phase("a", 100.0, 8, 8), 0.0),
        (Phase("a", 100.0, 0, 8), None),
        (Phase("a", 100.0), None),
    ],
)
def test_phase_seconds_left_is_that_of_the_speed_so_far(phase, left):
    assert phase.seconds_left(110.0) == left


def test_phase_line_has_the_time_so_far_and_left():
    assert phase_line(Phase("answering", 100.0, 2, 8), 110.0) == (
        "answering 2/8, 0:10 so far, 0:30 left"
    )
    assert phase_line(Phase("starting Ray", 100.0), 110.0) == "starting Ray, 0:10 so far"


def test_teller_tells_a_new_name_at_once_and_a_count_seldom(clock):
    told = []
    tell = PhaseTeller(told.append)
    for step in range(9):
        tell("answering", step, 9)
        clock[0] += 0.5
    tell("likelihoods", 0, 2)
    assert [phase.text for phase in told] == [
        "answering 0/9",
        "answering 4/9",
        "answering 8/9",
        "likelihoods 0/2",
    ]
    assert [phase.started for phase in told] == [100.0, 100.0, 100.0, 104.5]


def test_teller_of_a_phase_that_comes_back_tells_it_seldom_and_from_its_new_start(clock):
    told = []
    tell = PhaseTeller(told.append)
    for name in ("training", "held-out loss", "training"):
        tell(name, 1, 9)
        clock[0] += 1
    tell("training", 2, 9)
    assert [(p.text, p.started) for p in told] == [
        ("training 1/9", 100.0),
        ("held-out loss 1/9", 101.0),
        ("training 2/9", 102.0),
    ]


def test_study_phase_comes_back_from_the_store_and_a_damaged_one_is_none(tmp_path):
    store = Store(str(tmp_path))
    assert read_study_phase(store) is None
    phase = Phase("reducing, shard", 12.0, 3, 20)
    write_study_phase(store, phase)
    assert read_study_phase(store) == phase
    store.write(STUDY_PHASE, b'{"phase": 3')
    assert read_study_phase(store) is None


@pytest.mark.parametrize(
    "damage", [{"name": 3}, {"started": None}, {"done": "x"}, {"of": "x"}, {"more": 1}]
)
def test_phase_of_a_damaged_progress_is_none(damage):
    whole = Phase("answering", 12.0, 3, 20)
    assert phase_of(whole.document) == whole
    assert phase_of({"phase": whole.document["phase"] | damage}) in (None, whole)
    assert phase_of({"phase": "answering"}) is None
    assert phase_of({}) is phase_of(None) is None


def test_study_phase_that_cannot_be_stored_stops_no_work(tmp_path):
    (tmp_path / "file").write_text("")
    write_study_phase(Store(str(tmp_path / "file")), Phase("reducing", 0.0))
