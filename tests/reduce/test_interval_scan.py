"""The scan: norms and thresholds without buckets, against exact arithmetic and the buckets."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.errors import NonFiniteError
from raylab.reduce.interval_scan import at_density, scan_pair
from raylab.reduce.interval_scanner import Scanner, runs_of
from raylab.reduce.passes import Job
from raylab.reduce.row_block import Pair
from raylab.weights.adapter_parts import Factors
from raylab.weights.views import ModelLocation
from tests.oracles import norms as oracle
from tests.reduce.arrays import arrays
from tests.reduce.models import write_checkpoint

QUICK = settings(max_examples=60, deadline=None)
DENSITIES = (0.01, 0.1, 0.29, 0.5, 1.0)


def close(found, expected):
    return abs(found - expected) <= 1e-13 * abs(expected)


@QUICK
@given(arrays(1), st.integers(1, 3))
def test_scanner_any_array_sums_what_is_above_each_run_and_counts_what_is_in_it(values, wanted):
    bits = np.array([oracle.bits_of(value) for value in values.tolist()])
    buckets = sorted({int(b) >> 16 for b in bits})[-wanted:]
    scanner = Scanner(runs_of(buckets))
    piece = scanner.scan(torch.from_numpy(values), None)
    assert piece.numel == values.size
    assert (piece.extremes.largest, piece.extremes.smallest) == (bits.max(), bits.min())
    assert close(piece.norms.l1, float(oracle.l1(values)))
    assert close(piece.norms.l2, oracle.root(oracle.squares(values)))
    for (_, last), above in zip(scanner.runs, piece.above[1:], strict=True):
        higher = values[bits >> 16 > last]
        assert above.entries == higher.size
        assert close(math.ldexp(above.l1_exact, -149), float(oracle.l1(higher)))
    for bucket, counts in scanner.by_bucket():
        inside = bits[bits >> 16 == bucket] & 0xFFFF
        assert np.array_equal(counts, np.bincount(inside, minlength=65536))


def test_scanner_usual_magnitudes_of_later_pieces_are_counted():
    scanner = Scanner(runs_of([0x3F80]))
    values = torch.tensor([1.0] * 5000 + [1.0000001] * 7 + [2.0])
    for _ in range(3):
        scanner.scan(values, None)
    ((_, counts),) = scanner.by_bucket()
    assert counts[0] == 15000
    assert counts[1] == 21


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("size", [1, 2047, 2048, 2049, 10_000])
def test_scanner_difference_of_any_dtype_and_size(dtype, size):
    torch.manual_seed(size)
    a, b = (torch.randn(size).to(dtype) for _ in range(2))
    piece = Scanner([]).scan(a, b)
    expected = (a.float() - b.float()).double()
    assert piece.norms.l1 == pytest.approx(float(expected.abs().sum()), rel=1e-13)
    assert piece.norms.l2 == pytest.approx(float(expected.square().sum().sqrt()), rel=1e-13)
    assert piece.norms.nonzero == int((expected != 0).sum())
    assert piece.squares == pytest.approx(float(b.double().square().sum()), rel=1e-13)


@QUICK
@given(
    st.integers(1, 20),
    st.sampled_from([1, 2, 255, 256, 257, 600]),
    st.sampled_from([1, 3, 7, 8, 9, 16]),
    st.integers(0, 2**32 - 1),
)
def test_scanner_products_of_factors_are_scanned_as_their_values_are(rows, columns, rank, seed):
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
    ours, theirs = Scanner(runs_of(buckets[-4:])), Scanner(runs_of(buckets[-4:]))
    found, expected = ours.scan_products(*factors, 1, rows + 1), theirs.scan(difference, None)
    assert found.norms == expected.norms
    assert found.extremes == expected.extremes
    assert found.above == expected.above
    for (bucket, mine), (_, other) in zip(ours.by_bucket(), theirs.by_bucket(), strict=True):
        assert np.array_equal(mine, other), bucket


def test_runs_neighbouring_buckets_are_one_run_and_the_largest_comes_first():
    assert runs_of([5, 3, 4, 9]) == [(9, 9), (3, 5)]
    assert runs_of([]) == []


@pytest.fixture
def pair(tmp_path):
    """A job over two bf16 checkpoints, and their difference."""
    torch.manual_seed(0)
    a = {f"model.layers.{i}.mlp.up_proj.weight": torch.randn(300, 64).bfloat16() for i in range(3)}
    b = {name: (w.float() + 0.01 * torch.randn(w.shape)).bfloat16() for name, w in a.items()}
    for name, weights in (("a", a), ("b", b)):
        write_checkpoint(tmp_path / name, weights)
    places = {name: ModelLocation(checkpoint=tmp_path / name) for name in "ab"}
    values = torch.cat([(a[n].float() - b[n].float()).flatten() for n in a]).numpy()
    return Job(places, (Pair("a~b", "a", "b"),)), values


def scanned(job, values, threads=1, buckets=None):
    models = job.models()
    if buckets is None:
        found = {oracle.at_density(values, d)[1] for d in DENSITIES if d < 1}
        buckets = sorted({oracle.bits_of(float(value)) >> 16 for value in found})
    return scan_pair(models, job.pairs[0], sorted(models.shapes), buckets, threads)


def test_scan_thresholds_are_those_of_sorting(pair):
    job, values = pair
    found = scanned(job, values)
    for density in DENSITIES:
        kept = at_density(found, density)
        keep, threshold, above, first, second = oracle.at_density(values, density)
        assert (kept.num_keep, kept.threshold, kept.at_or_above) == (keep, float(threshold), above)
        assert close(kept.l1, float(first))
        assert close(kept.l2, oracle.root(second))


def test_scan_threshold_outside_every_run_is_not_guessed(pair):
    job, values = pair
    found = scanned(job, values, buckets=[0x3F80])
    assert [at_density(found, density) for density in DENSITIES[:-1]] == [None] * 4
    assert at_density(found, 1.0).num_keep == values.size


def test_scan_any_number_of_threads_gives_the_same_bits(pair):
    job, values = pair
    one, three = scanned(job, values), scanned(job, values, threads=3)
    assert one.norms == three.norms
    assert one.squares == three.squares
    assert [at_density(one, d) for d in DENSITIES] == [at_density(three, d) for d in DENSITIES]


def test_scan_not_finite_is_an_error_that_names_the_tensor(tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    write_checkpoint(tmp_path / "a", {name: torch.tensor([[1.0, float("nan")]])})
    write_checkpoint(tmp_path / "b", {name: torch.tensor([[1.0, 2.0]])})
    job = Job({n: ModelLocation(checkpoint=tmp_path / n) for n in "ab"}, (Pair("a~b", "a", "b"),))
    with pytest.raises(NonFiniteError, match="up_proj"):
        scanned(job, None, buckets=[])
