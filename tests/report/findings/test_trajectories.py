"""Paths against vectors that walk: lengths, first layers and partings by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raylab.report.findings import trajectories
from raylab.report.findings.trajectories import cosine_of_sketches
from raylab.report.study_tables import Tables
from tests.report.conftest import make_trials, name_of

LAYERS = ("model.layers.0", "model.layers.1")


def walk(name, points):
    """Rows of the table paths, of positions by step and layer: float vectors of any width.

    The sketch of a position is the position itself: then cosines are exact.
    """
    rows, before = [], None
    for step, position in points.items():
        for layer, vector in zip(LAYERS, position, strict=True):
            last = None if before is None else before[LAYERS.index(layer)]
            rows.append(
                {
                    "trial_id": "x",
                    "name": name,
                    "step": step,
                    "layer": layer,
                    "norm": float(np.linalg.norm(vector)),
                    "step_norm": None if last is None else float(np.linalg.norm(vector - last)),
                    "sketch": [float(x) for x in vector],
                }
            )
        before = position
    return rows


def found(*walks):
    rows = [row for one in walks for row in one]
    return trajectories.find(Tables.of({"trials": make_trials(), "paths": rows}))


def vectors(*pairs):
    return [np.asarray(pair, float) for pair in pairs]


STRAIGHT = {
    0: vectors((0, 0), (0, 0)),
    10: vectors((1, 0), (0, 3)),
    20: vectors((2, 0), (0, 4)),
}
DETOUR = {
    0: vectors((0, 0), (0, 0)),
    10: vectors((0, 3), (0, 0)),
    20: vectors((4, 3), (0, 0)),
    40: vectors((4, 0), (0, 0)),
}


def test_path_straight_and_bent_have_the_lengths_of_their_steps():
    one, other = found(
        walk(name_of("dpo-d0", 42), STRAIGHT), walk(name_of("dpo-d1", 42), DETOUR)
    ).frames["paths"]
    whole = math.sqrt(1 + 9) + math.sqrt(1 + 1)
    assert one["length"] == pytest.approx(whole)
    assert one["displacement"] == pytest.approx(math.sqrt(4 + 16))
    assert one["length_ratio"] == pytest.approx(whole / math.sqrt(20))
    assert (other["length"], other["displacement"], other["length_ratio"]) == (10, 4, 2.5)
    assert (other["steps"], other["records"]) == (40, 4)


def test_first_layer_is_the_one_that_reaches_half_of_its_end_soonest():
    slow = {**STRAIGHT, 10: vectors((0.5, 0), (0, 3))}
    (row,) = found(walk(name_of("dpo-d0", 42), slow)).frames["paths"]
    # Half of 4 on the line from 0 at step 0 to 3 at step 10 is at step 20 / 3, of 20.
    assert (row["first"], row["first_at"]) == ("model.layers.1", pytest.approx(1 / 3))


def test_seeds_part_at_the_step_from_which_their_cosine_stays_below_one_half():
    other = {
        0: vectors((0, 0), (0, 0)),
        10: vectors((1, 0), (0, 3)),
        20: vectors((0, 2), (4, 0)),
    }
    walks = walk(name_of("dpo-d0", 42), STRAIGHT), walk(name_of("dpo-d0", 100), other)
    (row,) = found(*walks).frames["parting"]
    assert (row["parted"], row["last_cosine"], row["seeds"]) == (1.0, 0.0, 2)


def test_seeds_that_meet_again_have_not_parted():
    other = {**STRAIGHT, 10: vectors((0, 1), (3, 0))}
    result = found(walk(name_of("dpo-d0", 42), STRAIGHT), walk(name_of("dpo-d0", 100), other))
    (row,) = result.frames["parting"]
    assert row["parted"] is None and row["last_cosine"] == pytest.approx(1)
    assert "paths-together" in {sentence.key for sentence in result.sentences}


def test_cosine_of_sketches_of_what_has_not_moved_is_none():
    rows = walk("a", STRAIGHT)
    start, moved = ({r["layer"]: r for r in rows if r["step"] == s} for s in (0, 20))
    assert cosine_of_sketches(start, moved) is None
    assert cosine_of_sketches(moved, moved) == pytest.approx(1)
    assert cosine_of_sketches({LAYERS[0]: moved[LAYERS[0]]}, {LAYERS[1]: moved[LAYERS[1]]}) is None


def test_points_are_shares_of_the_last_norm():
    points = found(walk(name_of("dpo-d0", 42), STRAIGHT)).frames["path_points"]
    shares = {(p["step"], p["layer"]): p["share"] for p in points}
    assert shares[10, LAYERS[0]] == 0.5 and shares[10, LAYERS[1]] == 0.75
    assert shares[20, LAYERS[0]] == shares[20, LAYERS[1]] == 1


def test_trials_without_a_path_give_a_sentence_and_no_row():
    result = found()
    assert result.frames["paths"] == []
    assert [sentence.key for sentence in result.sentences] == ["paths-nothing"]
