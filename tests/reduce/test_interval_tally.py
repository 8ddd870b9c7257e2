"""Sums of intervals: norms and thresholds without a histogram, against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.errors import NonFiniteError
from raylab.reduce import passes, threshold_sampling
from raylab.reduce.histogram import (
    INFINITY,
    Interval,
    Magnitudes,
    bits_below,
    intervals_of,
    norms_of,
)
from raylab.reduce.histogram_numba import CompiledTally
from raylab.reduce.interval_tally import IntervalTally
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_job
from raylab.reduce.row_block import Pair
from raylab.reduce.squares import squares_by_tile, squares_of
from raylab.store.references import ModelLocation
from raylab.weights.adapter_parts import Factors
from tests.oracles import norms as oracle
from tests.oracles.torch_histogram import bucket_moments, extremes
from tests.reduce.arrays import arrays
from tests.reduce.models import Q0, Q10, UP0, random_factors, write_adapter, write_checkpoint

QUICK = settings(max_examples=80, deadline=None)
DENSITIES = (0.01, 0.1, 0.29, 0.5, 1.0)


def flushed(tally):
    found = Magnitudes()
    tally.flush(found)
    return found


def of_histogram(values):
    return norms_of(bucket_moments(values), extremes(values))


@QUICK
@given(arrays(1), st.integers(1, 6), st.sampled_from([0.0, 1e-5, 0.3]))
def test_tally_any_array_sums_exactly_what_lies_above_each_interval_and_counts_in_it(
    values, wanted, tolerance
):
    bits = np.array([oracle.bits_of(value) for value in values.tolist()])
    buckets = sorted({int(b) >> 16 for b in bits})[-wanted:]
    tally = IntervalTally(buckets, bits_below(tolerance))
    tally.add(torch.from_numpy(values))
    found = flushed(tally)
    assert found.norms.numel == values.size
    moved = sum(abs(Fraction(value)) > Fraction(tolerance) for value in values.tolist())
    assert found.norms.moved == found.extremes.moved == moved
    assert (found.extremes.largest, found.extremes.smallest) == (bits.max(), bits.min())
    assert Fraction(found.norms.l1_exact, 2**149) == oracle.l1(values)
    assert Fraction(found.norms.l2_exact, 2**298) == oracle.squares(values)
    assert [(each.first, each.last) for each in found.intervals] == [
        (each.first, each.last) for each in intervals_of(buckets)
    ]
    for each in found.intervals:
        higher = values[bits >> 16 > each.last]
        assert each.entries == higher.size
        assert Fraction(each.l1_exact, 2**149) == oracle.l1(higher)
        assert Fraction(each.l2_exact, 2**298) == oracle.squares(higher)
    for bucket, (low, counts) in tally.candidates(buckets).items():
        inside = bits[bits >> 16 == bucket] & 0xFFFF
        there, expected = np.unique(inside, return_counts=True)
        assert (low.tolist(), counts.tolist()) == (there.tolist(), expected.tolist())


def test_tally_usual_magnitudes_of_later_tiles_are_counted():
    tally = IntervalTally([0x3F80])
    values = torch.tensor([1.0] * 5000 + [1.0000001] * 7 + [2.0])
    for _ in range(3):
        tally.add(values)
        flushed(tally)
    low, counts = tally.candidates([0x3F80])[0x3F80]
    assert (low.tolist(), counts.tolist()) == ([0, 1], [15000, 21])


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.bfloat16, 1),
        (torch.bfloat16, 10_000),
        (torch.float16, 2047),
        (torch.float16, 2049),
        (torch.float32, 2048),
        (torch.float32, 600_001),
    ],
)
def test_tally_difference_of_any_dtype_and_size_equals_a_histogram(dtype, size):
    torch.manual_seed(size)
    a, b = ((0.02 * torch.randn(size)).to(dtype) for _ in range(2))
    difference = a.float() - b.float()
    buckets = sorted({int(b) >> 16 for b in (difference.view(torch.int32) & 0x7FFFFFFF).tolist()})
    tally = IntervalTally(buckets[-20::4])
    tally.add_difference(a, b)
    found, moments = flushed(tally), bucket_moments(difference)
    assert found.norms == of_histogram(difference)
    for each in found.intervals:
        assert each.entries == moments[0, each.last + 1 :].sum()
        higher = difference.abs().view(torch.int32) >> 16 > each.last
        expected = of_histogram(difference[higher])
        assert (each.l1_exact, each.l2_exact) == (expected.l1_exact, expected.l2_exact)


@pytest.mark.parametrize("spread", [1, 20, 27, 29, 60, 200])
@pytest.mark.parametrize("top", [1e-30, 1.0, 1e30])
def test_tally_blocks_of_any_range_of_magnitudes_are_exact(spread, top):
    """From one int32 a magnitude to one unit each: every way that a block can take."""
    draws = np.random.default_rng(spread)
    powers = np.ldexp(top, -draws.integers(0, spread, 3 * 2048 + 11))
    values = torch.from_numpy((draws.standard_normal(powers.size) * powers).astype(np.float32))
    tally = IntervalTally([0x3F80])
    for _ in range(40):
        tally.add(values)
    found, expected = flushed(tally).norms, of_histogram(values)
    assert found.l1_exact == 40 * expected.l1_exact
    assert found.l2_exact == 40 * expected.l2_exact


def test_tally_largest_sums_of_a_block_do_not_overflow():
    for value in (2.0**26 - 4, 1.0 - 2**-24, 1 / 3, 1e-20 / 3, 3e38):
        values = torch.full((64 * 2048,), value)
        values[::2048] = value * 2.0**-14
        tally = IntervalTally([0x3000])
        tally.add(values)
        assert flushed(tally).norms == of_histogram(values)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_tally_not_finite_shows_in_the_largest_bits(wrong):
    tally = IntervalTally([])
    tally.add(torch.tensor([1.0, wrong]))
    assert flushed(tally).extremes.largest >= INFINITY


@QUICK
@given(
    st.integers(1, 20),
    st.sampled_from([1, 2, 255, 256, 257, 600]),
    st.sampled_from([1, 3, 7, 8, 9, 16]),
    st.integers(0, 2**32 - 1),
)
def test_tallies_products_of_factors_are_taken_as_their_values_are(rows, columns, rank, seed):
    # Small integers: every product and sum is exact in float32, whatever its order.
    draw = np.random.default_rng(seed)
    ups, downs = (
        [draw.integers(-3, 4, shape).astype(np.float32) for _ in range(2)]
        for shape in ((rows + 2, rank), (rank, columns))
    )
    scales = (0.5, 2.0)
    whole = [s * (u.astype(np.float64) @ d) for s, u, d in zip(scales, ups, downs, strict=True)]
    difference = torch.from_numpy((whole[0] - whole[1])[1 : rows + 1].astype(np.float32))
    buckets = sorted({int(b) >> 16 for b in map(oracle.bits_of, difference.reshape(-1).tolist())})
    factors = [
        Factors(torch.from_numpy(d), torch.from_numpy(u), s)
        for s, u, d in zip(scales, ups, downs, strict=True)
    ]
    for kind in (IntervalTally, CompiledTally):
        ours, theirs = kind(buckets[-4:]), kind(buckets[-4:])
        ours.add_products(*((each,) for each in factors), 1, rows + 1)
        theirs.add(difference)
        found, expected = flushed(ours), flushed(theirs)
        assert found.extremes == expected.extremes
        assert (found.norms, found.intervals) == (expected.norms, expected.intervals)
        assert np.array_equal(found.moments, expected.moments)
        mine, other = ours.candidates(buckets[-4:]), theirs.candidates(buckets[-4:])
        for bucket in buckets[-4:]:
            assert [part.tolist() for part in mine[bucket]] == [
                part.tolist() for part in other[bucket]
            ]


def test_intervals_neighbouring_buckets_are_one_interval_and_the_largest_comes_first():
    assert intervals_of([5, 3, 4, 9]) == [Interval(9, 9), Interval(3, 5)]
    assert intervals_of([]) == []


@pytest.fixture
def foreseen(monkeypatch):
    """A sample of everything, so that thresholds of small models are foreseen."""
    for name in ("_OF_ALL", "_LEAST_EVERY", "_MOST_EVERY"):
        monkeypatch.setattr(threshold_sampling, name, 1)
    monkeypatch.setattr(threshold_sampling, "_WIDEST", 60)


def checkpoints(path, dtype):
    draws = torch.Generator().manual_seed(0)
    a = {n: torch.randn(s, generator=draws).to(dtype) for n, s in SIZES.items()}
    b = {
        n: (w.float() + 0.01 * torch.randn(w.shape, generator=draws)).to(dtype)
        for n, w in a.items()
    }
    for name, weights in (("a", a), ("b", b)):
        write_checkpoint(path / name, weights)
    return {name: ModelLocation(checkpoint=path / name) for name in "ab"}


def adapters(path, _):
    for seed, name in enumerate("ab"):
        write_adapter(path / name, random_factors(seed, tuple(SIZES), shapes=SIZES))
    return {name: ModelLocation((path / name,)) for name in "ab"}


SIZES = {Q0: (300, 512), UP0: (257, 512), Q10: (100, 512)}
MODELS = [(checkpoints, torch.bfloat16), (checkpoints, torch.float32), (adapters, None)]


def reduced(places, densities=DENSITIES, threads=1, curve=False):
    job = Job(places, (Pair("a~b", "a", "b"),), threads=threads)
    return reduce_job(job, densities, InProcess(), 1, curve=curve)


@pytest.mark.parametrize(("made", "dtype"), MODELS)
def test_reduction_with_and_without_histograms_has_the_same_bits(foreseen, tmp_path, made, dtype):
    places = made(tmp_path, dtype)
    expected = reduced(places, curve=True)
    assert expected.total.magnitudes["a~b"].moments is not None
    for threads in (1, 3):
        found = reduced(places, threads=threads)
        assert found.total.magnitudes["a~b"].moments is None
        assert found.total.norms == expected.total.norms
        assert found.total.squares == expected.total.squares
        assert found.kept == expected.kept
        assert found.passes == 1
    for density in DENSITIES[1:3]:
        [at] = reduced(places, (density,)).kept["a~b"]
        assert at in expected.kept["a~b"]


def test_reduction_misled_about_thresholds_fills_histograms(foreseen, tmp_path, monkeypatch):
    places = checkpoints(tmp_path, torch.float32)
    expected = reduced(places)
    monkeypatch.setattr(passes, "foresee", lambda *_: (0x3F80,))
    found = reduced(places)
    assert found.kept == expected.kept
    assert found.total.norms == expected.total.norms
    assert (expected.passes, found.passes) == (1, 3)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_reduction_not_finite_is_an_error_that_names_the_tensor(foreseen, tmp_path, wrong):
    name = "model.layers.0.mlp.up_proj.weight"
    write_checkpoint(tmp_path / "a", {name: torch.tensor([[1.0, wrong]])})
    write_checkpoint(tmp_path / "b", {name: torch.tensor([[1.0, 2.0]])})
    with pytest.raises(NonFiniteError, match="up_proj"):
        reduced({n: ModelLocation(checkpoint=tmp_path / n) for n in "ab"}, (1.0,))


@pytest.mark.parametrize("columns", [1, 1000, 2048, 4096, 5000])
def test_squares_of_b_have_the_bits_of_a_pass_of_their_own(columns):
    generator = torch.Generator().manual_seed(columns)
    a, b = (torch.randn(9, columns, generator=generator).bfloat16() for _ in range(2))
    heights = [4, 4, 1]
    found = IntervalTally([0x3F80]).add_difference(a, b, heights)
    assert found == squares_by_tile(b, heights) == [squares_of(tile) for tile in b.split(heights)]
    exact = [float((tile.double() ** 2).sum()) for tile in b.split(heights)]
    assert found == pytest.approx(exact, rel=1e-13)
    assert IntervalTally([0x3F80]).add_difference(a.float(), b.float(), heights) is None
