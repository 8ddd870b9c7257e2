"""Counts of several threads put together and packed, against numpy's own counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.reduce.collected import bytes_of, gather, packed
from raylab.reduce.histogram_backend import tallies_for

BUCKETS = (0x3F80, 0x3F81, 0x3FA0)
"""Of magnitudes from 1 to 1.016, and of 1.25."""


def counted(parts, histograms):
    """The tallies of one thread for each part, and all parts as one array."""
    kept = []
    for part in parts:
        tallies = tallies_for({"pair": BUCKETS}, histograms)
        tallies["pair"].add(part)
        kept.append(tallies)
    return kept, np.concatenate(parts)


def expected_counts(values, bucket):
    bits = np.abs(values).view(np.uint32)
    return np.unique(bits[bits >> 16 == bucket] & 0xFFFF, return_counts=True)


@pytest.mark.parametrize("histograms", [True, False])
@settings(max_examples=15, deadline=None)
@given(repeats=st.lists(st.integers(0, 400), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_packed_counts_of_any_threads_are_those_of_all_values(histograms, repeats, seed):
    draws = np.random.default_rng(seed)
    parts = [
        np.concatenate(
            [draws.uniform(-2, 2, 3000).astype(np.float32), np.full(n, 1.25, np.float32)]
        )
        for n in repeats
    ]
    every = (np.arange(1 << 16, dtype=np.uint32) + (BUCKETS[1] << 16)).view(np.float32)
    kept, values = counted([*parts, every], histograms)
    whole = packed(kept)
    gathered = {"pair": {}}
    gather(gathered, whole, {"pair": BUCKETS})
    for bucket, (low, counts) in whole[0]["pair"].candidates(BUCKETS).items():
        expected = expected_counts(values, bucket)
        for found in ((low, counts), gathered["pair"][bucket]):
            assert np.array_equal(found[0], expected[0])
            assert np.array_equal(found[1], expected[1])
        assert low.dtype == np.uint16
        assert counts.dtype == np.min_scalar_type(expected[1].max(initial=0))


def test_bytes_of_tallies_are_those_of_their_counts():
    kept, _ = counted([np.ones(3, np.float32)] * 2, False)
    assert bytes_of(kept) == sum(tallies["pair"]._counts.nbytes for tallies in kept)
