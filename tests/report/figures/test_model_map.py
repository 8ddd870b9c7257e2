"""The map of models as it is drawn: its points, one scale for both axes, colours and shapes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from raylab.errors import InputError
from raylab.report.figures import FIGURES
from raylab.report.figures.figure import Frames
from raylab.report.findings import model_map
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from tests.report.conftest import MODEL
from tests.report.figures.scene import groups, scene_of, texts
from tests.report.findings.test_similarity import RECIPES, two_clusters
from tests.report.findings.vectors import BASE, study_of

DRAW = FIGURES["map"].draw
SPACES = ("delta", "where", "function")


@pytest.fixture(scope="module")
def whole(whole_tables) -> Frames:
    return model_map.find(Tables.of(whole_tables)).frames


def rows_of(frames, space):
    return [row for row in frames["map"] if (row["model"], row["space"]) == (MODEL, space)]


@pytest.mark.parametrize("space", SPACES)
def test_figure_map_of_any_distance_has_one_scale_for_both_axes_and_all_points(whole, space):
    (points,) = groups(scene_of(DRAW(translator("en"), whole, MODEL, distance=space)), "symbol")
    rows = rows_of(whole, space)
    assert len(points) == len(rows) == 19
    shown = pdist([(point["x"], point["y"]) for point in points])
    placed = pdist([(row["x"], row["y"]) for row in rows])
    assert shown == pytest.approx(placed * (shown.sum() / placed.sum()), rel=1e-3, abs=0.05)
    xs, ys = (np.array([point[axis] for point in points]) for axis in "xy")
    assert 0 < xs.min() < xs.max() < 640
    assert 0 < ys.min() < ys.max() < 380


@pytest.mark.parametrize("factor", ["method", "data", "learning_rate", "parent"])
def test_figure_map_colours_by_the_factor_and_shapes_by_the_seed(whole, factor):
    scene = scene_of(DRAW(translator("en"), whole, MODEL, factor=factor))
    (points,) = groups(scene, "symbol")
    rows = rows_of(whole, "delta")
    for mark, column in (("fill", factor), ("shape", "seed")):
        level_of = dict(zip((p[mark] for p in points), (r[column] for r in rows), strict=True))
        assert [level_of[point[mark]] for point in points] == [row[column] for row in rows]
        assert len(level_of) == len({row[column] for row in rows}) > 1
    labels = texts(scene, "legend-label")
    assert labels[-2:] == ["42", "100"]
    if factor == "parent":
        assert set(labels[:-2]) == {"none", "SFT(D1) 1e-5", "SFT(D2)"}


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("space", SPACES)
def test_figure_map_title_says_what_is_seen_and_the_stress_of_what_is_shown(whole, space, language):
    translate = translator(language)
    figure = DRAW(translate, whole, MODEL, distance=space)
    ((seen, stress),) = texts(scene_of(figure), "title-text")
    (row,) = (r for r in whole["map_distances"] if r["space"] == space)
    (most,) = (r for r in whole["map_factors"] if r["space"] == space and r["is_most"])
    assert f"{row['stress']:.3f}" in stress and translate.word(space) in stress
    assert f"{most['silhouette']:.2f}" in seen
    assert translate.factor(most["factor"]) in seen
    assert translate.word(space) in figure.caption[-40:]


def test_figure_map_shows_the_distance_of_least_stress_and_the_factor_that_parts_most_first(whole):
    params = {p["name"]: p for p in DRAW(translator("en"), whole, MODEL).chart.spec["params"]}
    best = min(whole["map_distances"], key=lambda row: row["stress"])["space"]
    assert params["chosen"]["value"] == translator("en").word(best)
    rows = [row for row in whole["map_factors"] if row["space"] == best]
    most = max(rows, key=lambda row: row["silhouette"])
    assert params["coloured"]["value"] == translator("en").factor(most["factor"])


def test_figure_map_shows_models_in_one_place_last(whole):
    rows = [row | {"stress": None} if row["space"] == "delta" else row for row in whole["map"]]
    figure = DRAW(translator("en"), {**whole, "map": rows}, MODEL)
    assert figure is not None
    none = [row | {"stress": None} for row in whole["map"]]
    assert DRAW(translator("en"), {**whole, "map": none}, MODEL) is not None


def test_figure_map_of_what_does_not_vary_or_was_not_measured_says_which_are(whole):
    translate = translator("en")
    frames = model_map.find(study_of(two_clusters(), RECIPES)).frames
    params = DRAW(translate, frames, BASE).chart.spec["params"]
    assert json.dumps(params).count('"options": ["data"]') == 1
    for asked in ({"distance": "function"}, {"factor": "method"}):
        with pytest.raises(InputError, match=next(iter(asked.values()))):
            DRAW(translate, frames, BASE, **asked)
    assert DRAW(translate, {}, BASE) is None
