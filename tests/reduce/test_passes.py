"""How often related models are read: once where thresholds were guessed, with the same tables."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.reduce import passes as study
from raylab.reduce import products as products_module
from raylab.reduce import shard as shard_module
from raylab.reduce import threshold_sampling as foresight
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.products import OrderedSum, products_of
from raylab.reduce.row_block import Pair
from raylab.reduce.threshold_sampling import add_products, add_values, guess, sample_rows
from raylab.store.references import ModelLocation
from raylab.weights.adapter_parts import Factors
from raylab.weights.safetensors_reader import MappedFile
from tests.oracles import relations as oracle
from tests.oracles.torch_histogram import count_buckets
from tests.reduce.arrays import arrays
from tests.reduce.models import (
    Q0,
    Q10,
    UP0,
    cut_tiles,
    random_factors,
    write_adapter,
    write_checkpoint,
)

SIZES = {Q0: (96, 512), UP0: (128, 512), Q10: (64, 512)}
ENTRIES = sum(math.prod(shape) for shape in SIZES.values())
TIED = (0.2, 0.5, 0.8, 1.0)
"""Densities whose thresholds tie, the third of them at zero."""
EXACT = ("numel", "sign_agreement", "sign_conflict", "overlap", "overlap_by_chance")
NAMES = ("one", "two", "three")


@pytest.fixture(autouse=True)
def several_tiles(monkeypatch):
    """Tiles of 32 rows, of which a sample takes 16, and slices of fewer entries than a tile."""
    cut_tiles(monkeypatch, 512 * 32)
    monkeypatch.setattr(products_module, "_SLICE", 5000)
    monkeypatch.setattr(foresight, "_OF_ALL", 2)
    for name in ("_LEAST_EVERY", "_MOST_EVERY"):
        monkeypatch.setattr(foresight, name, 1)


@pytest.fixture
def rows_read(monkeypatch):
    """Bytes of every read of rows, below all that counts them."""
    read = []
    plain = MappedFile.rows

    def counted(self, name, start, stop):
        rows = plain(self, name, start, stop)
        read.append(rows.nbytes)
        return rows

    monkeypatch.setattr(MappedFile, "rows", counted)
    return read


def write_models(path, dtype):
    """A base model and three trained ones beside it: {name: {tensor: values}}."""
    draws = torch.Generator().manual_seed(7)
    made = {name: {} for name in ("base", *NAMES)}
    for name, shape in SIZES.items():
        weights = 0.02 * torch.randn(shape, generator=draws)
        common = torch.randn(shape, generator=draws)
        for model, tensors in made.items():
            step = 1e-4 * (common + torch.randn(shape, generator=draws)) / math.sqrt(2)
            start = weights.to(dtype)
            tensors[name] = start if model == "base" else (start.float() + step).to(dtype)
    for model, tensors in made.items():
        write_checkpoint(path / model, tensors)
    return made


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    path = tmp_path_factory.mktemp("tied")
    return path, write_models(path, torch.bfloat16)


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    path = tmp_path_factory.mktemp("fine")
    return path, write_models(path, torch.float32)


def job_of(path, **options):
    places = {name: ModelLocation(checkpoint=path / name, base=path / "base") for name in NAMES}
    return Job(places, (), path / "base", vectors=NAMES, **options)


def related(path, densities, shards=2, execute=None, **options):
    return reduce_pairs(job_of(path, **options), densities, execute or InProcess(), shards)


def model_bytes(dtype):
    """Of the base model and the three others, read once, and of the sample."""
    rows = sum(stop - start for shape in SIZES.values() for start, stop in sample_rows(shape))
    return 4 * ENTRIES * dtype.itemsize, 4 * rows * 512 * dtype.itemsize


def assert_exact(rows, made, densities):
    vectors = {
        name: {n: (made[name][n].float() - made["base"][n].float()).numpy() for n in SIZES}
        for name in NAMES
    }
    for a, b in itertools.combinations(NAMES, 2):
        expected = oracle.rows(vectors[a], vectors[b], densities)
        mine = [row for row in rows if (row["a"], row["b"]) == (a, b)]
        assert {(r["level"], r["key"], r["density"]) for r in mine} == set(expected)
        for row in mine:
            exact = expected[row["level"], row["key"], row["density"]]
            assert {key: row[key] for key in EXACT} == {key: exact[key] for key in EXACT}
            assert row["cosine"] == pytest.approx(exact["cosine"], abs=1e-12)


def test_models_in_bf16_whose_task_vectors_tie_are_read_once(tied, rows_read):
    path, made = tied
    tables = related(path, TIED)
    once, sample = model_bytes(torch.bfloat16)
    assert (tables.passes, tables.bytes_read_again) == (1, 0)
    assert tables.bytes_read == sum(rows_read) == once + sample
    assert_exact(tables.pairs, made, TIED)


@pytest.mark.parametrize("densities", [(0.2, 0.5), (0.2, 1.0)])
def test_models_in_float32_are_read_twice(fine, rows_read, densities):
    path, made = fine
    tables = related(path, densities)
    once, sample = model_bytes(torch.float32)
    assert (tables.passes, tables.bytes_read_again) == (2, once)
    assert tables.bytes_read == once + sample
    assert sum(rows_read) == tables.bytes_read + tables.bytes_read_again
    assert_exact(tables.pairs, made, densities)


def test_masks_of_all_that_is_not_zero_need_no_guess_in_float32(fine):
    path, made = fine
    tables = related(path, (1.0,))
    assert (tables.passes, tables.bytes_read_again) == (1, 0)
    assert_exact(tables.pairs, made, (1.0,))


def wrong(sample, density):
    return 0x3F800000


def wrong_once():
    """A guess that is wrong for one model at one density."""
    calls = itertools.count()
    return lambda sample, density: 1 if next(calls) == 5 else guess(sample, density)


def none_once():
    calls = itertools.count()
    return lambda sample, density: None if next(calls) == 5 else guess(sample, density)


@pytest.mark.parametrize("other", [lambda: wrong, wrong_once, none_once])
def test_wrong_or_missing_guess_costs_a_second_read_and_changes_nothing(tied, monkeypatch, other):
    path, made = tied
    expected = related(path, TIED)
    monkeypatch.setattr(study, "guess", other())
    tables = related(path, TIED)
    once, _ = model_bytes(torch.bfloat16)
    assert (tables.passes, tables.bytes_read_again) == (2, once)
    assert replace(tables, passes=1, bytes_read_again=0) == expected
    assert_exact(tables.pairs, made, TIED)


def test_sample_that_errs_by_itself_ends_exact(tmp_path, rows_read):
    """The rows of the sample are as they were in the base model, so it takes all for zeros."""
    made = write_models(tmp_path / "made", torch.bfloat16)
    for name in NAMES:
        for tensor, values in made[name].items():
            for start, stop in sample_rows(SIZES[tensor]):
                values[start:stop] = made["base"][tensor][start:stop]
        write_checkpoint(tmp_path / name, made[name])
    write_checkpoint(tmp_path / "base", made["base"])
    tables = related(tmp_path, (0.2, 0.5))
    # One more pass for candidates of what has not one magnitude to its bucket, one for masks.
    once, sample = model_bytes(torch.bfloat16)
    assert tables.passes == 3
    assert tables.bytes_read == once + sample
    assert once < tables.bytes_read_again <= 2 * once
    assert sum(rows_read) == tables.bytes_read + tables.bytes_read_again
    assert_exact(tables.pairs, made, (0.2, 0.5))


def test_guess_of_equal_effect_is_as_good_as_an_equal_one(tied, monkeypatch):
    """Between zero and the smallest other magnitude all thresholds keep the same."""
    path, _ = tied
    expected = related(path, (0.8, 1.0))
    monkeypatch.setattr(study, "guess", lambda *_: 1)
    assert related(path, (0.8, 1.0)) == expected
    assert expected.passes == 1


@pytest.mark.parametrize("kind", ["tied", "fine"])
def test_tables_any_shards_and_threads_have_the_same_bits(request, monkeypatch, kind):
    path, _ = request.getfixturevalue(kind)
    expected = related(path, TIED, shards=1, threads=1)
    for shards, threads in itertools.product((1, 2, 7), (1, 3)):
        assert related(path, TIED, shards=shards, threads=threads) == expected
    monkeypatch.setattr(shard_module, "_HELD", 0)
    assert related(path, TIED, shards=7, threads=3) == expected
    inside = InProcess()
    assert related(path, TIED, 7, lambda *asked: reversed(list(inside(*asked)))) == expected


def test_entries_left_out_are_in_no_mask_in_either_pass(tmp_path, monkeypatch):
    made = write_models(tmp_path / "made", torch.bfloat16)
    made["two"][Q0][40, 3:200] = math.nan
    made["two"][UP0][50] = math.inf
    for name, tensors in made.items():
        write_checkpoint(tmp_path / name, tensors)
    tables = related(tmp_path, TIED, skip_non_finite=True)
    monkeypatch.setattr(study, "guess", lambda *_: None)
    again = related(tmp_path, TIED, skip_non_finite=True)
    assert (tables.passes, again.passes) == (1, 2)
    assert tables.pairs == again.pairs
    deltas = {
        name: (made[name][UP0].float() - made["base"][UP0].float()).numpy() for name in NAMES[:2]
    }
    left = np.nan_to_num(deltas["two"], nan=0.0, posinf=0.0, neginf=0.0)
    [row] = [
        r
        for r in tables.pairs
        if (r["a"], r["b"], r["key"]) == ("one", "two", "up_proj") and r["density"] == TIED[0]
    ]
    cosine, agreement, _ = oracle.relate(deltas["one"].ravel(), left.ravel())
    assert row["cosine"] == pytest.approx(cosine, abs=1e-12)
    assert row["sign_agreement"] == agreement


def test_adapters_held_in_memory_are_never_read_again(tmp_path):
    for seed, name in enumerate(NAMES):
        factors = random_factors(seed, tuple(SIZES), shapes=SIZES)
        write_adapter(tmp_path / name, factors)
    job = Job({name: ModelLocation((tmp_path / name,)) for name in NAMES}, (), vectors=NAMES)
    tables = reduce_pairs(job, (0.2, 1.0), InProcess(), 2)
    assert (tables.bytes_read, tables.bytes_read_again) == (0, 0)
    assert tables.passes > 1


def test_model_alone_is_related_to_none(fine):
    path, _ = fine
    job = replace(job_of(path), vectors=("one",), pairs=(Pair("one~two", "one", "two"),))
    tables = reduce_pairs(job, (0.2,), InProcess(), 2)
    assert (tables.passes, tables.bytes_read_again, tables.pairs) == (1, 0, [])


@settings(max_examples=40, deadline=None)
@given(st.lists(arrays(1, 60), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_products_added_in_any_order_have_the_bits_of_the_order_of_rows(parts, shuffle):
    limits = {"a": [0x3F800000], "b": [1]}
    made = []
    for values in parts:
        rows = torch.from_numpy(values.copy())
        deltas = {"a": rows, "b": rows.flip(0)}
        made.append(products_of(values.size, deltas, limits))
    expected = made[0].dot.copy()
    for part in made[1:]:
        expected += part.dot
    counts = sum(part.masks.shared for part in made)
    order = list(range(len(made)))
    shuffle.shuffle(order)
    added = OrderedSum()
    for place in order:
        added.add(place, place + 1, made[place])
    assert added.total.dot.tobytes() == expected.tobytes()
    assert added.total.numel == sum(values.size for values in parts)
    assert (added.total.masks.shared == counts).all()


@settings(max_examples=60, deadline=None)
@given(arrays(1))
def test_count_buckets_any_values_equals_numpy(values):
    bits = values.view(np.int32) & 0x7FFFFFFF
    counts, short = count_buckets(torch.from_numpy(values.copy()))
    assert (counts == np.bincount(bits >> 16, minlength=32768)).all()
    assert (short == np.bincount(bits[bits % 65536 == 0] >> 16, minlength=32768)).all()
    added = np.ones((2, 32768), np.int64)
    add_values(values.copy(), added)
    assert (added == np.stack([counts, short]) + 1).all()


@pytest.mark.parametrize("rank", [1, 8, 11])
def test_add_products_of_integers_counts_the_difference_of_the_deltas(rank):
    draws = np.random.default_rng(rank)

    def factors(scale):
        down, up = (draws.integers(-9, 10, size) for size in ((rank, 300), (7, rank)))
        as_float = [torch.from_numpy(part.astype(np.float32)) for part in (down, up)]
        return Factors(*as_float, scale), scale * (up @ down)

    (a, first), (b, second) = factors(2.0), factors(0.5)
    counts = np.zeros((2, 32768), np.int64)
    add_products((a,), (b,), 2, 5, counts)
    exact = (first - second)[2:5].astype(np.float32)
    assert (counts == count_buckets(torch.from_numpy(exact))).all()


def sampled(**values):
    """A sample of so many entries of each value: {how many: value}."""
    parts = [torch.full((int(n[1:]),), value) for n, value in values.items()]
    return count_buckets(torch.cat(parts))


@pytest.mark.parametrize(
    ("density", "expected"),
    [(0.1, None), (0.11, None), (0.12, 0.5), (0.78, 0.5), (0.79, None), (0.9, 0.0), (1, 0.0)],
)
def test_guess_is_the_magnitude_that_holds_the_whole_margin(density, expected):
    """Of 100,000: 10 % are above 0.5 (half of them in its bucket), 70 % 0.5, and 20 % zero."""
    found = guess(sampled(n5000=3.0, n5001=0.501, n69999=0.5, n20000=0.0), density)
    bits = None if expected is None else int(np.float32(expected).view(np.int32))
    assert found == bits


def test_guess_without_a_sample_keeps_all_that_is_not_zero():
    assert guess(np.zeros((2, 32768), np.int64), 0.5) == 0
