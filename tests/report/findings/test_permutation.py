"""p-values against scipy's own permutations, and least values against counting by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from raylab.report.findings import permutation
from raylab.report.findings.permutation import Pairings, permutation_test, permutations


def blocks_of(levels, seeds):
    """Model `level * seeds + seed`: those of one seed are a block."""
    return [[level * seeds + seed for level in range(levels)] for seed in range(seeds)]


def labels_of(levels, seeds):
    return np.repeat(np.arange(levels), seeds)


def pairings_of(distances, levels, is_compared=lambda i, j: True):
    """All labels differ; `is_compared` says which models are a pair."""
    pairs = [p for p in itertools.combinations(range(len(distances)), 2) if is_compared(*p)]
    one, other = (np.array(places) for places in zip(*pairs, strict=True))
    values = np.array([distances[i, j] for i, j in pairs])
    return Pairings(one, other, values, ~np.eye(levels, dtype=bool))


def distances_of(count, seed, apart=()):
    """Distances of points on a line; those of `apart` are moved away."""
    points = np.random.default_rng(seed).normal(0, 1, count)
    points[list(apart)] += 3
    return np.abs(points[:, None] - points[None])


def spread(distances, seeds=None):
    """The statistic of scipy's tests, whose samples are places of models; only models of different
    seeds are compared where `seeds` are given."""

    def of_samples(*samples):
        label = {int(place): n for n, sample in enumerate(samples) for place in sample}
        between, within = [], []
        for i, j in itertools.combinations(sorted(label), 2):
            if seeds is None or i % seeds != j % seeds:
                (within if label[i] == label[j] else between).append(distances[i, j])
        return np.mean(between) - np.mean(within)

    return of_samples


def other_seeds(seeds):
    return lambda i, j: i % seeds != j % seeds


@pytest.mark.parametrize(("levels", "seeds"), [(2, 3), (2, 6), (3, 3), (3, 4)])
def test_permutation_of_blocks_agrees_with_scipy_on_paired_samples(levels, seeds):
    distances = distances_of(levels * seeds, levels + seeds, apart=range(seeds))
    labels = labels_of(levels, seeds)
    expected = stats.permutation_test(
        [np.flatnonzero(labels == level) for level in range(levels)],
        spread(distances, seeds),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    pairings = pairings_of(distances, levels, other_seeds(seeds))
    p, least = permutation_test(labels, blocks_of(levels, seeds), pairings)
    assert p == pytest.approx(expected, rel=1e-12)
    assert least == pytest.approx(math.factorial(levels) ** (1 - seeds), rel=1e-12)


@pytest.mark.parametrize(("first", "second"), [(3, 3), (3, 4), (6, 6)])
def test_permutation_of_one_block_agrees_with_scipy_on_independent_samples(first, second):
    count = first + second
    distances = distances_of(count, count, apart=range(first))
    labels = np.array([0] * first + [1] * second)
    expected = stats.permutation_test(
        (np.arange(first), np.arange(first, count)),
        spread(distances),
        permutation_type="independent",
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    p, least = permutation_test(labels, [list(range(count))], pairings_of(distances, 2))
    assert p == pytest.approx(expected, rel=1e-12)
    # The labels turned round are the same groups, if these have one size.
    alike = 2 if first == second else 1
    assert least == pytest.approx(alike / math.comb(count, first), rel=1e-12)


def test_permutation_counts_equal_assignments_once():
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert permutations(labels, [list(range(6))]) == 20
    assert permutations(labels, [[0, 3], [1, 4], [2, 5]]) == 8
    assert permutations(labels, [[0, 1, 2], [3, 4, 5]]) == 1


@pytest.mark.parametrize("seed", range(4))
def test_permutation_is_never_below_the_least_value_of_its_design(seed):
    # The first label has six seeds, the second three of them: what is alone keeps its place.
    labels = np.array([0] * 6 + [1] * 3)
    blocks = [[0, 6], [1, 7], [2, 8], [3], [4], [5]]
    numbers = [0, 1, 2, 3, 4, 5, 0, 1, 2]
    distances = distances_of(9, seed, apart=range(6))
    pairings = pairings_of(distances, 2, lambda i, j: numbers[i] != numbers[j])
    p, least = permutation_test(labels, blocks, pairings)
    assert least == 1 / 8
    assert p >= least


def test_least_value_of_groups_that_are_never_compared_counts_each_of_them():
    # Two starts with three orders each; only models of one start are compared, so that labels
    # turned round within one start alone leave every pair as it was.
    places = [(label, start, order) for label in (0, 1) for start in (0, 1) for order in range(3)]
    labels = np.array([label for label, *_ in places])
    blocks = [[n, n + 6] for n in range(6)]

    def is_compared(i, j):
        return places[i][1] == places[j][1] and places[i][2] != places[j][2]

    distances = distances_of(12, 1, apart=range(6))
    p, least = permutation_test(labels, blocks, pairings_of(distances, 2, is_compared))
    assert least == 4 / 64
    assert p >= least


def test_permutation_that_is_drawn_is_near_the_exact_one(monkeypatch):
    distances, labels = distances_of(12, 3), labels_of(2, 6)
    pairings = pairings_of(distances, 2, other_seeds(6))
    exact, _ = permutation_test(labels, blocks_of(2, 6), pairings)
    monkeypatch.setattr(permutation, "MOST", 1)
    drawn, least = permutation_test(labels, blocks_of(2, 6), pairings)
    assert (drawn, least) == permutation_test(labels, blocks_of(2, 6), pairings)
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 9_999))
    assert least == pytest.approx(2**-5, abs=4 * math.sqrt(2**-5 / 9_999))


def test_permutation_that_is_drawn_counts_the_observed_one():
    # Of 2^20 permutations only the observed one and its mirror image reach the largest value.
    distances, labels = distances_of(40, 5, apart=range(20)) + 1, labels_of(2, 20)
    distances[:20, 20:] += 100
    pairings = pairings_of(distances, 2, other_seeds(20))
    assert permutations(labels, blocks_of(2, 20)) == 2**20
    assert permutation_test(labels, blocks_of(2, 20), pairings) == (1e-4, 1e-4)


def test_permutation_without_an_effect_has_a_p_of_one():
    pairings = pairings_of(np.ones((6, 6)), 2, other_seeds(3))
    p, _ = permutation_test(labels_of(2, 3), blocks_of(2, 3), pairings)
    assert p == 1


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3, 3, 3, 3), (2, 3, 7, 5)])
def test_permutation_draws_block_by_block_in_their_order(sizes):
    ends = np.cumsum((0, *sizes))
    blocks = [list(range(a, b)) for a, b in itertools.pairwise(ends)]
    labels = np.concatenate([np.arange(size) for size in sizes])
    chance = np.random.default_rng(permutation._RANDOM_STATE)
    for row in permutation._drawn(labels, blocks)[:50]:
        for block in blocks:
            assert row[block].tolist() == chance.permutation(labels[block]).tolist()
