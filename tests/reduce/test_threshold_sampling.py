"""The sample's foresight: it saves a read where it is right, and decides nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.reduce import passes as study
from raylab.reduce import threshold_sampling as foresight
from raylab.reduce.histogram import Magnitudes
from raylab.reduce.histogram_numba import CompiledTally
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.reduce.threshold_sampling import foresee, sample_rows
from raylab.store.references import ModelLocation
from raylab.weights.row_tiles import tiles
from tests.oracles import norms as oracle
from tests.oracles.torch_histogram import bucket_moments
from tests.reduce.arrays import arrays
from tests.reduce.models import Q0, Q10, random_factors, write_adapter, write_checkpoint

DENSITIES = (0.01, 0.2, 0.5, 1.0)
PAIR = Pair("a~b", "a", "b")


@pytest.mark.parametrize("density", [0.001, 0.01, 0.1, 0.2, 0.5, 0.9])
def test_foresee_a_sample_finds_the_bucket_of_the_threshold(density):
    rng = np.random.default_rng(0)
    values = (1e-3 * rng.standard_normal((8192, 512))).astype(np.float32)
    moments = bucket_moments(torch.from_numpy(values[::4].copy()))
    expected = oracle.bits_of(float(np.quantile(np.abs(values), 1 - density))) >> 16
    found = foresee(moments[0], density)
    assert expected in found
    assert len(found) <= 18


def test_foresee_nothing_and_zeros_foresees_nothing():
    assert foresee(np.zeros(32768, np.int64), 0.5) == ()
    zeros = bucket_moments(torch.zeros(1000))[0]
    assert [foresee(zeros, density) for density in (0.1, 0.5, 1.0)] == [()] * 3


@pytest.mark.parametrize("shape", [(6400, 1000), (64, 1 << 16), (1, 7), (7,), (65, 2), (0, 5)])
def test_sample_is_the_first_rows_of_some_tiles_and_depends_on_the_shape_alone(shape):
    bounds, found = list(tiles(shape)), list(sample_rows(shape))
    assert found == list(sample_rows(shape))
    starts = [start for start, _ in found]
    every = min(max(len(bounds), 4), 32)
    assert starts == [start for start, _ in bounds[::every]]
    for start, stop in found:
        [end] = [last for first, last in bounds if first == start]
        assert start < stop <= end
        assert len(shape) == 1 or stop - start <= (end - start) * every // 128 + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(arrays(1), min_size=1, max_size=4), st.data())
def test_counts_of_foreseen_buckets_are_exact_over_any_tiles(parts, data):
    """The first tile decides which magnitude is usual in a bucket; the last may have others."""
    bits = np.concatenate(parts).view(np.int32) & 0x7FFFFFFF
    known = sorted(set((bits >> 16).tolist()))
    wanted = data.draw(st.lists(st.sampled_from(known), unique=True, max_size=4))
    tally = CompiledTally(wanted)
    for part in parts:
        tally.add(torch.from_numpy(part.copy()))
        tally.flush(Magnitudes())
    found = tally.candidates(wanted)
    assert set(found) == set(wanted)
    for bucket in wanted:
        low, counts = np.unique(bits[bits >> 16 == bucket] & 0xFFFF, return_counts=True)
        assert found[bucket][0].tolist() == low.tolist()
        assert found[bucket][1].tolist() == counts.tolist()


@pytest.fixture
def wide_sample(monkeypatch):
    """A quarter of the rows, because 1/64 of a small model is too few to foresee anything."""
    monkeypatch.setattr(foresight, "_OF_ALL", 4)
    for name in ("_LEAST_EVERY", "_MOST_EVERY"):
        monkeypatch.setattr(foresight, name, 1)


def made(kind):
    """Two models whose difference is of a kind: {name: float32 array} of a and b."""
    rng = np.random.default_rng(0)
    shapes = {Q0: (700, 2048), Q10: (256, 1024)}
    a = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    b = {n: np.zeros(s, np.float32) for n, s in shapes.items()}
    factor = {"first rows are larger": 1000, "first rows are zero": 0}.get(kind, 1)
    for values in a.values():
        for rows in sample_rows(values.shape):
            values[slice(*rows)] *= factor
    return a, b


def write_pair(path, a, b, dtype):
    for name, values in (("a", a), ("b", b)):
        tensors = {n: torch.from_numpy(v).to(dtype) for n, v in values.items()}
        write_checkpoint(path / name, tensors)
    return {name: ModelLocation(checkpoint=path / name) for name in ("a", "b")}


def expected_rows(a, b):
    """(num_keep, threshold, at_or_above, l2) at each density, by sorting."""
    flat = np.concatenate([(a[n] - b[n]).ravel() for n in a])
    ordered = np.sort(np.abs(flat))[::-1]
    for density in DENSITIES:
        keep = oracle.num_keep(density, flat.size)
        limit = ordered[keep - 1]
        l2 = np.sqrt((ordered[:keep].astype(np.float64) ** 2).sum())
        yield keep, float(limit), int((ordered >= limit).sum()), pytest.approx(l2, rel=1e-12)


def reduced(places, shards=2, threads=2):
    tables = reduce_pairs(Job(places, (PAIR,), threads=threads), DENSITIES, InProcess(), shards)
    found = [
        (row["num_keep"], row["threshold"], row["at_or_above"], row["l2"])
        for row in tables.densities
    ]
    return tables, found


def weights_bytes(values, dtype):
    return 2 * sum(v.size for v in values.values()) * dtype.itemsize


def sampled_bytes(values, dtype):
    rows = {n: sum(b - a for a, b in sample_rows(v.shape)) for n, v in values.items()}
    return 2 * sum(rows[n] * v.shape[1] for n, v in values.items()) * dtype.itemsize


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_alike_in_their_rows_are_read_once(wide_sample, tmp_path, dtype):
    a, b = (
        {n: torch.from_numpy(v).to(dtype).float().numpy() for n, v in part.items()}
        for part in made("alike")
    )
    tables, found = reduced(write_pair(tmp_path, a, b, dtype))
    assert tables.bytes_read_again == 0
    assert tables.bytes_read == weights_bytes(a, dtype) + sampled_bytes(a, dtype)
    assert tables.passes == 1
    assert found == list(expected_rows(a, b))


@pytest.mark.parametrize("kind", ["first rows are larger", "first rows are zero"])
def test_sample_unlike_the_rest_costs_a_second_read_and_changes_nothing(
    wide_sample, tmp_path, kind
):
    a, b = made(kind)
    tables, found = reduced(write_pair(tmp_path, a, b, torch.float32))
    assert found == list(expected_rows(a, b))
    once, sample = weights_bytes(a, torch.float32), sampled_bytes(a, torch.float32)
    assert (tables.bytes_read, tables.bytes_read_again) == (once + sample, once)
    assert tables.passes == 2


@pytest.mark.parametrize("kind", ["alike", "first rows are larger"])
def test_tables_are_the_same_whatever_was_foreseen(wide_sample, tmp_path, monkeypatch, kind):
    places = write_pair(tmp_path, *made(kind), torch.float32)
    tables, _ = reduced(places)
    monkeypatch.setattr(study, "foresee", lambda *_: ())
    blind, _ = reduced(places)
    monkeypatch.setattr(study, "foresee", lambda *_: tuple(range(1, 40)))
    misled, _ = reduced(places)
    for other in (blind, misled):
        assert other.bytes_read_again == weights_bytes(made(kind)[0], torch.float32)
        for table in ("norms", "densities", "curve"):
            assert getattr(other, table) == getattr(tables, table)


def test_only_comparisons_that_were_not_foreseen_are_read_again(wide_sample, tmp_path):
    """`a` against `b` is foreseen, `c` against `b` is not: `a` is left alone."""
    a, b = made("alike")
    c, _ = made("first rows are larger")
    places = write_pair(tmp_path, a, b, torch.float32)
    write_checkpoint(tmp_path / "c", {n: torch.from_numpy(v) for n, v in c.items()})
    places["c"] = ModelLocation(checkpoint=tmp_path / "c")
    job = Job(places, (PAIR, Pair("c~b", "c", "b")))
    tables = reduce_pairs(job, DENSITIES, InProcess(), 2)
    once, sample = weights_bytes(a, torch.float32), sampled_bytes(a, torch.float32)
    assert tables.bytes_read == (once + sample) * 3 // 2
    assert tables.bytes_read_again == weights_bytes(c, torch.float32)


def test_more_comparisons_than_memory_for_their_buckets_are_read_again_alike(tmp_path, monkeypatch):
    shapes = {Q0: (300, 512), Q10: (200, 512)}
    for seed, name in enumerate("ab"):
        write_adapter(tmp_path / name, random_factors(seed, (Q0, Q10), shapes=shapes))
    places = {name: ModelLocation((tmp_path / name,)) for name in "ab"}
    expected, _ = reduced(places)
    monkeypatch.setattr(study, "_FORESEEN_BYTES", 0)
    tables, _ = reduced(places)
    assert tables.densities == expected.densities
