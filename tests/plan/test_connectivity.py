"""Lines between models: which there are, their points, their cost, and what cannot be asked."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.errors import StudyError
from raylab.plan.comparisons import Model, plan_models
from raylab.plan.connectivity import Line, line_answers, line_costs, plan_lines
from raylab.plan.merges import plan_merges
from raylab.plan.trials import plan_trials
from raylab.spec.data.rows import is_held_out
from tests.studies import D0, make_inputs, make_study

SFT0, SFT1 = {"method": "sft", "data": "D0"}, {"method": "sft", "data": "D1"}
RECIPES = {"a": SFT0, "b": SFT1}
KEPT = [question for question, _ in D0 if is_held_out(question, 0.5)]


def planned(*asked, **changes):
    values = {"recipes": RECIPES, "seeds": [1, 2], "held_out": 0.5, **changes}
    study = make_study(connectivity=list(asked), **values)
    inputs = make_inputs(study)
    trials = plan_trials(study, inputs)
    return study, inputs, [*trials, *plan_merges(study, inputs, trials)]


def lines(*asked, **changes):
    study, _, trials = planned(*asked, **changes)
    return plan_lines(study, plan_models(study, trials))


def costs(*asked, **changes):
    return line_costs(*planned(*asked, **changes))


def names(*asked, **changes):
    return [line.name for line in lines(*asked, **changes)]


def test_lines_are_the_pairs_at_each_seed_and_the_seeds_of_recipes():
    assert names({"pair": ["b", "a"]}, {"seeds": ["a"]}) == [
        "tiny.b.s1~tiny.a.s1", "tiny.b.s2~tiny.a.s2", "tiny.a.s1~tiny.a.s2",
    ]  # fmt: skip


def test_lines_of_all_seeds_are_those_of_recipes_and_not_of_merges():
    merges = {"mix": {"method": "linear", "models": ["a", "b"]}}
    found = ["tiny.a.s1~tiny.a.s2", "tiny.b.s1~tiny.b.s2"]
    assert names({"seeds": "all"}, merges=merges) == found
    assert len(names({"seeds": ["mix"]}, merges=merges)) == 1


def test_line_that_is_named_twice_has_the_points_of_the_first():
    found = lines({"pair": ["a", "b"], "points": 5}, {"pair": ["a", "b"]}, seeds=[1])
    assert [line.points for line in found] == [5]


def line(a, b, points):
    ends = (Model(name, "tiny", name, name, "sft", "D0", 1) for name in (a, b))
    return Line(*ends, points)


@given(st.integers(3, 60))
def test_points_lie_at_equal_distances_and_are_those_of_the_line_back(points):
    steps = line("a", "b", points).steps
    assert [t for t, _ in steps] == [k / (points - 1) for k in range(points)]
    assert steps[0][1] == (("a", 1),) and steps[-1][1] == (("b", 1),)
    for t, shares in steps[1:-1]:
        assert sum(share for _, share in shares) == 1
        assert abs(Fraction(t) - dict(shares)["b"]) < Fraction(1, 2**50)
    back = [dict(shares) for _, shares in line("b", "a", points).steps]
    assert back == [dict(shares) for _, shares in reversed(steps)]


def test_cost_counts_an_end_of_two_lines_once():
    # Lines a.s1-b.s1, a.s2-b.s2 and a.s1-a.s2: three points within each, and four ends.
    asked = [{"pair": ["a", "b"], "points": 5}, {"seeds": ["a"], "points": 5}]
    (cost,) = costs(*asked)
    assert (cost.lines, cost.points, cost.held_out) == (3, 3 * 3 + 4, 2 * len(KEPT))
    assert cost.passes == 13 * 2 * len(KEPT) == cost.document["passes"]
    assert f"= {cost.passes:,} forward passes" in cost.line


def test_cost_of_lines_to_a_merge_is_none_but_of_one_that_is_an_adapter():
    merges = {"mix": {"method": "linear", "models": ["a", "b"]}}
    assert costs({"pair": ["a", "mix"]}, merges=merges) == []
    merges["mix"]["as"] = "adapter"
    (cost,) = costs({"pair": ["a", "mix"], "points": 3}, merges=merges)
    assert (cost.lines, cost.points) == (2, 6)


def test_study_without_lines_has_no_answers_and_costs_nothing():
    study, inputs, _ = planned(held_out=0.0)
    assert line_answers(study, inputs.rows) == {}
    assert costs(held_out=0.0) == []


@pytest.mark.parametrize(
    ("asked", "changes", "what"),
    [
        ({"seeds": "all"}, {"seeds": [1]}, "none has a second seed"),
        ({"pair": ["a", "a"]}, {}, "no two models that can be joined"),
        (
            {"pair": ["a", "done"]},
            {"models": {"done": {"path": "d", "base_model": "tiny", "seed": 7}}},
            "no two models that can be joined",
        ),
        (
            {"pair": ["done", "other"]},
            {
                "base_models": {"tiny": {"path": "a"}, "small": {"path": "b"}},
                "models": {
                    "done": {"path": "d", "base_model": "tiny"},
                    "other": {"path": "e", "base_model": "small"},
                },
            },
            "over two base models",
        ),
    ],
)
def test_item_without_a_line_is_refused(asked, changes, what):
    with pytest.raises(StudyError, match=what) as caught:
        names({"pair": ["a", "b"]}, asked, **changes)
    assert all(name in str(caught.value) for name in asked.get("pair", ["seeds"]))


def test_item_without_a_line_is_told_the_seeds_of_its_models():
    done = {"done": {"path": "d", "base_model": "tiny", "seed": {"init": 7, "order": 8}}}
    with pytest.raises(StudyError, match="a: seeds 1, 2; done: seeds 7o8"):
        names({"pair": ["a", "done"]}, models=done, seeds=[1, 2])


@pytest.mark.parametrize("changes", [{"held_out": 0.0}, {"evaluation": {"prompts": 0}}])
def test_data_set_without_held_out_rows_is_refused(changes):
    with pytest.raises(StudyError, match="a data set has none") as caught:
        costs({"pair": ["a", "b"]}, **changes)
    assert "D0, D1" in str(caught.value)


def test_one_data_set_without_held_out_rows_is_named():
    study = make_study(connectivity=[{"seeds": "all"}], held_out=0.5)
    trained = [row for row in D0 if not is_held_out(row[0], 0.5)]
    rows = make_inputs(study, rows={"D0": D0, "D1": trained}).rows
    with pytest.raises(StudyError, match=r"D1: held_out 0\.5"):
        line_answers(study, rows)
