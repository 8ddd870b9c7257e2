"""Norms against exact rational arithmetic."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.errors import NonFiniteError
from raylab.reduce import histogram as kernels
from raylab.reduce.histogram import (
    Extremes,
    Norms,
    add_candidates,
    add_moments,
    bits_below,
    partial_sums,
)
from tests.oracles import norms as oracle
from tests.oracles.torch_histogram import bucket_moments, candidates, extremes
from tests.reduce.arrays import arrays

QUICK = settings(max_examples=60, deadline=None)


def norms_of(values):
    return of_tensor(torch.from_numpy(np.ascontiguousarray(values)))


def of_tensor(tensor):
    return kernels.norms_of(bucket_moments(tensor), extremes(tensor))


def assert_norms(found, values):
    first, second = oracle.l1(values), oracle.squares(values)
    assert found.numel == values.size
    assert found.nonzero == int((values != 0).sum())
    assert found.linf == max(map(abs, values.ravel().tolist()), default=0.0)
    assert Fraction(found.l1_exact, 2**149) == first
    assert Fraction(found.l2_exact, 2**298) == second
    assert found.l1 == float(first)
    assert abs(found.l2 - oracle.root(second)) <= math.ulp(oracle.root(second))


@QUICK
@given(arrays())
def test_moments_any_array_equal_those_counted_one_by_one(values):
    found = bucket_moments(torch.from_numpy(values))
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.shape) == (np.int64, (4, 32768))
    expected = oracle.moments(values)
    assert set(np.flatnonzero(found.any(axis=0)).tolist()) == set(expected)
    for bucket, (count, first, second) in expected.items():
        assert found[:, bucket].tolist() == [count, first, second // 2**32, second % 2**32]


@QUICK
@given(arrays())
def test_norms_any_array_equal_the_exact_sums_rounded_once(values):
    assert_norms(norms_of(values), values)


@QUICK
@given(arrays(1), st.randoms(use_true_random=False), st.integers(1, 6))
def test_moments_any_parts_in_any_order_are_identical(values, random, parts):
    whole = bucket_moments(torch.from_numpy(values))
    order = list(range(values.size))
    random.shuffle(order)
    pieces = [values[order[start::parts]] for start in range(parts)]
    total, norms = np.zeros_like(whole), Norms()
    for piece in pieces:
        moments = bucket_moments(torch.from_numpy(piece))
        total = add_moments(total, moments)
        norms += of_tensor(torch.from_numpy(piece))
    assert np.array_equal(total, whole)
    assert norms == norms_of(values)


@pytest.mark.parametrize("bits", [0xFFFF, 0x3F80FFFF, 0x7F7FFFFF])
def test_moments_more_than_a_tile_of_largest_low_bits_are_exact(bits):
    size = 2**21 + 3
    values = torch.full((size,), bits, dtype=torch.int32).view(torch.float32)
    found = bucket_moments(values)
    second = size * 65535**2
    column = found[:, bits >> 16].tolist()
    assert column == [size, size * 65535, second // 2**32, second % 2**32]
    norms = of_tensor(values)
    one = Fraction(float(values[0]))
    assert norms.l1 == float(size * one)
    expected = oracle.root(size * one * one)
    assert abs(norms.l2 - expected) <= math.ulp(expected)


def test_norms_many_random_entries_equal_fsum():
    values = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    found = norms_of(values)
    assert found.l1 == math.fsum(abs(value) for value in values.tolist())
    # A product of two float32 is exact in float64.
    square = math.fsum(value * value for value in values.tolist())
    assert abs(found.l2 - math.sqrt(square)) <= math.ulp(found.l2)


def test_norms_where_float32_and_float64_sums_fail_are_exact():
    values = np.float32([1e30, *[1.0] * 50, 1e-30, 1.4e-45])
    assert_norms(norms_of(values), values)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 3), (2, 3, 4)])
def test_norms_any_shape_are_those_of_the_entries(shape):
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    values = np.asarray(values, dtype=np.float32)
    found = norms_of(values.reshape(shape)) if shape else norms_of(values)
    assert_norms(found, values)


def test_norms_not_contiguous_are_those_of_the_entries():
    values = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    moments = bucket_moments(values.T)
    assert np.array_equal(moments, bucket_moments(values))
    part = values[:, ::2]
    assert of_tensor(part).l1 == float(part.sum())


@pytest.mark.parametrize("wrong", [math.nan, -math.nan, math.inf, -math.inf])
def test_moments_not_finite_are_refused(wrong):
    values = torch.ones(10)
    values[7] = wrong
    with pytest.raises(NonFiniteError):
        bucket_moments(values)


def test_moments_leave_values_alone():
    values = torch.tensor([-1.0, 2.0])
    bucket_moments(values)
    candidates(values, [0])
    assert values.tolist() == [-1.0, 2.0]


def test_moments_any_number_of_threads_are_identical():
    values = torch.from_numpy(np.random.default_rng(2).standard_normal(2**18).astype(np.float32))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = bucket_moments(values)
        torch.set_num_threads(4)
        assert np.array_equal(one, bucket_moments(values))
    finally:
        torch.set_num_threads(before)


def test_norms_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Norms().numel = 1


@QUICK
@given(arrays(), arrays())
def test_norms_added_equal_those_of_both(left, right):
    assert norms_of(left) + norms_of(right) == norms_of(np.concatenate([left, right]))
    assert norms_of(left) + Norms() == norms_of(left)


@QUICK
@given(arrays(), st.data())
def test_candidates_any_buckets_are_those_entries(values, data):
    bits = [oracle.bits_of(value) for value in values.tolist()]
    there = sorted({value >> 16 for value in bits}) or [0]
    chosen = data.draw(st.lists(st.sampled_from([*there, 0, 5, 32000]), unique=True, max_size=4))
    found = candidates(torch.from_numpy(values), chosen)
    expected = {}
    for value in bits:
        if value >> 16 in chosen:
            expected[value] = expected.get(value, 0) + 1
    assert sorted(found) == sorted(chosen)
    assert {
        (bucket << 16) + low: count
        for bucket, pairs in found.items()
        for low, count in zip(*(part.tolist() for part in pairs), strict=True)
    } == expected


@QUICK
@given(arrays(1), arrays(1))
def test_candidates_added_up_give_the_sums_of_their_bucket(left, right):
    values = np.concatenate([left, right])
    bucket = oracle.bits_of(float(values[0])) >> 16
    total = {}
    for part in (left, right):
        add_candidates(total, candidates(torch.from_numpy(part), [bucket]))
    inside = [value for value in values.tolist() if oracle.bits_of(value) >> 16 == bucket]
    first, second = partial_sums(bucket, total[bucket])
    assert Fraction(first, 2**149) == oracle.l1(inside)
    assert Fraction(second, 2**298) == oracle.squares(inside)


TOLERANCES = st.one_of(st.just(0.0), st.just(1e-5), st.floats(0, 1))


@QUICK
@given(arrays(1), TOLERANCES)
def test_tolerance_as_bits_divides_float32_magnitudes_as_the_number_does(values, tolerance):
    for edge in (np.float32(tolerance), np.nextafter(np.float32(tolerance), np.float32(2))):
        values = np.append(values, [edge, -edge])
    above = [abs(Fraction(float(value))) > Fraction(tolerance) for value in values]
    limit = bits_below(tolerance)
    assert [oracle.bits_of(value) > limit for value in values.tolist()] == above


@QUICK
@given(arrays(1), TOLERANCES)
def test_extremes_any_array_are_those_of_the_entries(values, tolerance):
    bits = [oracle.bits_of(value) for value in values.tolist()]
    nonzero = int((values != 0).sum())
    moved = sum(abs(Fraction(value)) > Fraction(tolerance) for value in values.tolist())
    found = extremes(torch.from_numpy(values), tolerance)
    assert found == Extremes(max(bits), min(bits), nonzero, moved)
