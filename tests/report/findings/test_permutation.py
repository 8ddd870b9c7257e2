"""p-values against scipy's own permutations of paired samples, and against counting by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from raylab.report.findings import permutation
from raylab.report.findings.permutation import least_p, permutation_p, permutations


def blocks_of(levels, seeds):
    """Model `level * seeds + seed`: those of one seed are a block."""
    return [[level * seeds + seed for level in range(levels)] for seed in range(seeds)]


def spread_of_means(values):
    """The statistic: the largest mean of a label less the smallest."""

    def statistic(labels):
        means = [values[labels == label].mean() for label in np.unique(labels)]
        return float(max(means) - min(means))

    return statistic


@pytest.mark.parametrize(("levels", "seeds"), [(2, 3), (2, 6), (3, 3), (3, 4)])
def test_permutation_of_blocks_agrees_with_scipy_on_paired_samples(levels, seeds):
    chance = np.random.default_rng(levels * 10 + seeds)
    values = chance.normal(0, 1, levels * seeds)
    values[:seeds] += 1
    labels = np.repeat(np.arange(levels), seeds)

    def of_samples(*samples):
        means = [sample.mean() for sample in samples]
        return max(means) - min(means)

    expected = stats.permutation_test(
        [values[labels == level] for level in range(levels)],
        of_samples,
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    found = permutation_p(labels, blocks_of(levels, seeds), spread_of_means(values))
    assert found == pytest.approx(expected, rel=1e-12)


def test_permutation_of_one_block_agrees_with_scipy_on_independent_samples():
    values = np.array([0.1, 0.4, 0.2, 1.9, 2.2, 0.3, 2.4])
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    expected = stats.permutation_test(
        (values[:3], values[3:]),
        lambda a, b: abs(a.mean() - b.mean()),
        permutation_type="independent",
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    found = permutation_p(labels, [list(range(7))], spread_of_means(values))
    assert found == pytest.approx(expected, rel=1e-12)


def test_permutation_that_is_drawn_is_near_the_exact_one(monkeypatch):
    chance = np.random.default_rng(3)
    values = chance.normal(0, 1, 12)
    labels = np.repeat(np.arange(2), 6)
    exact = permutation_p(labels, blocks_of(2, 6), spread_of_means(values))
    monkeypatch.setattr(permutation, "MOST", 1)
    drawn = permutation_p(labels, blocks_of(2, 6), spread_of_means(values))
    again = permutation_p(labels, blocks_of(2, 6), spread_of_means(values))
    assert drawn == again
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 9_999))


def test_permutation_that_is_drawn_counts_the_observed_one():
    # Of 2^20 permutations none but the observed one and its mirror image reaches the largest value.
    values = np.concatenate([np.zeros(20), np.ones(20)])
    labels = np.repeat(np.arange(2), 20)
    assert permutations(blocks_of(2, 20)) == 2**20
    found = permutation_p(labels, blocks_of(2, 20), spread_of_means(values))
    assert found == pytest.approx(1 / 10_000, rel=1e-9)


def test_permutation_without_an_effect_has_a_p_of_one():
    labels = np.repeat(np.arange(2), 3)
    assert permutation_p(labels, blocks_of(2, 3), spread_of_means(np.ones(6))) == 1


@pytest.mark.parametrize(("levels", "seeds"), [(2, 2), (2, 3), (3, 2), (3, 3)])
def test_least_p_is_the_least_that_any_effect_reaches(levels, seeds):
    labels = np.repeat(np.arange(levels), seeds)
    blocks = blocks_of(levels, seeds)
    values = np.repeat(10.0 ** np.arange(levels), seeds)

    def between_less_within(found):
        pairs = list(itertools.combinations(range(len(found)), 2))
        between = [abs(values[i] - values[j]) for i, j in pairs if found[i] != found[j]]
        within = [abs(values[i] - values[j]) for i, j in pairs if found[i] == found[j]]
        return float(np.mean(between) - np.mean(within))

    p = permutation_p(labels, blocks, between_less_within)
    assert least_p(labels, blocks, [list(range(seeds))]) == pytest.approx(p, rel=1e-12)
    assert p == pytest.approx(math.factorial(levels) ** (1 - seeds), rel=1e-12)
