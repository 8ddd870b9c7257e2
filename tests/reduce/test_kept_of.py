"""The table `kept_of` against every entry counted by itself, and cosines by float64 in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from raylab.reduce import products as module
from raylab.reduce.bit_planes import planes_of
from raylab.reduce.job import InProcess, Job
from raylab.reduce.kept_signs import add_planes, add_rows
from raylab.reduce.passes import reduce_pairs
from raylab.store.references import ModelLocation
from raylab.store.tables import to_table
from tests.oracles import relations as oracle
from tests.reduce.models import (
    Q0,
    Q10,
    SHAPES,
    cut_tiles,
    on_gpu,
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
)
from tests.reduce.test_group_counts import VALUES, vectors_of

DENSITIES = (0.1, 0.5, 1.0)
KIN = (("merge", "one"), ("merge", "queries"), ("one", "merge"), ("equal", "one"))


def add_on_cpu(counts, rows, limits, kin):
    """As a CPU counts, given what a GPU is given."""
    planes = planes_of(list(rows), limits[:, :, 0].T.tolist())
    add_planes(counts.numpy(), planes, kin)


def one_by_one(merge, parent, limit):
    """[entries of the parent's mask with the merge's sign, those that are zero in the merge]."""
    survived = zero = 0
    for theirs, own in zip(merge.tolist(), parent.tolist(), strict=True):
        if not math.isfinite(own) or own == 0 or abs(own) < limit:
            continue
        is_there = math.isfinite(theirs) and theirs != 0
        zero += not is_there
        survived += is_there and (theirs > 0) == (own > 0)
    return [survived, zero]


@settings(max_examples=60, deadline=None)
@given(
    numpy_strategies.arrays(np.float32, (3, 9), elements=VALUES),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=4),
    st.integers(1, 4),
    st.booleans(),
)
def test_signs_of_any_entries_equal_those_taken_one_by_one(rows, kin, block, is_on_gpu):
    limits = np.array([[0.0, 0.5, 1.0], [0.5, 0.5, 0.0]], np.float32)
    bits = torch.from_numpy(limits.view(np.int32).copy()).unsqueeze(2)
    counts = torch.zeros((2, len(kin), 2), dtype=torch.int64)
    add = add_rows if is_on_gpu else add_on_cpu
    for start in range(0, rows.shape[1], block):
        add(counts, torch.from_numpy(rows[:, start : start + block].copy()), bits, kin)
    expected = [[one_by_one(rows[m], rows[p], own[p]) for m, p in kin] for own in limits]
    assert counts.tolist() == expected


def test_signs_of_several_blocks_are_those_of_numpy_on_cpu_and_gpu():
    torch.manual_seed(0)
    rows = torch.randn(2, 5000)
    rows[0, ::3] = 0.0
    limits = torch.full((1, 2, 1), 0.8).view(torch.int32)
    counts, again = (torch.zeros((1, 1, 2), dtype=torch.int64) for _ in range(2))
    add_on_cpu(counts, rows, limits, [(0, 1)])
    add_rows(again, rows, limits, [(0, 1)])
    merge, parent = rows.numpy()
    kept = np.abs(parent) >= np.float32(0.8)
    expected = [np.sum(kept & (merge * parent > 0)), np.sum(kept & (merge == 0))]
    assert counts.tolist() == again.tolist() == [[expected]]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A merge as a checkpoint in bf16 with entries that are as in the base model, a checkpoint and
    an adapter that it is of, and one that is the base model."""
    path = tmp_path_factory.mktemp("models")
    base, steps = random_weights(0), random_weights(1)
    kept = {n: v * (torch.arange(v.numel()).reshape(v.shape) % 4 > 0) for n, v in steps.items()}
    write_checkpoint(path / "one", {n: (base[n] + 0.01 * v).bfloat16() for n, v in steps.items()})
    write_checkpoint(path / "merge", {n: (base[n] + 0.02 * v).bfloat16() for n, v in kept.items()})
    write_checkpoint(path / "base", base)
    write_checkpoint(path / "equal", base)
    write_adapter(path / "queries", random_factors(2, (Q0, Q10), rank=2), rank=2)
    found = {
        n: ModelLocation(checkpoint=path / n, base=path / "base") for n in ("merge", "one", "equal")
    }
    return path, found | {"queries": ModelLocation((path / "queries",), base=path / "base")}


