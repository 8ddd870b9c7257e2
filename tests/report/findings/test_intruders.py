"""Means over seeds, spreads and sentences of intruders, out of rows made by hand."""

from __future__ import annotations

import math

import pytest

from raylab.report.findings import intruders
from raylab.report.study_tables import Tables
from raylab.report.words.translator import LANGUAGES, translator
from tests.report.findings.vectors import BASE, name_of, trial, values_of

CHANCE = {"chance_left": 0.05, "chance_right": 0.02}


def row(recipe, seed, count, left, right, **changes):
    """280 directions, `count` of which are intruders."""
    return {
        "model": name_of(recipe, seed),
        "level": "all",
        "key": "all",
        "tensors": 28,
        "top": 10,
        "epsilon": 0.5,
        "directions": 280,
        "intruders": count,
        "intruder_share": count / 280,
        "share_left": left,
        "share_right": right,
        **CHANCE,
        **changes,
    }


def found_of(*rows):
    trials = [trial(recipe, seed) for recipe in ("a", "b") for seed in (1, 2, 3)]
    return intruders.find(Tables.of({"trials": trials, "intruders": rows}))


SEEDS = (
    row("a", 1, 70, 0.10, 0.02),
    row("a", 2, 84, 0.20, 0.04),
    row("b", 1, 140, 0.15, 0.01),
    row("b", 2, 168, 0.15, 0.03),
    row("b", 3, 154, 0.30, 0.02),
)


def test_intruders_of_recipes_are_means_over_seeds_with_their_spreads():
    a, b = found_of(*SEEDS).frames["intruders"]
    assert (a["label"], a["model"], a["seeds"], a["top"], a["epsilon"]) == ("A", BASE, 2, 10, 0.5)
    assert (a["intruders"], a["directions"]) == (77.0, 280)
    assert a["intruder_share"] == pytest.approx(0.275)
    assert a["intruder_spread"] == pytest.approx(0.05)
    assert (a["share_left"], a["share_right"]) == pytest.approx((0.15, 0.03))
    assert (a["left_spread"], a["right_spread"]) == pytest.approx((0.1, 0.02))
    assert (a["left_times"], a["right_times"]) == pytest.approx((3, 1.5))
    assert b["intruder_share"] == pytest.approx(0.55)
    assert b["left_times"] == pytest.approx(4)


def test_intruders_sentences_name_both_ends_and_the_spread_of_seeds():
    found = found_of(*SEEDS)
    sentences = found.details
    assert [s.key for s in sentences] == ["intruders-count", "intruders-left", "intruders-right"]
    most, principal = found.answer
    assert (most.key, most.values["last"]) == ("intruders-most", "B")
    assert most.values["high"] == pytest.approx(0.55)
    assert principal.key == "intruders-principal"
    assert (principal.values["low"], principal.values["high"]) == pytest.approx((1, 4))
    (count,) = values_of(sentences, "intruders-count")
    assert (count["first"], count["last"]) == ("A", "B")
    assert (count["low"], count["high"]) == pytest.approx((0.275, 0.55))
    assert count["seeds"].values["spread"] == pytest.approx(0.1)
    (right,) = values_of(sentences, "intruders-right")
    assert (right["first"], right["last"]) == ("B", "A")
    assert (right["times_low"], right["times_high"]) == pytest.approx((1, 1.5))
    english = [translator("en").sentence(sentence) for sentence in sentences]
    assert "27.5 % (A) to 55 % (B) are intruders" in english[0]
    assert english[0].endswith("Seeds of one recipe differ by at most 10 % of the whole.")
    for language in LANGUAGES:
        assert all(translator(language).sentence(sentence) for sentence in found.sentences)


def test_intruders_of_one_seed_have_no_spread():
    found = found_of(row("a", 1, 0, 0.1, 0.1))
    (only,) = found.frames["intruders"]
    assert only["intruder_spread"] is only["left_spread"] is None
    assert all(sentence.values["seeds"] == "" for sentence in found.details)
    for language in LANGUAGES:
        text = translator(language).sentence(found.details[0])
        assert "0 % (A)" in text or "0 %（A）" in text


def test_intruders_of_deltas_of_zeros_have_no_shares_and_no_sentence_on_them():
    nothing = {"share_left": None, "share_right": None, "chance_left": None, "chance_right": None}
    found = found_of(row("a", 1, 0, None, None, **nothing))
    (only,) = found.frames["intruders"]
    assert only["share_left"] is only["left_times"] is only["chance_right"] is None
    assert [sentence.key for sentence in found.sentences] == ["intruders-most", "intruders-count"]


def test_intruders_of_layers_merges_and_unknown_models_are_left_out():
    layer = row("a", 1, 5, 0.1, 0.1) | {"level": "layer", "key": "model.layers.0"}
    found = found_of(layer, row("elsewhere", 1, 5, 0.1, 0.1), row("a", 9, 5, math.nan, 0.1))
    assert found.frames["intruders"] == []
    assert [sentence.key for sentence in found.sentences] == ["intruders-nothing"]
    for language in LANGUAGES:
        assert "spectra: base" in translator(language).sentence(found.sentences[0])
