"""Which models are marked: the limits that are applied, the texts, and other limits."""

from __future__ import annotations

import pytest

from raylab.plan.cache import evaluation_id
from raylab.plan.comparisons import plan_comparisons, plan_models
from raylab.plan.trials import plan_trials
from raylab.results.comparison_rows import comparison_rows
from raylab.results.quality_flags import broken_limits, flag_columns
from raylab.spec.evaluation import Limits
from tests.studies import D0, D1, make_inputs, make_study

SOUND = {"japanese_rate": 1.0, "stopped_rate": 1.0, "repetition_rate": 0.0, "distinct_rate": 1.0}


def metrics(expected=SOUND, **rates):
    return {**SOUND, **rates, "answers": {"expected": expected}}


@pytest.mark.parametrize(
    ("rate", "value"),
    [("japanese_rate", 0.4), ("stopped_rate", 0.1), ("repetition_rate", 0.5), ("distinct_rate", 0)],
)
def test_broken_limits_of_a_rate_beyond_its_limit_name_it_alone(rate, value):
    assert set(broken_limits(metrics(**{rate: value}), Limits())) == {rate}
    assert broken_limits(metrics(**{rate: value}), Limits(**{rate: None})) == {}


def test_broken_limits_of_rates_at_their_limits_are_none():
    at = {rate: value for rate, value in Limits().model_dump().items() if value is not None}
    assert broken_limits(metrics(**at), Limits()) == {}


def test_limit_that_the_datas_own_answers_break_is_not_applied():
    english = {**SOUND, "japanese_rate": 0.0}
    assert broken_limits(metrics(english, japanese_rate=0.0), Limits()) == {}


def test_limit_on_style_holds_for_models_trained_towards_it():
    asked = Limits(style_rate=0.5)
    towards, away = SOUND | {"style_rate": 1.0}, SOUND | {"style_rate": 0.0}
    assert set(broken_limits(metrics(towards, style_rate=0.1), asked)) == {"style_rate"}
    assert broken_limits(metrics(away, style_rate=0.1), asked) == {}


def test_flag_columns_quote_an_example_and_are_null_where_nothing_was_asked():
    found = flag_columns(
        metrics(japanese_rate=0.25) | {"excerpts": {"japanese_rate": "The sky\nis blue."}}, Limits()
    )
    assert found == {
        "marked": True,
        "marks": "answers in Japanese: 25 %, at least 50 % asked, such as 'The sky is blue.'",
    }
    assert flag_columns(metrics(), Limits()) == {"marked": False, "marks": None}
    assert flag_columns({"l2": 1.0}, Limits()) == {"marked": None, "marks": None}


def test_comparisons_with_a_marked_side_are_blocked_and_keep_their_rows():
    pair = {"comparisons": [{"pairs": ["alone", "first"]}, {"base": ["alone"]}]}
    study = make_study(seeds=[1], **pair)
    models = plan_models(study, plan_trials(study, make_inputs(study)))
    planned = plan_comparisons(study, models)
    rows = comparison_rows(planned, [], {"tiny.first.s1": "answers in Japanese: 0 %"})
    assert [(row["comparison"], row["status"]) for row in rows] == [
        ("tiny.alone.s1~tiny.first.s1", "blocked"),
        ("tiny.alone.s1~tiny", "done"),
    ]
    assert rows[0]["message"] == "left out: tiny.first.s1 is marked (answers in Japanese: 0 %)"
    assert {row["status"] for row in comparison_rows(planned, ["tiny.alone.s1"], {})} == {"blocked"}


def evaluation_of(rows=None, **asked):
    study = make_study(held_out=0.9, evaluation=asked)
    inputs = make_inputs(study, rows=rows)
    return [trial.id for trial in plan_trials(study, inputs)], evaluation_id(study, inputs.rows)


def test_evaluation_that_changes_asks_again_and_leaves_trial_ids_alone():
    ids, first = evaluation_of()
    for asked in ({"sampled": 2}, {"style": "polite"}, {"likelihoods": False}, {"top_p": 0.9}):
        assert evaluation_of(**asked)[0] == ids
        assert evaluation_of(**asked)[1] != first
    for judged in ({"limits": {"japanese_rate": 0.9}}, {"leave_out_marked": True}):
        assert evaluation_of(**judged) == (ids, first)


def test_evaluation_follows_the_held_out_answers_of_every_data_set():
    other = [(prompt, f"{answer}別") for prompt, answer in D1]
    assert evaluation_of({"D0": D0, "D1": other})[1] != evaluation_of({"D0": D0, "D1": D1})[1]
    same = evaluation_of({"D0": D0, "D1": other}, likelihoods=False)[1]
    assert same == evaluation_of({"D0": D0, "D1": D1}, likelihoods=False)[1]
