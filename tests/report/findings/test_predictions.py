"""Likeness by layer against means over pairs that are listed by hand, and tokens as they are."""

from __future__ import annotations

import itertools
import math

import pytest

from raylab.report.figures import FIGURES
from raylab.report.findings import predictions
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from tests.report.findings.vectors import BASE, name_of, trial, values_of

LIKENESS = {
    # Between recipes at unlike seeds, at one seed, and between seeds of a recipe.
    frozenset((("a", 1), ("b", 2))): 0.4,
    frozenset((("a", 2), ("b", 1))): 0.6,
    frozenset((("a", 1), ("b", 1))): 0.1,
    frozenset((("a", 2), ("b", 2))): 0.2,
    frozenset((("a", 1), ("a", 2))): 0.9,
    frozenset((("b", 1), ("b", 2))): 0.8,
}
TRIALS = [trial(r, s, data={"a": "D0", "b": "D1"}[r]) for r in "ab" for s in (1, 2)]


def cka_rows(changed=()):
    rows = []
    for pair, value in LIKENESS.items():
        one, other = sorted(pair)
        for layer, (data, tokens, shift) in itertools.product(
            range(3), [("D0", 10, 0.0), ("D1", 30, 0.04)]
        ):
            rows.append(
                {"a": name_of(*one), "b": name_of(*other), "data": data, "layer": layer,
                 "tokens": tokens, "cka": value + shift - layer / 100}
            )  # fmt: skip
    return rows


def test_likeness_by_layer_is_the_mean_over_pairs_at_unlike_seeds():
    found = predictions.find(Tables.of({"trials": TRIALS, "cka": cka_rows()}))
    rows = {row["layer"]: row for row in found.frames["cka_by_layer"]}
    assert set(rows) == {0, 1, 2}
    for layer, row in rows.items():
        # Three quarters of the tokens are 0.04 higher.
        assert row["cka"] == pytest.approx((0.4 + 0.6) / 2 + 0.03 - layer / 100, rel=1e-12)
        assert row["seeds_cka"] == pytest.approx((0.9 + 0.8) / 2 + 0.03 - layer / 100, rel=1e-12)
        assert (row["factor"], row["pairs"], row["seed_pairs"]) == ("data", 2, 2)
    (values,) = values_of(found.sentences, "functions-layer")
    assert (values["layer"], values["last"], values["factor"]) == (2, 2, "data")


@pytest.mark.parametrize("value", [None, math.nan])
def test_likeness_that_is_no_number_is_left_out(value):
    rows = cka_rows()
    for row in rows:
        if {row["a"], row["b"]} == {name_of("a", 1), name_of("b", 2)}:
            row["cka"] = value
    found = predictions.find(Tables.of({"trials": TRIALS, "cka": rows}))
    row = found.frames["cka_by_layer"][0]
    assert row["pairs"] == 1
    assert row["cka"] == pytest.approx(0.63, rel=1e-12)


def test_predictions_that_were_not_compared_say_so():
    found = predictions.find(Tables.of({"trials": TRIALS}))
    assert values_of(found.sentences, "functions-nothing") == [{}]
    assert found.frames == {"cka_by_layer": [], "tokens": []}
    for language in ("en", "ja"):
        assert translator(language).sentence(found.sentences[0])


def test_tokens_of_a_comparison_keep_their_order_and_numbers():
    tokens = [
        {"comparison": "x", "a": name_of("a", 1), "b": name_of("b", 1), "data": "D0",
         "answers": "own", "prompt": f"p{n}", "position": n, "token": "は", "kl": 5.0 - n,
         "p_a": 0.5, "p_b": 0.25, "top_a": "が", "top_b": "は"}
        for n in range(3)
    ]  # fmt: skip
    of_the_base = tokens[0] | {"b": BASE}
    tables = Tables.of({"trials": TRIALS, "differing_tokens": [of_the_base, *tokens]})
    result = predictions.find(tables)
    (values,) = values_of(result.answer, "functions-token")
    assert values == {"model": BASE, "label": "A, 1 vs B, 1", "kl": 5.0}
    found = result.frames["tokens"]
    assert [row["position"] for row in found] == [0, 1, 2]
    assert found[1]["label"] == "A, 1 vs B, 1"
    assert (found[2]["kl"], found[2]["top_a"]) == (3.0, "が")


def test_figure_of_likeness_has_a_line_for_the_factor_and_one_for_seeds():
    found = predictions.find(Tables.of({"trials": TRIALS, "cka": cka_rows()}))
    figure = FIGURES["cka"].draw(translator(), found.frames, BASE)
    values = figure.chart.spec["data"]["values"]
    assert len(values) == 6
    assert {value["of"] for value in values} == {"two recipes", "two seeds"}
