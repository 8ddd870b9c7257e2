"""What a child added to its parent, against two real vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.report.findings import chains
from raylab.report.findings.chains import angle_of
from raylab.report.study_tables import Tables
from tests.report.findings.vectors import BASE, cosine_of, name_of, trial, values_of


def chain(name, parent, child, **changes):
    lengths = [float(np.linalg.norm(v)) for v in (parent, child, parent + child)]
    row = dict(zip(("l2_parent", "l2_child", "l2"), lengths, strict=True))
    row |= {"cosine": cosine_of(parent, child) if lengths[0] and lengths[1] else None}
    row |= {"cancellation": 1 - lengths[2] / (lengths[0] + lengths[1])}
    return {"model": name, "level": "all", "key": "all"} | row | changes


def tables_of(*rows):
    trials = [trial("d", seed, method="dpo", parent=name_of("s", seed)) for seed in (1, 2)]
    return Tables.of({"trials": trials, "chains": rows})


def degrees_between(a, b):
    """The angle of two vectors without their cosine (Kahan)."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return math.degrees(2 * math.atan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))


@pytest.mark.parametrize(
    ("cosine", "degrees"),
    [(1.0, 0), (0.5, 60), (0.0, 90), (-math.sqrt(0.5), 135), (-1.0, 180), (1 + 2e-16, 0)],
)
def test_angle_of_a_cosine_is_in_degrees(cosine, degrees):
    assert angle_of(cosine) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize("cosine", [None, math.nan, math.inf])
def test_angle_of_no_cosine_is_none(cosine):
    assert angle_of(cosine) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_chains_any_two_vectors_have_their_angle_and_share(seed, size):
    chance = np.random.default_rng(seed)
    parent, child = chance.normal(0, 1, 6), chance.normal(0, size, 6)
    (row,) = chains.find(tables_of(chain(name_of("d", 1), parent, child))).frames["chains"]
    assert row["angle"] == pytest.approx(degrees_between(parent, child), abs=1e-5)
    share = math.sqrt(sum(c * c for c in child) / sum(p * p for p in parent))
    assert row["child_share"] == pytest.approx(share, rel=1e-12)


def test_chains_right_angle_and_a_child_that_takes_back():
    parent, square = np.array([3.0, 0.0]), np.array([0.0, 4.0])
    back = np.array([-1.5, 0.0])
    found = chains.find(
        tables_of(chain(name_of("d", 1), parent, square), chain(name_of("d", 2), parent, back))
    )
    first, second = found.frames["chains"]
    assert (first["l2"], first["angle"]) == (5.0, 90.0)
    assert first["cancellation"] == pytest.approx(1 - 5 / 7, rel=1e-12)
    assert first["child_share"] == pytest.approx(4 / 3, rel=1e-12)
    assert (second["angle"], second["child_share"]) == (180.0, 0.5)
    assert second["cancellation"] == pytest.approx(1 - 1.5 / 4.5, rel=1e-12)
    (added,) = values_of(found.sentences, "chains-added")
    assert added == {"count": 2, "low": 0.5, "high": pytest.approx(4 / 3, rel=1e-12)}
    (angle,) = values_of(found.sentences, "chains-angle")
    assert (angle["low"], angle["high"], angle["back"], angle["count"]) == (90.0, 180.0, 1, 2)
    assert angle["lost"] == pytest.approx(2 / 3, rel=1e-12)
    assert [(row["label"], row["seed"], row["model"]) for row in (first, second)] == [
        ("D", 1, BASE),
        ("D", 2, BASE),
    ]


def test_chains_parent_that_did_not_move_has_no_angle_and_no_share():
    still, child = np.zeros(2), np.array([1.0, 2.0])
    (row,) = chains.find(tables_of(chain(name_of("d", 1), still, child))).frames["chains"]
    assert row["angle"] is row["child_share"] is row["cosine"] is None
    assert row["l2_parent"] == 0


def test_chains_added_counts_the_trials_whose_share_it_gives():
    child = np.array([1.0, 2.0])
    found = chains.find(
        tables_of(
            chain(name_of("d", 1), np.zeros(2), child), chain(name_of("d", 2), 2 * child, child)
        )
    )
    (added,) = values_of(found.sentences, "chains-added")
    assert added == {"count": 1, "low": 0.5, "high": 0.5}


def test_chains_rows_of_layers_are_left_out():
    parts = np.array([1.0, 0.0]), np.array([1.0, 1.0])
    layer = chain(name_of("d", 1), *parts, level="layer", key="0")
    found = chains.find(tables_of(layer))
    assert found.frames["chains"] == []
    assert [sentence.key for sentence in found.sentences] == ["chains-nothing"]


def test_chains_trial_that_is_not_measured_keeps_its_name():
    parts = np.array([1.0, 0.0]), np.array([1.0, 1.0])
    (row,) = chains.find(tables_of(chain("elsewhere", *parts))).frames["chains"]
    assert (row["name"], row["label"], row["model"], row["seed"]) == (
        "elsewhere",
        "elsewhere",
        None,
        None,
    )
    assert row["angle"] == pytest.approx(45, abs=1e-9)
