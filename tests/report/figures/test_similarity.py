"""The matrix of likenesses as it is drawn: what is offered, its order, its colours, its strips."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from raylab.errors import InputError
from raylab.report.figures import FIGURES
from raylab.report.figures.figure import Frames
from raylab.report.figures.similarity import MAX_MODELS, MEASURES
from raylab.report.findings import similarity
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from raylab.spec.seeds import Seeds
from tests.report.conftest import MODEL
from tests.report.figures.scene import groups, scene_of, texts
from tests.report.findings.test_similarity import RECIPES, two_clusters
from tests.report.findings.vectors import BASE, study_of

DRAW = FIGURES["similarity"].draw


@pytest.fixture(scope="module")
def whole(whole_tables) -> Frames:
    return similarity.find(Tables.of(whole_tables)).frames


def cells(scene):
    """(rows, columns) of the matrix as fills, from the top left; None where a cell is empty."""
    *_, found = groups(scene, "rect")
    rows, columns = (sorted({round(cell[side], 6) for cell in found}) for side in ("y", "x"))
    drawn = {(round(cell["y"], 6), round(cell["x"], 6)): cell["fill"] for cell in found}
    return [[drawn.get((y, x)) for x in columns] for y in rows]


def whiteness(fill):
    return sum(map(int, re.findall(r"\d+", fill)))


def options(figure):
    """What the menu offers."""
    (menu,) = (p for p in figure.chart.spec["params"] if p["name"] == "chosen")
    return menu["bind"]["options"]


def labels_in_order(frames, model):
    places = {row["place"]: row["label"] for row in frames["neighbours"] if row["model"] == model}
    return [places[place] for place in sorted(places)]


@pytest.mark.parametrize("measure", MEASURES)
def test_figure_similarity_of_any_measure_has_one_order_of_rows_and_columns(whole, measure):
    figure = DRAW(translator("en"), whole, MODEL, measure=measure)
    scene = scene_of(figure)
    wanted = labels_in_order(whole, MODEL)
    *_, columns, rows = groups(scene, "text", "axis-label")
    assert [item["text"] for item in rows] == wanted
    assert [item["text"] for item in columns] == wanted
    assert figure.caption.endswith(f"Shown: {translator('en')(f'likeness-{measure}')}.")


@pytest.mark.parametrize("measure", MEASURES)
def test_figure_similarity_cells_are_coloured_by_the_values_of_the_measure(whole, measure):
    column = MEASURES[measure].column
    found = cells(scene_of(DRAW(translator("en"), whole, MODEL, measure=measure)))
    assert all(a == b for a, b in zip(found, map(list, zip(*found, strict=True)), strict=True))
    values = [
        (row[column], found[row["place_a"]][row["place_b"]])
        for row in whole["similarity"]
        if row["model"] == MODEL
    ]
    # Above chance, the more alike the darker; a divergence is the lighter the larger.
    chance = {"cosine": 0, "where": 1 / 3, "signs": 0.5, "overlap": 1, "function": 0}[measure]
    above = sorted((value, whiteness(fill)) for value, fill in values if value > chance)
    assert len(above) > 50
    shades = [shade for _, shade in above]
    # The three parts of a colour are rounded one by one.
    steps = np.diff(shades) * (1 if measure == "function" else -1)
    assert steps.min() >= -2
    assert len(set(shades)) > 20
    own = {found[place][place] for place in range(len(found))}
    assert own == {None} if measure == "overlap" else len(own) == 1
    if measure != "overlap":
        assert whiteness(own.pop()) <= min(shades)


def test_figure_similarity_offers_all_measures_and_only_those_that_were_measured(whole):
    translate = translator("en")
    figure = DRAW(translate, whole, MODEL)
    assert options(figure) == [translate(f"likeness-{name}") for name in MEASURES]
    frames = similarity.find(study_of(two_clusters(), RECIPES)).frames
    assert options(DRAW(translate, frames, BASE)) == [translate("likeness-cosine")]
    with pytest.raises(InputError, match="overlap"):
        DRAW(translate, frames, BASE, measure="overlap")
    assert DRAW(translate, {}, BASE) is None


@pytest.mark.parametrize("language", ["en", "ja"])
def test_figure_similarity_has_a_strip_and_a_legend_for_method_data_and_seed(whole, language):
    translate = translator(language)
    scene = scene_of(DRAW(translate, whole, MODEL))
    factors = ("method", "data", "seed")
    assert texts(scene, "legend-title") == [translate.factor(name) for name in factors]
    rows = sorted((r for r in whole["neighbours"] if r["model"] == MODEL), key=lambda r: r["place"])
    *strips, _ = groups(scene, "rect")
    colours = []
    for factor, strip in zip(factors, strips, strict=True):
        fills = [item["fill"] for item in sorted(strip, key=lambda item: item["y"])]
        level_of = dict(zip(fills, (row[factor] for row in rows), strict=True))
        assert [level_of[fill] for fill in fills] == [row[factor] for row in rows]
        assert len(level_of) == len({row[factor] for row in rows}) > 1
        colours.append(set(level_of))
    assert all(not one & other for one, other in itertools.combinations(colours, 2))


def test_figure_similarity_of_crossed_seeds_has_a_strip_of_the_written_seeds():
    vectors = two_clusters(seeds=[Seeds(1, 1, 1), Seeds(1, 2, 1), Seeds(2, 2, 2)])
    frames = similarity.find(study_of(vectors, RECIPES)).frames
    scene = scene_of(DRAW(translator("en"), frames, BASE))
    assert texts(scene, "legend-label")[:6] == ["sft", "D0", "D1", "1", "2", "1o2"]


def test_figure_similarity_of_many_models_has_means_of_recipes():
    chance, recipes = np.random.default_rng(3), [f"r{n}" for n in range(8)]
    seeds = range(MAX_MODELS // 8 + 1)
    vectors = {(recipe, seed): chance.normal(size=9) for recipe in recipes for seed in seeds}
    tables = study_of(vectors, {recipe: {"label": recipe} for recipe in recipes})
    figure = DRAW(translator("en"), similarity.find(tables).frames, BASE)
    assert f"there are {len(vectors)} models" in figure.caption
    layers = figure.chart.spec["layer"]
    assert len(layers[0]["layer"]) == 2
    (order,) = (p["value"] for p in figure.chart.spec["params"] if p["name"] == "labels")
    assert sorted(order) == recipes
    values = {(cell["a"], cell["b"]): cell["cosine"] for cell in layers[1]["data"]["values"]}
    assert len(values) == 64
    units = {key: vector / np.sqrt(vector @ vector) for key, vector in vectors.items()}
    for (a, one), (b, other) in itertools.product(enumerate(order), repeat=2):
        found = [units[one, s] @ units[other, t] for s in seeds for t in seeds
                 if one != other or s < t]  # fmt: skip
        assert values[a, b] == pytest.approx(np.mean(found), rel=1e-3, abs=1e-6)
