"""What the comparison of predictions costs, and when there is nothing to compare on."""

from __future__ import annotations

import pytest

from raylab.errors import StudyError
from raylab.plan.asked import data_asked
from raylab.plan.functions import (
    OWN_PROMPTS,
    compared_answers,
    function_costs,
    questions_answered,
)
from raylab.plan.merges import plan_merges
from raylab.plan.trials import plan_trials
from raylab.spec.data.rows import is_held_out
from tests.studies import D0, make_inputs, make_study

KEPT = [question for question, _ in D0 if is_held_out(question, 0.5)]


def planned(study, inputs):
    trials = plan_trials(study, inputs)
    return [*trials, *plan_merges(study, inputs, trials)]


def costs(**changes):
    evaluation = {"functions": True, **changes.pop("evaluation", {})}
    study = make_study(**{"held_out": 0.5, "seeds": [42], "evaluation": evaluation, **changes})
    inputs = make_inputs(study)
    return function_costs(study, inputs, planned(study, inputs))


def test_passes_are_models_times_answers():
    assert 2 < len(KEPT) <= OWN_PROMPTS
    [cost] = costs()
    # Five trials and the base model; D2 is D0 and D1.
    assert (cost.models, cost.held_out, cost.own) == (6, 2 * len(KEPT), 5 * len(KEPT))
    assert cost.passes == 6 * 7 * len(KEPT)
    assert cost.document == {
        "base_model": "tiny",
        "models": 6,
        "held_out": 2 * len(KEPT),
        "own": 5 * len(KEPT),
        "passes": cost.passes,
    }
    assert f"= {cost.passes:,} forward passes" in cost.line


def test_passes_count_merges_and_fewer_prompts():
    merges = {"both": {"method": "linear", "models": ["alone", "first"]}}
    [cost] = costs(merges=merges, evaluation={"prompts": 2})
    assert (cost.models, cost.held_out, cost.own) == (7, 4, 12)


def test_passes_of_two_base_models_are_counted_apart():
    two = costs(base_models={"tiny": {"path": "a"}, "other": {"path": "b"}})
    assert [cost.base_model for cost in two] == ["tiny", "other"]
    assert two[0].passes == two[1].passes


@pytest.mark.parametrize("changes", [{}, {"evaluation": {"prompts": 0}}, {"held_out": 0.0}])
def test_study_that_does_not_ask_for_functions_costs_nothing(changes):
    evaluation = {**changes.get("evaluation", {}), "functions": False}
    assert costs(**{**changes, "evaluation": evaluation}) == []


@pytest.mark.parametrize("changes", [{"evaluation": {"prompts": 0}}, {"held_out": 0.0}])
def test_study_that_asks_for_functions_without_answers_is_refused(changes):
    evaluation = {**changes.get("evaluation", {}), "functions": True}
    with pytest.raises(StudyError, match="there are none") as caught:
        costs(**{**changes, "evaluation": evaluation})
    assert "held_out" in str(caught.value)
    study = make_study(held_out=0.5, evaluation={"functions": True})
    assert list(compared_answers(study, make_inputs(study).rows)) == ["D0", "D1"]


def test_functions_are_compared_where_no_likelihood_is_taken():
    study = make_study(held_out=0.5, evaluation={"functions": True, "likelihoods": False})
    found = compared_answers(study, make_inputs(study).rows)
    assert [len(answers) for answers in found.values()] == [len(KEPT)] * 2


def test_questions_of_a_trial_are_those_of_its_data():
    study = make_study(held_out=0.5, seeds=[42])
    inputs = make_inputs(study)
    asked = {item.variant.name: data_asked(item, inputs.rows) for item in planned(study, inputs)}
    assert asked == {"alone": "D0", "first": "D2", "second": "D0", "third": "D1", "other": "D1"}
    first = planned(study, inputs)[0]
    questions = questions_answered(study, inputs.rows, first)
    assert [row.prompt for row in questions] == KEPT


@pytest.mark.parametrize("changes", [{"evaluation": {"prompts": 0}}, {"held_out": 0.0}])
def test_study_that_says_nothing_of_functions_is_compared_where_it_has_answers(changes):
    assert make_study().evaluation.functions is None
    assert costs(evaluation={"functions": None}) == costs()
    evaluation = {**changes.get("evaluation", {}), "functions": None}
    assert costs(**{**changes, "evaluation": evaluation}) == []


def test_functions_change_no_identity():
    asked = [make_study(evaluation={"functions": value}) for value in (True, False, None)]
    plans = [planned(study, make_inputs(study)) for study in asked]
    assert len({tuple(item.id for item in plan) for plan in plans}) == 1