def reduced(found, shards=3, threads=1, kin=KIN, fresh=None):
    path, models = found
    vectors = tuple(models)
    job = Job(
        models, (), path / "base", threads=threads, vectors=vectors, kin=kin, fresh=fresh
    )  # fmt: skip
    return reduce_pairs(job, DENSITIES, InProcess(), shards, by_tensor=True)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_kept_of_checkpoints_and_adapters_counts_every_entry(places, monkeypatch, device):
    cut_tiles(monkeypatch, 24 * 23)
    monkeypatch.setattr(module, "_SLICE", 400)
    if device == "gpu":
        on_gpu(monkeypatch, 24 * 23)
    rows, vectors = reduced(places).kept_of, vectors_of(places)
    found = {(r["merge"], r["parent"], r["level"], r["key"], r["density"]): r for r in rows}
    expected = 0
    for merge, parent in KIN:
        names = list(dict.fromkeys([*vectors[merge], *vectors[parent]]))
        levels = {**oracle.groups(names), **{("tensor", name): [name] for name in names}}
        for (level, key), members in levels.items():
            zeros = {n: np.zeros(SHAPES[n], np.float32) for n in members}
            theirs, own = (oracle.whole(zeros | vectors[m], members) for m in (merge, parent))
            x, y = theirs.astype(np.float64), own.astype(np.float64)
            norms = np.linalg.norm(x) * np.linalg.norm(y)
            for density in DENSITIES:
                limit = oracle.threshold(vectors[parent], density)
                kept = (np.abs(own) >= limit) & (own != 0)
                row = found[merge, parent, level, key, density]
                assert row["numel"] == own.size and row["largest"] == np.sum(kept)
                assert [row["survived"], row["zero"]] == one_by_one(theirs, own, limit)
                share = row["survived"] / row["largest"] if row["largest"] else None
                assert row["survived_share"] == share
                if norms:
                    # The length of the adapter comes out of its factors.
                    assert row["cosine"] == pytest.approx(x @ y / norms, abs=1e-9)
                else:
                    assert row["cosine"] is None
                expected += 1
    assert len(rows) == len(found) == expected
    whole = found["merge", "one", "all", "all", 0.1]
    assert 0 < whole["zero"] < whole["survived"] < whole["largest"]
    assert to_table("kept_of", rows).num_rows == expected


@pytest.mark.parametrize(("shards", "threads"), [(1, 1), (2, 3), (32, 2)])
def test_kept_of_any_shards_and_threads_is_the_same(places, monkeypatch, shards, threads):
    cut_tiles(monkeypatch, 24 * 23)
    assert reduced(places, shards, threads).kept_of == reduced(places).kept_of


def test_kin_alone_is_counted_without_its_pairs(places):
    alone = reduced(places, fresh=frozenset())
    assert (alone.pairs, alone.subspaces) == ([], [])
    assert alone.kept_of == reduced(places).kept_of


def test_cosine_of_kin_is_that_of_the_pair_bit_for_bit(places):
    tables = reduced(places)
    pairs = {(r["a"], r["b"], r["level"], r["key"], r["density"]): r for r in tables.pairs}
    checked = 0
    for row in tables.kept_of:
        pair = pairs.get((row["merge"], row["parent"], row["level"], row["key"], row["density"]))
        checked += pair is not None
        assert pair is None or row["cosine"] == pair["cosine"]
    assert checked > 20
