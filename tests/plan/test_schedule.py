"""The simulated schedule against every possible one, and against what makes a schedule valid."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.errors import InputError
from raylab.plan.cache import plan_states
from raylab.plan.schedule import (
    count_slots,
    critical_paths,
    highest_priority,
    schedule_study,
    simulate,
)
from raylab.plan.trials import plan_trials
from tests.oracles.schedules import best_makespan, problems
from tests.plan.forests import forests
from tests.studies import make_inputs, make_study


@given(forests(most=30), st.integers(1, 5))
def test_simulate_any_forest_is_a_valid_schedule_and_never_below_its_bound(forest, slots):
    parents, durations = forest
    found = simulate(parents, durations, slots)
    assert problems(found.trials, parents, durations, slots) == []
    assert found.bound <= found.makespan
    assert found.work == sum(durations.values())
    assert found.idle == pytest.approx(1 - found.work / (slots * found.makespan))


@settings(max_examples=40, deadline=None)
@given(forests(most=6), st.integers(1, 3))
def test_bound_is_never_above_the_best_of_all_schedules(forest, slots):
    parents, durations = forest
    best = best_makespan(parents, durations, slots)
    found = simulate(parents, durations, slots)
    assert found.bound <= best <= found.makespan
    # Graham 1969: no list schedule takes longer than 2 - 1 / slots times the best.
    assert found.makespan * slots <= (2 * slots - 1) * best


def test_critical_paths_add_the_longest_chain_below():
    parents = {"root": None, "short": "root", "long": "root", "leaf": "short", "alone": "done"}
    durations = {"root": 1, "short": 2, "long": 9, "leaf": 3, "alone": 4}
    paths = critical_paths(parents, durations)
    assert paths == {"root": 10, "short": 5, "long": 9, "leaf": 3, "alone": 4}


def test_highest_priority_of_equals_is_the_first_of_the_plan():
    assert highest_priority(["b", "a", "c"], {"a": 2, "b": 2, "c": 1}) == "b"


def test_simulate_running_trials_start_first_whatever_is_longer():
    parents = {"long": None, "child": "long", "short": None}
    durations = {"long": 9, "child": 9, "short": 1}
    found = simulate(parents, durations, 1, ["short"])
    assert [(item.name, item.start) for item in found.trials] == [
        ("short", 0),
        ("long", 1),
        ("child", 10),
    ]


def test_simulate_long_chain_starts_before_many_short_trials():
    parents = {**dict.fromkeys("abcd"), "root": None, "child": "root"}
    durations = {**dict.fromkeys("abcd", 3), "root": 4, "child": 4}
    found = simulate(parents, durations, 2)
    assert found.trials[0].name == "root"
    assert (found.makespan, found.bound) == (11, 10)


def test_simulate_nothing_to_run_ends_at_once():
    found = simulate({}, {}, 3)
    assert (found.trials, found.makespan, found.bound, found.idle) == ((), 0, 0, 0)


@pytest.mark.parametrize(
    ("gpus", "each", "slots"),
    [(4, 1, 4), (4, 0.5, 8), (1, 0.1, 10), (2, 0.4, 4), (3, 0.7, 3), (5, 2, 2)],
)
def test_slots_of_fractions_share_a_gpu_but_never_span_two(gpus, each, slots):
    assert count_slots(gpus, each) == slots


def test_slots_of_too_few_gpus_is_an_input_error():
    with pytest.raises(InputError, match="no trial fits"):
        count_slots(1, 2)


def test_schedule_study_counts_what_is_not_cached():
    study = make_study(seeds=[1], resources={"gpus": 0.5})
    inputs = make_inputs(study)
    states = plan_states(plan_trials(study, inputs), {})
    found = schedule_study(study, inputs, states, {}, 1)
    assert (found["slots"], found["unit"], found["gpu_hours"]) == (2, "sft_steps", None)
    names = [item["name"] for item in found["trials"]]
    assert names[:2] == ["tiny.first.s1", "tiny.alone.s1"]
    assert len(names) == 5
    assert found["bound"] <= found["makespan"] <= found["work"]


def test_simulate_first_go_before_longer_ones_on_one_slot():
    parents, durations = dict.fromkeys(("long", "short")), {"long": 9.0, "short": 1.0}
    found = simulate(parents, durations, 1, first={"short"})
    assert [item.name for item in found.trials] == ["short", "long"]
