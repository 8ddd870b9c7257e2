"""Thresholds, trimmed norms and the curve against sorting and exact arithmetic."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raylab.reduce.histogram import Magnitudes, add_candidates, norms_of
from raylab.reduce.interval_tally import IntervalTally
from raylab.reduce.threshold import at_density, boundary_buckets, curve, num_keep
from tests.oracles import norms as oracle
from tests.oracles.torch_histogram import bucket_moments, candidates, extremes
from tests.reduce.arrays import arrays

QUICK = settings(max_examples=60, deadline=None)
DENSITIES = st.sampled_from([0.001, 0.01, 0.1, 0.2, 0.29, 0.3, 0.5, 0.57, 0.999, 1.0]) | st.floats(
    1e-6, 1
)


def close(found, expected, ulps):
    return abs(found - expected) <= ulps * math.ulp(expected)


def trimmed(parts, densities):
    """The whole way, as shards go it: moments, buckets, candidates, each density. Sums of intervals
    around all buckets in use give the same."""
    tensors = [torch.from_numpy(part) for part in parts]
    whole = Magnitudes()
    for tensor in tensors:
        whole.merge(magnitudes(tensor))
    counts = {}
    for tensor in tensors:
        add_candidates(counts, candidates(tensor, boundary_buckets(whole, densities)))
    found = [at_density(whole, counts, density) for density in densities]
    assert by_intervals(tensors, densities) == found
    return found


def magnitudes(tensor):
    moments, ends = bucket_moments(tensor), extremes(tensor)
    return Magnitudes(norms_of(moments, ends), ends, moments)


def by_intervals(tensors, densities):
    used = np.unique(np.concatenate([bucket_moments(tensor)[0].nonzero()[0] for tensor in tensors]))
    tally, whole, counts = IntervalTally(used[-400:].tolist()), Magnitudes(), {}
    for tensor in tensors:
        tally.add(tensor)
        tally.flush(whole)
    add_candidates(counts, tally.candidates(boundary_buckets(whole, densities)))
    return [at_density(whole, counts, density) for density in densities]


def assert_trimmed(found, values, density):
    keep, threshold, above, first, second = oracle.at_density(values, density)
    assert (found.density, found.num_keep, found.at_or_above) == (density, keep, above)
    assert found.threshold == float(threshold)
    assert found.l1 == float(first)
    assert close(found.l2, oracle.root(second), 1)
    whole_first, whole_second = oracle.l1(values), oracle.squares(values)
    if whole_first == 0:
        assert (found.l1_share, found.l2_share) == (None, None)
    else:
        assert close(found.l1_share, float(Fraction(first) / whole_first), 3)
        assert close(found.l2_share, oracle.root(Fraction(second) / whole_second), 4)


@pytest.mark.parametrize(
    ("density", "numel", "keep"),
    [
        (0.29, 100, 29), (0.57, 100, 57), (0.58, 100, 58), (0.1, 10, 1), (0.1, 9, 1), (0.7, 10, 7),
        (0.3, 10, 3), (1.0, 7, 7), (1, 7, 7), (1e-9, 100, 1), (1e-5, 10**6, 10), (0.2, 501007872,
        100201574), (0.999, 1000, 999), (0.3333333333333333, 3, 1), (0.0001, 10**12, 10**8),
    ],
)  # fmt: skip
def test_num_keep_density_is_the_decimal_that_is_written(density, numel, keep):
    assert num_keep(density, numel) == keep


@given(st.floats(1e-12, 1), st.integers(1, 10**12))
def test_num_keep_any_density_agrees_with_decimals(density, numel):
    assert num_keep(density, numel) == oracle.num_keep(density, numel)
    assert 1 <= num_keep(density, numel) <= numel


@given(st.integers(1, 9999), st.integers(1, 10**6))
def test_num_keep_four_digits_agree_with_integers(digits, numel):
    assert num_keep(float(f"{digits / 10000:.4f}"), numel) == max(1, digits * numel // 10000)


@QUICK
@given(arrays(1), st.lists(DENSITIES, min_size=1, max_size=4))
def test_boundary_buckets_hold_the_last_kept_entry_unless_it_is_known_without(values, densities):
    found = magnitudes(torch.from_numpy(values))
    bits = [oracle.bits_of(value) for value in values.tolist()]
    expected = set()
    for density in densities:
        keep, threshold, *_ = oracle.at_density(values, density)
        bucket = oracle.bits_of(float(threshold)) >> 16
        if keep < values.size and len({b for b in bits if b >> 16 == bucket}) > 1:
            expected.add(bucket)
    assert boundary_buckets(found, densities) == sorted(expected)


@QUICK
@given(arrays(1), st.lists(DENSITIES, min_size=1, max_size=4))
@example(np.zeros(5, np.float32), [0.2, 1.0])
@example(np.float32([0, 0, 0, 1]), [0.5, 0.25])
def test_at_density_any_array_equals_sorting(values, densities):
    for found, density in zip(trimmed([values], densities), densities, strict=True):
        assert_trimmed(found, values, density)


@QUICK
@given(arrays(1), st.lists(DENSITIES, min_size=1, max_size=3), st.integers(1, 5), st.randoms())
def test_at_density_any_shards_give_identical_results(values, densities, shards, random):
    order = list(range(values.size))
    random.shuffle(order)
    parts = [np.ascontiguousarray(values[order[start::shards]]) for start in range(shards)]
    assert trimmed(parts, densities) == trimmed([values], densities)


@pytest.mark.parametrize("density", [0.1, 0.29, 0.5, 1.0])
def test_at_density_heavy_ties_keep_exactly_num_keep(density):
    values = np.repeat(np.float32([0.5, -0.5, 0.25, 1]), [400, 300, 200, 100])
    [found] = trimmed([values], [density])
    assert_trimmed(found, values, density)
    assert found.at_or_above >= found.num_keep


def test_at_density_one_bucket_of_distinct_magnitudes_is_exact():
    values = (0x3F800000 + np.arange(65536, dtype=np.uint32)).view(np.float32)
    values = np.random.default_rng(0).permutation(values)
    [found] = trimmed([values], [0.29])
    assert found.num_keep == found.at_or_above == 19005
    assert found.threshold == 1 + (65536 - 19005) * 2**-23
    assert found.l1 == math.fsum(np.sort(values)[-19005:].tolist())


def test_at_density_whole_is_the_whole():
    values = np.random.default_rng(3).standard_normal(1000).astype(np.float32)
    [found] = trimmed([values], [1.0])
    assert (found.l1_share, found.l2_share, found.num_keep) == (1.0, 1.0, 1000)
    assert found.threshold == float(np.abs(values).min())


def test_at_density_result_is_frozen_with_its_fields():
    [found] = trimmed([np.float32([1, 2])], [0.5])
    assert list(dataclasses.asdict(found)) == [
        "density", "num_keep", "threshold", "at_or_above", "l1", "l2", "l1_share", "l2_share",
    ]  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.l1 = 0


@QUICK
@given(arrays(1), st.sampled_from([2, 7, 40]))
def test_curve_any_array_equals_sums_between_bucket_edges(values, points):
    if not values.any():
        return
    rows = curve(bucket_moments(torch.from_numpy(values)), points)
    assert len(rows) == points
    for density, first, second in rows:
        one, two = oracle.shares(values, density)
        assert first == pytest.approx(one, rel=1e-9, abs=1e-12)
        assert second == pytest.approx(two, rel=1e-6, abs=1e-9)


@QUICK
@given(arrays(1))
def test_curve_any_array_rises_to_one(values):
    if not values.any():
        return
    rows = np.array(curve(bucket_moments(torch.from_numpy(values))))
    assert rows.shape == (512, 3)
    assert rows[-1].tolist() == [1.0, 1.0, 1.0]
    assert (np.diff(rows, axis=0) >= -1e-12).all()
    assert (rows > 0).all()
    assert (rows <= 1 + 1e-12).all()


def test_curve_densities_are_spaced_by_logarithm():
    moments = bucket_moments(torch.arange(1, 1001, dtype=torch.float32))
    steps = np.diff(np.log([density for density, _, _ in curve(moments)]))
    assert np.allclose(steps, steps[0])


def test_curve_all_zero_has_no_shares():
    rows = curve(bucket_moments(torch.zeros(10)), 4)
    assert [row[1:] for row in rows] == [(None, None)] * 4
    assert rows[-1][0] == 1.0


def test_curve_agrees_with_at_density_at_bucket_edges():
    values = np.float32(2.0) ** np.arange(-10, 10, dtype=np.float32)
    for density, first, second in curve(bucket_moments(torch.from_numpy(values)), 3):
        if density * 20 == int(density * 20):
            [found] = trimmed([values], [density])
            assert first == pytest.approx(found.l1_share, rel=1e-12)
            assert second == pytest.approx(found.l2_share, rel=1e-12)
