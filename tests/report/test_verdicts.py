"""Verdicts of every factor, the answer that they give, and what limits it."""

from __future__ import annotations

import math

import pytest

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.verdicts import CAUTIONS, answers, cautions, verdict_rows
from raylab.report.words import LANGUAGES, translator

SPACES = ("far", "where", "function")


def effect(factor, space, times, verdict, model="base"):
    """A row of the frame `effects`."""
    return {
        "model": model, "factor": factor, "space": space, "times": times, "verdict": verdict,
        "effect": None if times is None and verdict == "unknown" else 0.4, "baseline": 0.2,
        "chance": 0.1, "effect_chance": 0.1, "pairs": 4, "seed_pairs": 2, "basis": "descriptive",
        "p_adjusted": None,
    }  # fmt: skip


def effects(times_of, model="base"):
    """{factor: times by space} as rows; the verdict follows times as the finding's does."""

    def verdict(times):
        if times is None:
            return "unknown"
        return "beyond" if times >= 2 else "near" if times > 1.25 else "within"

    return [
        effect(factor, space, times, verdict(times), model)
        for factor, all_times in times_of.items()
        for space, times in zip(SPACES, all_times, strict=True)
    ]


def said(rows, language="en"):
    return [translator(language).sentence(one) for one in answers(verdict_rows(rows))]


def test_verdict_rows_have_a_word_for_each_space_and_the_seed_last():
    rows = effects({"seed_order": (0.4, None, 0.1), "data": (5.0, 1.5, 1.0)})
    for row in rows[:3]:
        row["verdict"] = {None: "unknown", 0.4: "part", 0.1: "little"}[row["times"]]
    found = verdict_rows(rows)
    assert [(row.factor, row.is_seed) for row in found] == [("data", False), ("seed_order", True)]
    words = [[verdict.word for verdict in row.verdicts] for row in found]
    assert words == [["clear", "weak", "noise"], ["part", "missing", "little"]]
    assert [verdict.times for verdict in found[1].verdicts] == [0.4, None, 0.1]


def test_verdict_of_the_seed_baseline_is_one():
    rows = [effect("seed", space, None, "baseline") for space in SPACES]
    (row,) = verdict_rows(rows)
    assert {(verdict.times, verdict.word) for verdict in row.verdicts} == {(1.0, "baseline")}


def test_verdict_of_a_space_without_a_row_is_missing():
    (row,) = verdict_rows([effect("data", "far", 3.0, "beyond")])
    assert [verdict.word for verdict in row.verdicts] == ["clear", "missing", "missing"]


def test_answer_names_the_factor_with_the_largest_effect_of_each_space():
    (text,) = said(effects({"method": (3.0, 2.5, 1.5), "data": (2.0, 2.25, 7.123)}))
    assert "the method matters most for the size of the change (3×)" in text
    assert "direction of the change (2.5×)" in text
    assert "the data matters most for the predictions (7.12×)" in text
    assert "each of the 2 factors does more than the seed in one way or more" in text


def test_answer_names_the_factors_within_seed_noise():
    (text,) = said(effects({"method": (3.0, 2.5, 1.5), "parent": (1.0, 1.1, None)}))
    assert (
        "method does more than the seed in one way or more, parent no more, or not measured" in text
    )


def test_answer_names_no_factor_that_is_within_seed_noise_as_what_matters_most():
    rows = effects({"epochs": (1.2, 0.9, None), "data": (0.3, 2.5, 3.5)})
    rows[4]["verdict"] = "within"
    (text,) = said(rows)
    assert "the data matters most for the predictions (3.5×)" in text
    assert "size of the change" not in text and "epochs matter" not in text
    assert "direction of the change" not in text


def test_answer_names_all_factors_with_the_same_largest_effect():
    (text,) = said(effects({"data": (math.inf, 3.0, 2.5), "method": (math.inf, 2.0, 2.5)}))
    assert "data and method matter most, all alike, for the size of the change (∞×)" in text
    assert "the data matters most for the direction of the change (3×)" in text
    (text,) = said(effects({"data": (1.0, 1.0, 1.0), "method": (1.0, 1.0, 1.0)}))
    assert text.startswith("No factor does more than another seed: data and method matter most")


def test_answer_where_nothing_is_more_than_the_seed_says_so():
    (text,) = said(effects({"method": (1.0, 0.9, 1.2)}))
    assert text.startswith("No factor does more than another seed")


def test_answer_where_nothing_was_compared_says_so():
    (text,) = said(effects({"method": (None, None, None)}))
    assert "Nothing could be compared with another seed" in text


def test_answer_of_a_study_without_a_factor_says_so():
    (text,) = said([effect("seed", "far", None, "baseline")])
    assert "No two recipes differ in one factor alone" in text


def test_answer_of_several_base_models_is_one_sentence_each():
    rows = [*effects({"data": (3.0, 3.0, 3.0)}, "one"), *effects({"data": (1.0, 1.0, 1.0)}, "two")]
    one, two = said(rows)
    assert one.startswith("one: ") and two.startswith("two: No factor")


def test_answer_of_a_base_model_without_a_verdict_says_what_was_not_measured():
    rows = verdict_rows(effects({"data": (3.0, 3.0, 3.0)}, "one"))
    one, two = (translator().sentence(found) for found in answers(rows, ["one", "two"]))
    assert one.startswith("one: Compared") and two.startswith("two: No two recipes that differ")
    (nothing,) = said([])
    assert nothing.startswith("No two recipes that differ")


@pytest.mark.parametrize("times", [(3.0, None, 1.1), (1.0, 1.0, 1.0), (None,) * 3, (math.inf,) * 3])
def test_answers_and_verdicts_have_words_in_every_language(times):
    rows = effects({"data": times, "method": (1.0, 2.0, None)})
    for language in LANGUAGES:
        assert all(said(rows, language))
        for row in verdict_rows(rows):
            for verdict in row.verdicts:
                translate = translator(language)
                assert translate(f"verdict-{verdict.word}")
                assert translate.sentence(verdict.sentence)


def test_cautions_come_in_order_of_weight_each_once():
    tied, failed = Sentence("effects-tied"), Sentence("trust-undone", {"total": 2})
    findings = {
        "effects": Finding("effects", cautions=(tied, tied)),
        "trust": Finding("trust", cautions=(failed,)),
    }
    missing = Sentence("missing-comparisons", {"missing": 1})
    assert cautions(findings, [missing]) == [failed, missing, tied]
    assert len(set(CAUTIONS)) == len(CAUTIONS)
