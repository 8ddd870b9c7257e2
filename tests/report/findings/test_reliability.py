"""What a study lacks, counted by hand."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.report.findings import reliability
from raylab.report.study_tables import Tables
from tests.report.findings.vectors import BASE, name_of, norm, trial, values_of

STATUSES = ("done", "failed", "blocked", "pending")


def audit(model, **values):
    return {"model": model, "level": "all", "key": "all", "numel": 100, "l2": 1.0} | values


def sentences_of(**tables):
    found = reliability.find(Tables.of(tables))
    return found.sentences


def graded(sentences):
    return {sentence.key: sentence.grade for sentence in sentences}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=12))
def test_reliability_every_trial_is_counted_once_by_its_status(statuses):
    found = sentences_of(trials=[trial(str(place), status=s) for place, s in enumerate(statuses)])
    counts = Counter(statuses)
    if counts["done"] == len(statuses):
        assert values_of(found, "trust-done") == [{"total": len(statuses)}]
        assert not values_of(found, "trust-undone")
        return
    key = "trust-undone" if counts["done"] else "trust-none_done"
    (values,) = values_of(found, key)
    assert values == {
        "total": len(statuses),
        "undone": len(statuses) - counts["done"],
        "failed": counts["failed"],
        "blocked": counts["blocked"],
    }
    assert not values_of(found, "trust-done")


def test_reliability_what_is_undone_is_bad_and_a_caution():
    found = reliability.find(Tables.of({"trials": [trial("a"), trial("b", status="failed")]}))
    assert [(s.key, s.grade) for s in found.cautions] == [("trust-undone", "bad")]
    all_done = reliability.find(Tables.of({"trials": [trial("a"), trial("b")]}))
    assert all_done.cautions == ()
    assert graded(all_done.sentences) == {"trust-done": "good"}


def test_reliability_marked_models_are_named():
    trials = [trial("a", marked=True), trial("b"), trial("c", marked=True), trial("d", marked=None)]
    (values,) = values_of(sentences_of(trials=trials), "trust-marked")
    assert values == {"count": 2, "total": 4, "names": (name_of("a", 1), name_of("c", 1))}
    assert not values_of(sentences_of(trials=trials[1:2]), "trust-marked")


def test_reliability_finished_models_that_are_marked_are_named_too():
    rates = [
        {"name": "sound", "answers": "greedy", "marks": None},
        {"name": "mute", "answers": "greedy", "marks": "answers in Japanese: 0 %"},
        {"name": "mute", "answers": "expected", "marks": None},
    ]
    found = reliability.find(Tables.of({"trials": [trial("a"), trial("b")], "rates": rates}))
    (values,) = values_of(found.sentences, "trust-marked")
    assert values == {"count": 1, "total": 4, "names": ("mute",)}
    assert [s.key for s in found.cautions] == ["trust-marked"]


def test_reliability_audit_says_the_range_of_errors_and_the_most_false_zeros():
    rows = [
        audit(name_of("a", 1), merged_error=0.02, merged_false_zeros=0.3, dequantized_error=0.5),
        audit(name_of("b", 1), merged_error=0.07, merged_false_zeros=None, dequantized_error=0.2),
        audit(name_of("c", 1), merged_error=None, dequantized_error=math.nan),
        audit(name_of("a", 1), level="tensor", key="x", merged_error=9.0, dequantized_error=9.0),
    ]
    found = sentences_of(trials=[trial(r) for r in "abc"], audit=rows)
    assert values_of(found, "trust-merged") == [
        {"count": 2, "low": 0.02, "high": 0.07, "zeros": 0.3}
    ]
    assert values_of(found, "trust-dequantized") == [
        {"count": 2, "low": 0.2, "high": 0.5, "zeros": 0.0}
    ]
    grades = graded(found)
    assert (grades["trust-merged"], grades["trust-dequantized"]) == ("good", "fair")


def test_reliability_audit_rows_carry_label_and_seed_where_the_model_is_known():
    rows = [audit(name_of("a", 7), quantization_noise=0.4), audit("elsewhere")]
    frame = reliability.find(Tables.of({"trials": [trial("a", 7)], "audit": rows})).frames["audit"]
    known, unknown = frame
    assert (known["label"], known["seed"], known["quantization_noise"]) == ("A", 7, 0.4)
    assert (unknown["label"], unknown["seed"], unknown["merged_error"]) == ("elsewhere", None, None)


def test_reliability_comparisons_over_equally_many_entries_are_counted():
    names = [name_of(r, 1) for r in "abc"]
    norms = [norm(names[0], BASE, 1.0), norm(names[0], names[1], 1.0), norm(names[2], BASE, 1.0)]
    norms.append(norm(names[0], BASE, 1.0, level="layer", key="0", numel=10))
    found = sentences_of(trials=[trial(r) for r in "abc"], norms=norms)
    assert values_of(found, "trust-counted") == [
        {"model": BASE, "universe": "compared", "numel": 100, "comparisons": 3}
    ]
    assert graded(found)["trust-counted"] == "good"
    assert not values_of(found, "trust-unequal")


def test_reliability_comparisons_over_unequally_many_entries_say_so():
    names = [name_of(r, 1) for r in "abc"]
    norms = [
        norm(names[0], BASE, 1.0, numel=90),
        norm(names[1], BASE, 1.0, numel=120),
        norm(names[2], BASE, 1.0, numel=100),
        norm(names[0], names[1], 1.0, numel=120),
    ]
    found = sentences_of(trials=[trial(r) for r in "abc"], norms=norms)
    assert values_of(found, "trust-unequal") == [
        {"model": BASE, "low": 90, "high": 120, "comparisons": 4}
    ]
    assert graded(found)["trust-unequal"] == "fair"
    assert not values_of(found, "trust-counted")


def test_reliability_base_models_of_unlike_sizes_are_counted_apart():
    trials = [trial("a"), trial("a", model="other")]
    norms = [
        norm(name_of("a", 1), BASE, 1.0, numel=100),
        norm(name_of("a", 1, "other"), "other", 1.0, numel=7),
    ]
    found = values_of(sentences_of(trials=trials, norms=norms), "trust-counted")
    assert [(row["model"], row["numel"]) for row in found] == [(BASE, 100), ("other", 7)]
