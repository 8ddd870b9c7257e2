"""The compiled kernel against the one in plain torch."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.reduce.histogram import TILE, Magnitudes, bits_below, carry
from raylab.reduce.histogram_numba import CompiledTally
from raylab.reduce.squares import squares_of
from tests.oracles import norms as oracle
from tests.oracles.torch_histogram import bucket_moments, candidates, extremes
from tests.reduce.arrays import arrays

QUICK = settings(max_examples=60, deadline=None)
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def flushed(tally):
    sums = Magnitudes()
    found = tally.flush(sums)
    carry(sums.moments)
    return sums.moments, found


@QUICK
@given(arrays(2), st.sampled_from([0.0, 1e-5, 0.3]), st.data())
def test_compiled_any_array_equals_torch(values, tolerance, data):
    buckets = sorted({oracle.bits_of(value) >> 16 for value in values.tolist()})
    wanted = data.draw(st.lists(st.sampled_from(buckets), unique=True, max_size=3))
    tally, taken = CompiledTally(wanted, tolerance=bits_below(tolerance)), []
    for part in (values, values[: values.size // 2], values[::-1].copy()):
        taken.append(torch.from_numpy(part))
        tally.add(taken[-1])
        moments, found = flushed(tally)
        assert np.array_equal(moments, bucket_moments(taken[-1]))
        assert found == extremes(taken[-1], tolerance)
    counts, expected = tally.candidates(wanted), candidates(torch.cat(taken), wanted)
    for bucket in wanted:
        for mine, other in zip(counts[bucket], expected[bucket], strict=True):
            assert mine.tolist() == other.tolist()


@QUICK
@given(arrays(1), arrays(1), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_compiled_difference_of_any_dtypes_equals_torch(left, right, first, second):
    size = min(left.size, right.size)
    a = torch.from_numpy(left[:size]).clamp(-1e4, 1e4).to(first)
    b = torch.from_numpy(right[:size]).clamp(-1e4, 1e4).to(second)
    tally = CompiledTally(())
    tally.add_difference(a, b)
    assert np.array_equal(flushed(tally)[0], bucket_moments(a.float() - b.float()))


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 3 * 4096 + 5, TILE])
def test_compiled_blocks_and_tiles_of_any_size_equal_torch(size):
    torch.manual_seed(size)
    a, b = (torch.randn(size).bfloat16() for _ in range(2))
    tally = CompiledTally(())
    for _ in range(2):
        tally.add_difference(a, b)
        assert np.array_equal(flushed(tally)[0], bucket_moments(a.float() - b.float()))


def test_compiled_tile_of_largest_low_bits_does_not_overflow():
    values = torch.full((TILE,), 0x3F80FFFF, dtype=torch.int32).view(torch.float32)
    tally = CompiledTally(())
    tally.add(values)
    assert np.array_equal(flushed(tally)[0], bucket_moments(values))
    with pytest.raises(AssertionError, match="larger"):
        tally.add(torch.zeros(TILE + 1))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_compiled_not_finite_shows_in_the_largest_bits(wrong):
    tally = CompiledTally(())
    tally.add_difference(torch.tensor([1.0, wrong]).bfloat16(), torch.zeros(2).bfloat16())
    assert flushed(tally)[1].largest >= 0x7F800000


def test_compiled_releases_the_lock_for_other_threads():
    values, done = torch.randn(TILE), []

    def work():
        tally = CompiledTally(())
        for _ in range(20):
            tally.add(values)
            done.append(flushed(tally)[0])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = bucket_moments(values)
    assert len(done) == 60
    assert all(np.array_equal(moments, expected) for moments in done)


@pytest.mark.parametrize("dtype", DTYPES)
def test_squares_equal_those_of_float64(dtype):
    values = torch.randn(10_001).to(dtype)
    assert squares_of(values) == pytest.approx(float((values.double() ** 2).sum()), rel=1e-13)
