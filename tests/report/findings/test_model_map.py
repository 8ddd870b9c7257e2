"""Maps of models against points whose places are known, singular values and sums by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform

from raylab.report.findings import model_map
from raylab.report.findings.model_map import classical_scaling, stress
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from raylab.spec.seeds import Seeds
from tests.report.findings.test_similarity import RECIPES, silhouette_by_loops, two_clusters
from tests.report.findings.vectors import name_of, pairs_of, study_of, trials_of, values_of

SEED = st.integers(0, 2**32 - 1)


def drawn(seed, count, dimensions):
    return np.random.default_rng(seed).normal(size=(count, dimensions)) * 2.0 ** -np.arange(
        dimensions
    )


@settings(max_examples=60, deadline=None)
@given(SEED, st.integers(3, 12))
def test_classical_scaling_points_of_a_plane_come_back_but_for_a_rotation(seed, count):
    points = drawn(seed, count, 2)
    distances = squareform(pdist(points))
    places = classical_scaling(distances)
    assert squareform(pdist(places)) == pytest.approx(distances, abs=1e-9)
    assert procrustes(points, places)[2] < 1e-12
    assert stress(distances, places) < 1e-9


@settings(max_examples=60, deadline=None)
@given(SEED, st.integers(4, 12), st.integers(3, 9))
def test_classical_scaling_points_of_space_are_their_principal_components(seed, count, dimensions):
    points = drawn(seed, count, dimensions)
    left, values, _ = np.linalg.svd(points - points.mean(0), full_matrices=False)
    wanted = left[:, :2] * values[:2]
    found = classical_scaling(squareform(pdist(points)))
    signs = np.sign((wanted * found).sum(0))
    assert found == pytest.approx(wanted * signs, abs=1e-7)


def test_stress_six_points_on_three_axes_is_what_the_lost_axis_makes():
    points = np.array([[3, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]], float)
    distances = squareform(pdist(points))
    # Twelve pairs of two axes, three of one; the map has no third axis.
    lost = 4 * (math.sqrt(10) - 3) ** 2 + 4 * (math.sqrt(5) - 2) ** 2 + 2**2
    whole = 4 * (13 + 10 + 5) + 6**2 + 4**2 + 2**2
    found = stress(distances, classical_scaling(distances))
    assert found == pytest.approx(math.sqrt(lost / whole), rel=1e-9)


def test_stress_equal_distances_of_three_is_zero_and_of_four_is_not():
    three, four = (1.0 - np.eye(count) for count in (3, 4))
    assert stress(three, classical_scaling(three)) == pytest.approx(0, abs=1e-12)
    assert stress(four, classical_scaling(four)) > 0.2


def test_classical_scaling_distances_that_no_space_has_are_finite_places():
    distances = np.array([[0, 1, 1, 9], [1, 0, 1, 1], [1, 1, 0, 1], [9, 1, 1, 0]], float)
    places = classical_scaling(distances)
    assert np.isfinite(places).all()
    assert 0 < stress(distances, places) < 1


def test_classical_scaling_one_place_for_all_is_zero_without_a_stress():
    places = classical_scaling(np.zeros((4, 4)))
    assert not places.any()
    assert stress(np.zeros((4, 4)), places) is None


@settings(max_examples=60, deadline=None)
@given(SEED, st.integers(3, 12))
def test_classical_scaling_any_has_axes_whose_largest_entry_is_positive(seed, count):
    distances = squareform(pdist(drawn(seed, count, 4)))
    places = classical_scaling(distances)
    for axis in places.T:
        assert axis[np.abs(axis).argmax()] > 0
    again = classical_scaling(distances)
    assert places.tobytes() == again.tobytes()


def test_classical_scaling_ends_that_mirror_each_other_have_the_first_positive():
    points = np.array([-2.0, 0.0, 2.0])
    places = classical_scaling(np.abs(points[:, None] - points))
    assert places[:, 0] == pytest.approx([2, 0, -2], abs=1e-12)


def side(a, b, overlap, **changes):
    head = {"a": a, "b": b, "view": "delta", "level": "all", "key": "all", "side": "output"}
    return head | {"energy": 1.0, "overlap": overlap, "chance": 0.1} | changes


def predicted(a, b, ab, ba):
    head = {"a": a, "b": b, "data": "D0", "answers": "held_out"}
    return head | {"tokens": 10, "kl_ab": ab, "kl_ba": ba}


def test_map_two_clusters_has_their_distances_and_what_sets_them_apart():
    vectors = two_clusters()
    names = [name_of(*key) for key in vectors]
    overlaps = {two: 0.9 - 0.05 * i for i, two in enumerate(itertools.combinations(names, 2))}
    kl = {two: (0.1 + 0.01 * i, 0.3) for i, two in enumerate(itertools.combinations(names, 2))}
    tables = Tables.of({
        "trials": trials_of(vectors, RECIPES),
        "pairs": pairs_of(vectors),
        "subspaces": [side(*two, value) for two, value in overlaps.items()]
        + [side(*two, 0.0, energy=0.9) for two in overlaps],
        "functions": [predicted(*two, *value) for two, value in kl.items()],
    })  # fmt: skip
    found = model_map.find(tables)
    distances = {
        "delta": pdist(np.stack(list(vectors.values()))),
        "where": np.array([math.sqrt(1 - value) for value in overlaps.values()]),
        "function": np.array([math.sqrt(sum(value) / 2) for value in kl.values()]),
    }
    assert [row["space"] for row in found.frames["map"]] == [s for s in distances for _ in names]
    factors = {(row["space"], row["factor"]): row for row in found.frames["map_factors"]}
    for row in found.frames["map_distances"]:
        wanted = distances[row["space"]]
        rows = [one for one in found.frames["map"] if one["space"] == row["space"]]
        assert [one["name"] for one in rows] == names
        shown = pdist([(one["x"], one["y"]) for one in rows])
        missed = math.sqrt(((wanted - shown) ** 2).sum() / (wanted**2).sum())
        assert {one["stress"] for one in rows} == {row["stress"]}
        assert row["stress"] == pytest.approx(missed, rel=1e-9)
        assert row["mean_distance"] == pytest.approx(wanted.mean(), rel=1e-12)
        by_recipe = [
            value
            for value, (one, other) in zip(wanted, itertools.combinations(vectors, 2), strict=True)
            if one[0] == other[0]
        ]
        assert row["seed_pairs"] == len(by_recipe) == 6
        assert row["seed_distance"] == pytest.approx(np.mean(by_recipe), rel=1e-9)
        assert row["seed_share"] == pytest.approx(np.mean(by_recipe) / wanted.mean(), rel=1e-9)
        square = squareform(wanted)
        for factor, levels in (
            ("data", [r for r, _ in vectors]),
            ("seed", [s for _, s in vectors]),
        ):
            silhouette = silhouette_by_loops(square, levels)
            assert factors[row["space"], factor]["silhouette"] == pytest.approx(
                silhouette, abs=1e-9
            )
    most = factors["delta", "data"]
    assert most["is_most"] and most["is_apart"] and most["levels"] == 2
    assert not factors["delta", "seed"]["is_most"]
    (values,) = values_of(found.answer, "map-groups")
    assert values["parts"][0].key == "map-by"
    assert values["parts"][0].values["factor"] == "data"
    for language in ("en", "ja"):
        text = translator(language).sentence(found.answer[0])
        assert f"{most['silhouette']:.2f}" in text


def test_map_model_that_lacks_a_pair_is_left_out_of_that_map_alone():
    vectors = two_clusters()
    names = [name_of(*key) for key in vectors]
    lost = name_of("a", 2)
    tables = Tables.of({
        "trials": trials_of(vectors, RECIPES),
        "pairs": pairs_of(vectors),
        "functions": [
            predicted(*two, None if lost in two else 0.1, 0.2)
            for two in itertools.combinations(names, 2)
        ],
    })  # fmt: skip
    found = model_map.find(tables)
    counts = {row["space"]: row["models"] for row in found.frames["map_distances"]}
    assert counts == {"delta": 6, "function": 5}
    (values,) = values_of(found.sentences, "map-left_out")
    assert (values["space"], values["count"], values["total"]) == ("function", 1, 6)


def test_map_models_alike_in_everything_have_one_place_and_no_stress():
    vectors = two_clusters()
    names = [name_of(*key) for key in vectors]
    tables = Tables.of({
        "trials": trials_of(vectors, RECIPES),
        "functions": [predicted(*two, 0.0, 0.0) for two in itertools.combinations(names, 2)],
    })  # fmt: skip
    found = model_map.find(tables)
    assert {(row["x"], row["y"], row["stress"]) for row in found.frames["map"]} == {(0, 0, None)}
    assert values_of(found.sentences, "map-stress") == []


def test_map_of_two_models_says_that_there_is_none():
    vectors = {key: vector for key, vector in two_clusters().items() if key[1] == 1}
    found = model_map.find(study_of(vectors, RECIPES))
    assert values_of(found.answer, "map-nothing") == [{}]
    assert not any(found.frames.values())


def test_map_of_crossed_seeds_compares_seeds_without_a_number_in_common():
    seeds = [Seeds(1, 1, 1), Seeds(1, 2, 1), Seeds(2, 2, 2)]
    vectors = two_clusters(seeds=seeds)
    found = model_map.find(study_of(vectors, RECIPES))
    (row,) = found.frames["map_distances"]
    apart = [np.linalg.norm(vectors[r, seeds[0]] - vectors[r, seeds[2]]) for r in "ab"]
    assert row["seed_pairs"] == 2
    assert row["seed_distance"] == pytest.approx(np.mean(apart), rel=1e-9)
    assert {row["seed"] for row in found.frames["map"]} == {1, "1o2", 2}
    factors = [row["factor"] for row in found.frames["map_factors"]]
    assert factors == ["data", "seed_init", "seed_order", "seed_dropout"]
