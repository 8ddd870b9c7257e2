"""Cosines, their order and silhouettes against loops written out and vectors with clusters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.report.findings import similarity
from raylab.report.findings.similarity import cosine_matrix, leaf_order, silhouette
from raylab.report.findings.trained_models import models_of
from raylab.report.study_tables import Tables
from raylab.spec.seeds import Seeds
from tests.report.findings.vectors import (
    cosine_of,
    name_of,
    pairs_of,
    study_of,
    trials_of,
    values_of,
)

RECIPES = {"a": {"data": "D0"}, "b": {"data": "D1"}}


def silhouette_by_loops(distances, labels):
    """The mean silhouette, as Rousseeuw writes it, over labels that have two members."""
    often = [label for label in set(labels) if labels.count(label) > 1]
    if len(often) < 2:
        return None
    widths = []
    for i, own in enumerate(labels):
        if own not in often:
            continue
        means = {}
        for label in often:
            total, count = 0.0, 0
            for j, other in enumerate(labels):
                if other == label and j != i:
                    total, count = total + distances[i][j], count + 1
            means[label] = total / count
        a = means.pop(own)
        b = min(means.values())
        widths.append(0.0 if a == b else 1 - a / b if a < b else b / a - 1)
    return sum(widths) / len(widths)


def two_clusters(noise=0.3, seeds=(1, 2, 3)):
    """Vectors about one axis for each recipe."""
    chance, found = np.random.default_rng(8), {}
    for seed in seeds:
        for place, recipe in enumerate(RECIPES):
            axis = np.zeros(12)
            axis[place] = 4.0
            found[recipe, seed] = axis + chance.normal(0, noise, 12)
    return found


def test_silhouette_four_points_on_a_line_agrees_with_the_hand():
    places = np.array([0.0, 1.0, 10.0, 11.0])
    distances = np.abs(places[:, None] - places)
    wanted = (2 * 9.5 / 10.5 + 2 * 8.5 / 9.5) / 4
    assert silhouette(distances, ["x", "x", "y", "y"]) == pytest.approx(wanted, rel=1e-12)
    crossed = silhouette(distances, ["x", "y", "x", "y"])
    assert crossed == pytest.approx((6 / 10 - 1 + 5 / 10 - 1) / 2, rel=1e-12)


def test_silhouette_label_with_one_member_is_left_out():
    places = np.array([0.0, 1.0, 10.0, 11.0, 5.0])
    distances = np.abs(places[:, None] - places)
    wanted = (2 * 9.5 / 10.5 + 2 * 8.5 / 9.5) / 4
    assert silhouette(distances, ["x", "x", "y", "y", "z"]) == pytest.approx(wanted, rel=1e-12)
    assert silhouette(distances, ["x", "x", "x", "x", "z"]) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 3)), min_size=1, max_size=9))
def test_silhouette_any_agrees_with_loops(points):
    places, labels = np.array([p for p, _ in points]), [label for _, label in points]
    distances = np.abs(places[:, None] - places)
    wanted, found = silhouette_by_loops(distances, labels), silhouette(distances, labels)
    assert (found is None) == (wanted is None)
    if found is not None:
        assert found == pytest.approx(wanted, abs=1e-9)
        assert -1 <= found <= 1


def test_cosine_matrix_agrees_with_the_vectors():
    vectors = two_clusters()
    tables = study_of(vectors, RECIPES)
    found = cosine_matrix(models_of(tables), tables["pairs"])
    rows = np.stack(list(vectors.values()))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert found == pytest.approx(rows @ rows.T, abs=1e-12)
    assert np.array_equal(found, found.T)


def merged_by_hand(distances):
    """Every cluster of average linkage, by joining the two that are closest on average."""
    clusters, made = [frozenset([i]) for i in range(len(distances))], []
    while len(clusters) > 1:
        one, other = min(
            itertools.combinations(clusters, 2),
            key=lambda two: np.mean([distances[i, j] for i in two[0] for j in two[1]]),
        )
        clusters = [c for c in clusters if c not in (one, other)] + [one | other]
        made.append(one | other)
    return made


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_leaf_order_any_cosines_is_a_permutation_that_keeps_clusters_whole(count, seed):
    rows = np.random.default_rng(seed).normal(size=(count, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    order = leaf_order(cosines)
    assert sorted(order) == list(range(count))
    for cluster in merged_by_hand(1 - cosines):
        places = [order.index(i) for i in cluster]
        assert max(places) - min(places) == len(cluster) - 1


def test_leaf_order_two_clusters_puts_each_side_by_side():
    tables = study_of(two_clusters(), RECIPES)
    models = models_of(tables)
    order = leaf_order(cosine_matrix(models, tables["pairs"]))
    stems = [models[place].recipe for place in order]
    assert sum(one != other for one, other in itertools.pairwise(stems)) == 1


def test_similarity_two_clusters_lie_apart_and_their_seeds_together():
    vectors = two_clusters()
    found = similarity.find(study_of(vectors, RECIPES))
    (values,) = values_of(found.sentences, "similarity-seeds_together")
    siblings = [cosine_of(vectors[r, s], vectors[r, t]) for r in "ab"
                for s, t in ((1, 2), (1, 3), (2, 3))]  # fmt: skip
    housemates = [cosine_of(vectors["a", s], vectors["b", s]) for s in (1, 2, 3)]
    assert (values["together"], values["total"]) == (6, 6)
    assert values["recipe"] == pytest.approx(np.mean(siblings), rel=1e-12)
    assert values["seed"] == pytest.approx(np.mean(housemates), rel=1e-12)
    shapes = {row["factor"]: row for row in found.frames["silhouette"]}
    names = list(vectors)
    cosines = [[cosine_of(vectors[i], vectors[j]) for j in names] for i in names]
    distances = 1 - np.array(cosines)
    for factor, labels in (("data", [r for r, _ in names]), ("seed", [s for _, s in names])):
        wanted = silhouette_by_loops(distances, labels)
        assert shapes[factor]["silhouette"] == pytest.approx(wanted, abs=1e-9)
    across = [cosine_of(vectors["a", s], vectors["b", t]) for s in (1, 2, 3) for t in (1, 2, 3)]
    assert shapes["data"]["within"] == pytest.approx(np.mean(siblings), rel=1e-12)
    assert shapes["data"]["between"] == pytest.approx(np.mean(across), rel=1e-12)
    assert {"data", "seed"} == set(shapes)
    answer = [sentence.key for sentence in found.answer]
    assert answer == ["similarity-seeds_together", "similarity-apart"]
    assert len(values_of(found.details, "similarity-mixed")) == 1


def test_similarity_without_groups_names_the_clearest_factor_once():
    rows = [{"factor": name, "silhouette": value, "levels": 2, "within": 0.5, "between": 0.4}
            for name, value in (("seed", 0.1), ("data", 0.4))]  # fmt: skip
    first, second = similarity._group_sentences(rows)
    assert (first.key, first.values["factor"]) == ("similarity-no_groups", "data")
    assert (second.key, second.values["factor"]) == ("similarity-mixed", "seed")


def test_similarity_seeds_that_lead_away_from_the_recipe_are_counted_apart():
    vectors = {(r, s): v for (s, r), v in zip(
        ((1, "a"), (1, "b"), (2, "a"), (2, "b")),
        np.array([[1, 0.1, 0], [1, 0, 0.1], [0.1, 1, 0], [0, 1, 0.1]]), strict=True,
    )}  # fmt: skip
    found = similarity.find(study_of(vectors, RECIPES))
    (values,) = values_of(found.sentences, "similarity-seeds_apart")
    assert (values["together"], values["total"]) == (0, 4)
    assert not any(row["same_recipe"] for row in found.frames["neighbours"])
    assert all(row["same_seed"] for row in found.frames["neighbours"])


def test_similarity_model_that_lacks_a_pair_is_left_out_and_counted():
    vectors = two_clusters()
    lost = name_of("a", 2)
    without = ({lost, name_of("b", 3)}, {lost, name_of("a", 1)})
    kept = [row for row in pairs_of(vectors) if {row["a"], row["b"]} not in without]
    tables = Tables.of({"trials": trials_of(vectors, RECIPES), "pairs": kept})
    found = similarity.find(tables)
    (values,) = values_of(found.sentences, "similarity-left_out")
    assert (values["count"], values["total"]) == (1, 6)
    names = {row["name"] for row in found.frames["neighbours"]}
    assert (len(names), len(found.frames["similarity"])) == (5, 10) and lost not in names


def test_similarity_pair_at_two_densities_has_one_row_of_the_smaller():
    vectors = two_clusters()
    rows = [
        row | {"density": density, "overlap": 0.4 + density, "overlap_by_chance": density}
        for row in pairs_of(vectors)
        for density in (0.2, 0.05)
    ]
    tables = Tables.of({"trials": trials_of(vectors, RECIPES), "pairs": rows})
    found = similarity.find(tables).frames["similarity"]
    assert len(found) == math.comb(6, 2)
    assert {row["density"] for row in found} == {0.05}
    assert [row["over_chance"] for row in found] == pytest.approx([9] * 15, rel=1e-12)


def test_similarity_of_no_pairs_says_that_nothing_was_measured():
    tables = Tables.of({"trials": trials_of(two_clusters(), RECIPES)})
    assert values_of(similarity.find(tables).sentences, "similarity-nothing") == [{}]


def test_similarity_of_crossed_seeds_compares_seeds_without_a_number_in_common():
    seeds = [Seeds(1, 1, 1), Seeds(1, 2, 1), Seeds(2, 2, 2)]
    vectors = two_clusters(seeds=seeds)
    found = similarity.find(study_of(vectors, RECIPES))
    (values,) = values_of(found.sentences, "similarity-seeds_together")
    apart = [cosine_of(vectors[r, seeds[0]], vectors[r, seeds[2]]) for r in "ab"]
    assert values["total"] == 4
    assert values["recipe"] == pytest.approx(np.mean(apart), rel=1e-12)
    marks = {row["name"]: row["seed"] for row in found.frames["neighbours"]}
    assert marks[name_of("a", seeds[0])] == 1
    assert marks[name_of("a", seeds[1])] == "1o2"
    factors = [row["factor"] for row in found.frames["silhouette"]]
    assert factors == ["data", "seed_init", "seed_order", "seed_dropout"]
