"""Barriers of lines beside those of seeds, out of rows whose losses are chosen."""

from __future__ import annotations

import pytest

from raylab.report.figures import FIGURES
from raylab.report.findings import connectivity
from raylab.report.findings.connectivity import CONNECTED
from raylab.report.page.grids import grids_of
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from tests.report.findings.vectors import BASE, name_of, trial

T = (0.0, 0.25, 0.5, 0.75, 1.0)
FLAT = (1.0, 1.0, 1.0, 1.0, 1.0)


def line(a, b, losses, data="D0", message=None):
    """The rows of a line from a to b over five points; `None` where a loss is missing."""
    known = None not in losses
    straight = [losses[0] + t * (losses[-1] - losses[0]) if known else None for t in T]
    excess = [loss - on if known else None for loss, on in zip(losses, straight, strict=True)]
    return [
        {"model": BASE, "a": a, "b": b, "data": data, "t": t, "loss": loss, "straight": on,
         "excess": above, "barrier": max(excess) if known else None, "answers": 2, "tokens": 9,
         "message": message if loss is None else None}
        for t, loss, on, above in zip(T, losses, straight, excess, strict=True)
    ]  # fmt: skip


def found_of(*lines):
    trials = [trial(recipe, seed) for recipe in "xyz" for seed in (1, 2)]
    return connectivity.find(
        Tables.of({"trials": trials, "connectivity": [row for rows in lines for row in rows]})
    )


def between(a, b, losses, seeds=(1, 1), **more):
    return line(name_of(a, seeds[0]), name_of(b, seeds[1]), losses, **more)


def texts(found, language="en"):
    return [translator(language).sentence(sentence) for sentence in found.sentences]


def test_barrier_of_a_line_stands_beside_that_of_the_seeds_of_its_recipes():
    found = found_of(
        between("x", "y", (1.0, 1.5, 2.6, 2.5, 3.0)),
        between("x", "y", (1.0, 1.5, 2.0, 2.5, 3.0), (2, 2)),
        between("y", "y", (1.0, 1.2, 1.0, 1.0, 1.0), (1, 2)),
        between("z", "z", (1.0, 1.9, 1.0, 1.0, 1.0), (1, 2)),
    )
    first, second, seeds, _ = found.frames["barriers"]
    assert (first["label"], first["what"], first["seed"]) == ("X vs Y", "difference", "1")
    assert first["barrier"] == pytest.approx(0.6) and first["at"] == 0.5
    assert (first["loss_a"], first["loss_b"], first["points"]) == (1.0, 3.0, 5)
    assert (first["seed_barrier"], first["seeds_of"]) == (pytest.approx(0.2), "Y")
    assert second["barrier"] == 0 and second["at"] is None
    assert (seeds["label"], seeds["what"], seeds["seed"]) == ("Y", "seeds", "1~2")
    assert (seeds["seed_barrier"], seeds["seeds_of"]) == (None, None)
    assert len(found.frames["lines"]) == 4 * len(T)
    assert texts(found) == [
        f"{BASE}: Between X and Y lies a barrier: the loss of D0 at t = 0.5 is 0.6 nats above the "
        "straight line; between two seeds of one recipe at most 0.2 nats.",
        f"{BASE}: Between two seeds of Y lies a barrier: the loss of D0 at t = 0.25 is 0.2 nats "
        "above the straight line.",
        f"{BASE}: Between two seeds of Z lies a barrier: the loss of D0 at t = 0.25 is 0.9 nats "
        "above the straight line.",
    ]
    assert len(found.answer) == 1


def test_answer_of_several_pairs_counts_the_connected_and_names_the_highest_barrier():
    found = found_of(
        between("x", "y", (1.0, 1.5, 2.6, 2.5, 3.0)),
        between("x", "z", FLAT),
        between("y", "y", (1.0, 1.2, 1.0, 1.0, 1.0), (1, 2)),
    )
    (answer,) = found.answer
    assert translator("en").sentence(answer) == (
        f"{BASE}: Of 2 pairs of recipes 1 are connected (barrier of at most 0.01 nats a token). "
        "The highest barrier lies between X and Y: 0.6 nats at t = 0.5 on D0; between two seeds "
        "of one recipe at most 0.2 nats."
    )
    assert len(found.details) == 3


