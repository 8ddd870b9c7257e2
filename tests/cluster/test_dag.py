"""Which trial may start next, without Ray running."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from raylab.cluster.dag import Dag, DagSearcher, Searcher
from raylab.plan.schedule import simulate
from tests.plan.forests import forests


def trial(name, parent=None, lineage=()):
    return SimpleNamespace(name=name, id=name, parent=parent, lineage=lineage)


FAMILY = [
    trial("single"),
    trial("root"),
    trial("child", "root", ("root",)),
    trial("grandchild", "child", ("root", "child")),
]


def test_take_longest_way_below_comes_first():
    dag = Dag(FAMILY, frozenset())
    assert [dag.take().name, dag.take().name, dag.take()] == ["root", "single", None]


def test_take_longest_time_below_comes_before_the_most_trials():
    durations = {"single": 9, "root": 1, "child": 2, "grandchild": 3}
    assert Dag(FAMILY, frozenset(), durations).take().name == "single"


@given(forests(most=12), st.integers(1, 3), st.integers(0, 3))
def test_take_any_forest_goes_as_simulated(forest, slots, some):
    """Driven by the simulated clock, it hands out the same trials in the same order."""
    parents, durations = forest
    first = sorted(parents)[:some]
    trials = [trial(*item) for item in parents.items()]
    dag = Dag(trials, frozenset({"done"}), durations, first)
    found = simulate(parents, durations, slots, first=first)
    ended = set()
    for item in found.trials:
        for other in found.trials:
            if other.end <= item.start and other.name not in ended:
                ended.add(other.name)
                dag.end(other.name, failed=False)
        assert dag.take().name == item.name


def test_take_first_pair_comes_before_the_longest_time_below():
    durations = {"single": 9, "root": 1, "child": 2, "grandchild": 3}
    dag = Dag(FAMILY, frozenset(), durations, first={"root", "child"})
    assert [dag.take().name, dag.take().name] == ["root", "single"]
    dag.end("root", failed=False)
    assert dag.take().name == "child"


def test_take_child_waits_for_its_parent():
    dag = Dag(FAMILY, frozenset())
    dag.take(), dag.take()
    assert dag.take() is None
    dag.end("root", failed=False)
    assert dag.take().name == "child"


def test_take_child_of_cached_parent_starts_at_once():
    dag = Dag(FAMILY[2:], frozenset({"root", "single"}))
    assert dag.take().name == "child"


def test_exhausted_after_failed_parent_is_true_and_descendants_never_start():
    dag = Dag(FAMILY, frozenset())
    dag.take(), dag.take()
    dag.end("root", failed=True)
    assert not dag.exhausted
    dag.end("single", failed=False)
    assert dag.exhausted
    assert dag.take() is None


def test_finished_parents_only_after_the_last_child():
    family = [*FAMILY, trial("other", "root", ("root",))]
    dag = Dag(family, frozenset())
    for _ in range(2):
        dag.take()
    dag.end("root", failed=False)
    dag.take(), dag.take()
    dag.end("child", failed=False)
    assert "root" not in dag.finished_parents()
    dag.end("other", failed=True)
    assert dag.finished_parents() == {"root"}


def test_searcher_nothing_ready_says_none_then_finished():
    searcher = DagSearcher(Dag(FAMILY[1:3], frozenset()), {"root": {"a": 1}, "child": {"a": 2}})
    assert searcher.suggest("") == {"a": 1}
    assert searcher.suggest("") is None
    searcher.on_trial_complete("root", {}, error=True)
    assert searcher.suggest("") == Searcher.FINISHED


def test_searcher_hands_out_no_more_than_fit_and_one():
    trials = [trial(name) for name in "abcdef"]
    free = DagSearcher(Dag(trials, frozenset()), {t.name: {"a": t.name} for t in trials})
    assert all(free.suggest("") for _ in trials)
    capacities = [2]
    searcher = DagSearcher(
        Dag(trials, frozenset()),
        {t.name: {"a": t.name} for t in trials},
        capacity=lambda: capacities[0],
    )
    assert [searcher.suggest("") is not None for _ in range(4)] == [True, True, True, False]
    searcher.on_trial_complete("a", {})
    assert searcher.suggest("") is not None
    capacities[0] = 3
    assert searcher.suggest("") is not None
    assert searcher.suggest("") is None


def test_searcher_of_a_driver_that_stops_hands_out_nothing():
    searcher = DagSearcher(Dag(FAMILY, frozenset()), {}, is_stopping=lambda: True)
    assert searcher.suggest("") == Searcher.FINISHED


def test_searcher_result_with_a_cause_dooms_the_children():
    searcher = DagSearcher(Dag(FAMILY[1:3], frozenset()), {"root": {"a": 1}, "child": {"a": 2}})
    searcher.suggest("")
    searcher.on_trial_complete("root", {"cause": "oom"})
    assert searcher.suggest("") == Searcher.FINISHED
