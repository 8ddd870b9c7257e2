"""What OUT holds beside a study is counted and named, whoever it belongs to."""

from __future__ import annotations

import pytest

from raylab.results.left_out import left_out, lines_of, missing_rows, some_of
from raylab.store.filesystem import Store
from raylab.store.records import Record, trial_key, write_record
from raylab.store.studies import make_room
from raylab.store.study_plan import NamedResult, StudyPlan, write_plan


def id_of(number):
    return f"{number:016x}"


def finish(store, name, number):
    record = Record(
        name=name, id=id_of(number), identity={}, data={}, evaluation="", versions={}, metrics={}
    )
    write_record(store, f"{name}-{id_of(number)}", record)


def plan(study, names):
    results = [NamedResult(name=n, id=id_of(i), base_model="tiny") for n, i in names.items()]
    return StudyPlan(study=study, results=tuple(results))


@pytest.fixture
def store(tmp_path):
    """OUT with four results; the study that ran before names two of them anew."""
    store = Store(str(tmp_path / "out"))
    for number, name in enumerate("abcd"):
        finish(store, f"tiny.{name}.s1", number)
    write_plan(store, plan("large", {"tiny.new-a.s1": 0, "tiny.c.s1": 2}))
    make_room(store, "small")
    write_plan(store, plan("small", {"tiny.c.s1": 2}))
    return store


def test_results_of_other_studies_have_the_names_that_these_give_them(store):
    small = plan("small", {"tiny.c.s1": 2, "tiny.not-done.s1": 9})
    assert left_out(store, small) == ["tiny.b.s1", "tiny.d.s1", "tiny.new-a.s1 (large)"]
    assert left_out(store, plan("all", {"x": 0, "y": 1, "z": 2, "w": 3})) == []


def test_result_that_is_not_finished_is_not_left_out(store):
    store.write(trial_key(f"tiny.e.s1-{id_of(7)}", "log.txt"), b"")
    assert not any("tiny.e" in name for name in left_out(store, plan("none", {})))


def test_lines_name_the_results_and_the_other_studies(store):
    first, second = lines_of(store, "small", left_out(store, plan("small", {"tiny.c.s1": 2})))
    assert "3 finished results" in first and "small" in first and "tiny.new-a.s1 (large)" in first
    assert "large" in second and f"{store.root}/studies/large/report" in second
    (line,) = lines_of(store, "large", [])
    assert "small" in line and f"{store.root}/report" in line


def test_lines_of_a_study_that_is_alone_are_none(tmp_path):
    store = Store(str(tmp_path / "out"))
    finish(store, "tiny.a.s1", 0)
    alone = plan("alone", {"tiny.a.s1": 0})
    write_plan(store, alone)
    assert lines_of(store, "alone", left_out(store, alone)) == []


def test_tables_of_another_version_are_told_from_those_of_the_study():
    assert missing_rows(["a", "b"], ["b", "a"]) is None
    less = missing_rows(["a", "b", "c"], ["a"])
    assert less is not None and "lack 2 of 3 rows (b, c)" in less and "have" not in less
    more = missing_rows(["a"], ["a", "x"])
    assert more is not None and "have 1 that the study does not name (x)" in more
    assert "lack" not in more


def test_long_lists_are_cut_with_a_count():
    assert some_of(list("abcde")) == "a, b, c, d, e"
    assert some_of(list("abcdefg")) == "a, b, c, d, e and 2 more"