@pytest.mark.parametrize(
    ("losses", "key"),
    [
        (FLAT, "connectivity-all_below_seeds"),
        ((1.0, 1.9, 1.0, 1.0, 1.0), "connectivity-summary_seeds"),
    ],
)
def test_answer_of_lines_of_seeds_alone_is_about_seeds(losses, key):
    found = found_of(between("x", "x", losses, (1, 2)), between("y", "y", FLAT, (1, 2)))
    assert [sentence.key for sentence in found.answer] == [key]
    assert all(translator(language).sentence(found.answer[0]) for language in ("en", "ja"))


def test_lines_of_two_base_models_have_an_answer_each():
    rows = [*line("one", "two", FLAT), *line("three", "four", FLAT)]
    rows = [{**row, "model": "m" if row["a"] == "one" else "n"} for row in rows]
    found = connectivity.find(Tables.of({"connectivity": rows}))
    assert [sentence.values["model"] for sentence in found.answer] == ["m", "n"]
    assert found.details == ()


def test_recipes_whose_seeds_were_not_joined_have_the_baseline_of_the_others():
    found = found_of(between("x", "y", FLAT), between("z", "z", (1.0, 1.9, 1.0, 1.0, 1.0), (1, 2)))
    assert found.frames["barriers"][0]["seed_barrier"] == pytest.approx(0.9)
    assert texts(found)[0] == (
        f"{BASE}: X and Y are connected without a barrier: the loss lies nowhere above the "
        "straight line; between two seeds of one recipe at most 0.9 nats."
    )


def test_seed_baseline_of_a_barrier_is_that_of_the_same_data():
    found = found_of(
        between("x", "y", FLAT, data="D0"),
        between("x", "x", (1.0, 1.9, 1.0, 1.0, 1.0), (1, 2), data="D1"),
    )
    assert found.frames["barriers"][0]["seed_barrier"] is None
    assert "no line between two seeds" in texts(found)[0]


@pytest.mark.parametrize(
    ("height", "verdict"), [(-0.5, "below"), (CONNECTED, "connected"), (0.011, "barrier")]
)
def test_models_are_connected_up_to_a_hundredth_of_a_nat(height, verdict):
    found = found_of(between("x", "y", (0.0, 0.0, height, 0.0, 0.0)))
    assert [sentence.key for sentence in found.sentences] == [f"connectivity-{verdict}"]


def test_line_without_a_loss_has_a_row_and_a_reason():
    missing = between("x", "y", (1.0, None, None, None, None), message="y is a merge")
    found = found_of(missing, between("x", "z", FLAT))
    row = found.frames["barriers"][0]
    assert row["barrier"] is row["at"] is None
    assert (row["message"], row["loss_a"], row["loss_b"]) == ("y is a merge", 1.0, None)
    assert texts(found)[-1] == "1 line has no barrier (base.x.s1~base.y.s1): y is a merge."


def test_models_that_were_not_trained_here_keep_their_names():
    found = found_of(line("one", "two", FLAT))
    (row,) = found.frames["barriers"]
    assert (row["label"], row["seed"], row["what"]) == ("one vs two", None, "difference")


def test_study_without_lines_says_so_in_both_languages():
    found = found_of()
    assert [sentence.key for sentence in found.sentences] == ["connectivity-nothing"]
    assert FIGURES["connectivity"].draw(translator("en"), found.frames, BASE) is None
    assert all(texts(found, language) for language in ("en", "ja"))


def test_grid_has_a_row_for_every_line():
    missing = between("x", "y", (1.0, None, None, None, None), message="y is a merge")
    found = found_of(missing, between("x", "z", (1.0, 1.5, 2.6, 2.5, 3.0)))
    for language in ("en", "ja"):
        (grid,) = grids_of(translator(language), found.key, found.frames)
        first, second = grid.rows
        assert {"X vs Y", "D0", "y is a merge", "–"} <= set(first)
        assert {"X vs Z", "0.6000", "0.5000"} <= set(second)


def test_figure_shows_the_excess_of_every_point_of_the_lines():
    found = found_of(
        between("x", "y", (1.0, 1.5, 2.6, 2.5, 3.0)),
        between("x", "x", FLAT, (1, 2)),
        between("x", "y", FLAT, data="D1"),
    )
    for language, seeds in (("en", "seeds of X"), ("ja", "Xのシード間")):
        figure = FIGURES["connectivity"].draw(translator(language), found.frames, BASE)
        points = figure.chart.spec["data"]["values"]
        assert len(points) == 3 * len(T)
        assert {point["label"] for point in points} == {"X vs Y", seeds}
        peak = max(points, key=lambda point: point["excess"])
        assert (peak["of"], peak["t"], peak["excess"]) == ("D0", 0.5, pytest.approx(0.6))
