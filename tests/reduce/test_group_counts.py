"""The table `kept_by` against every entry counted by itself."""

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
from raylab.reduce.group_counts import add_planes, add_rows, width_of
from raylab.reduce.job import InProcess, Job
from raylab.reduce.masks import Related
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.products import products_of
from raylab.store.references import ModelLocation
from raylab.store.tables import to_table
from tests.oracles import relations as oracle
from tests.reduce.models import (
    LINEAR,
    Q0,
    Q10,
    SHAPES,
    UP0,
    cut_tiles,
    deltas_of,
    on_gpu,
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
)

QUICK = settings(max_examples=60, deadline=None)
DENSITIES = (0.1, 0.5, 1.0)


def no_counts(densities, groups):
    return torch.zeros((densities, width_of(groups)), dtype=torch.int64)


def add_on_cpu(kept, rows, limits, groups):
    """As a CPU counts, given what a GPU is given."""
    planes = planes_of(list(rows), limits[:, :, 0].T.tolist())
    add_planes(kept.numpy(), planes, rows.shape[1], groups)


def one_by_one(columns, limits):
    """[entries that k = 0, 1, ... models keep, entries in conflict], entry by entry."""
    found = [0] * (len(limits) + 2)
    for entry in columns:
        kept = [v for v, limit in zip(entry, limits, strict=True) if abs(v) >= limit and v != 0]
        kept = [v for v in kept if math.isfinite(v)]
        found[len(kept)] += 1
        found[-1] += len({v > 0 for v in kept}) == 2
    return found


VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1e-42, math.inf, -math.inf, math.nan])


@st.composite
def models(draw):
    """(float32 (N, entries), thresholds (K, N), groups), of any sizes, with equal models."""
    count, entries = draw(st.integers(1, 5)), draw(st.integers(0, 9))
    rows = draw(numpy_strategies.arrays(np.float32, (count, entries), elements=VALUES))
    if count > 1 and draw(st.booleans()):
        rows[-1] = rows[0]
    limits = draw(
        st.lists(
            st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=count, max_size=count), max_size=3
        )
    )
    groups = draw(
        st.lists(st.lists(st.integers(0, count - 1), min_size=1, unique=True), max_size=3)
    )
    return rows, np.array(limits, np.float32).reshape(-1, count), groups


@QUICK
@given(models(), st.integers(1, 4), st.booleans())
def test_counts_any_models_and_groups_equal_those_taken_one_by_one(found, block, is_on_gpu):
    rows, limits, groups = found
    bits = torch.from_numpy(limits.view(np.int32).copy()).unsqueeze(2)
    kept = no_counts(len(limits), groups)
    add = add_rows if is_on_gpu else add_on_cpu
    for start in range(0, rows.shape[1], block):
        add(kept, torch.from_numpy(rows[:, start : start + block].copy()), bits, groups)
    expected = [
        [n for group in groups for n in one_by_one(rows[group].T.tolist(), own[group].tolist())]
        for own in limits
    ]
    assert kept.tolist() == expected


@pytest.mark.parametrize("size", [2047, 2048, 5000])
def test_counts_of_several_blocks_on_cpu_and_gpu_are_those_of_numpy(size):
    torch.manual_seed(0)
    rows = torch.randn(40, size)
    limits = torch.full((2, 40, 1), 0.8).view(torch.int32)
    limits[1] = 0
    groups = [list(range(40)), [3, 7], [11]]
    kept, again = (no_counts(2, groups) for _ in range(2))
    add_on_cpu(kept, rows, limits, groups)
    add_rows(again, rows, limits, groups)
    assert torch.equal(kept, again)
    first = np.count_nonzero(np.abs(rows.numpy()) >= np.float32(0.8), axis=0)
    assert kept[0, :41].tolist() == np.bincount(first, minlength=41).tolist()
    assert kept.sum(dim=1).tolist() == [3 * size + int(own) for own in conflicts_of(kept, groups)]


def conflicts_of(kept, groups):
    places = np.cumsum([len(group) + 2 for group in groups]) - 1
    return kept[:, places].sum(dim=1)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Checkpoints in bf16 with ties, one equal to the base model, and adapters of ranks that
    differ, over different tensors, one of them with a B of zeros."""
    path = tmp_path_factory.mktemp("models")
    base = random_weights(0)
    for seed, name in enumerate(("one", "two"), 1):
        steps = random_weights(seed).items()
        write_checkpoint(path / name, {n: (base[n] + 0.01 * v).bfloat16() for n, v in steps})
    write_checkpoint(path / "base", base)
    write_checkpoint(path / "equal", base)
    factors = {
        "all": (random_factors(1, LINEAR), 4),
        "queries": (random_factors(2, (Q0, Q10), rank=2), 2),
        "zero": (
            {UP0: tuple(x * (i == 0) for i, x in enumerate(random_factors(3, (UP0,))[UP0]))},
            4,
        ),
    }
    for name, (parts, rank) in factors.items():
        write_adapter(path / name, parts, rank=rank)
    checkpoints = {
        n: ModelLocation(checkpoint=path / n, base=path / "base") for n in ("one", "two", "equal")
    }
    adapters = {n: ModelLocation((path / n,), base=path / "base") for n in factors}
    return path, checkpoints | adapters


GROUPS = (
    ("one", "two", "equal", "all", "queries", "zero"),
    ("one", "two"),
    ("queries", "zero", "all"),
    ("equal", "zero"),
)


def reduced(found, shards=3, threads=1, groups=GROUPS, fresh=None):
    path, models = found
    job = Job(
        models,
        (),
        path / "base",
        threads=threads,
        vectors=tuple(models),
        groups=groups,
        fresh=fresh,
    )
    return reduce_pairs(job, DENSITIES, InProcess(), shards, by_tensor=True)


def vectors_of(found):
    """The task vectors of all models, float32, by tensor."""
    path, models = found
    opened = Job(models, (), path / "base").models()
    vectors = {}
    for name, side in opened.sides.items():
        whole = {n: (n, 0, shape[0] if len(shape) > 1 else 1) for n, shape in side.shapes.items()}
        if side.has_values:
            made = {
                n: side.values(*rows).float() - opened.base.values(*rows).float()
                for n, rows in whole.items()
            }
        else:
            made = {n: side.delta(*rows) for n, rows in whole.items()}
        vectors[name] = {n: delta.numpy().reshape(SHAPES[n]) for n, delta in made.items()}
    return vectors


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_kept_by_of_checkpoints_and_adapters_counts_every_entry(places, monkeypatch, device):
    cut_tiles(monkeypatch, 24 * 23)
    monkeypatch.setattr(module, "_SLICE", 400)
    if device == "gpu":
        on_gpu(monkeypatch, 24 * 23)
    rows = reduced(places).kept_by
    vectors = vectors_of(places)
    limits = {n: [oracle.threshold(v, d) for d in DENSITIES] for n, v in vectors.items()}
    found = {(*r["models"], r["level"], r["key"], r["density"]): r for r in rows}
    assert len(found) == len(rows)
    expected = 0
    for group in GROUPS:
        names = list(dict.fromkeys(n for model in group for n in vectors[model]))
        levels = {**oracle.groups(names), **{("tensor", name): [name] for name in names}}
        for (level, key), members in levels.items():
            zeros = {n: np.zeros(SHAPES[n], np.float32) for n in members}
            entries = np.array([oracle.whole(zeros | vectors[model], members) for model in group])
            for place, density in enumerate(DENSITIES):
                own = [limits[model][place] for model in group]
                *counts, conflicts = one_by_one(entries.T.tolist(), own)
                row = found[(*group, level, key, density)]
                assert (row["counts"], row["conflicts"]) == (counts, conflicts)
                assert row["numel"] == sum(counts) == entries.shape[1]
                parts = (row["by_none"], row["by_one"], row["by_some"], row["by_all"])
                assert parts == (counts[0], counts[1], sum(counts[2:-1]), counts[-1])
                shares = [np.mean(oracle.mask(e, w)) for e, w in zip(entries, own, strict=True)]
                assert row["all_by_chance"] == pytest.approx(row["numel"] * np.prod(shares))
                shared = sum(counts[2:])
                assert row["sign_conflict"] == (conflicts / shared if shared else None)
                expected += 1
    assert len(rows) == expected
    assert to_table("kept_by", rows).num_rows == expected


def test_kept_by_of_two_models_agrees_with_their_pair(places):
    tables = reduced(places)
    pairs = {(r["a"], r["b"], r["level"], r["key"], r["density"]): r for r in tables.pairs}
    checked = 0
    for row in tables.kept_by:
        if row["models"] != ["one", "two"]:
            continue
        pair = pairs["one", "two", row["level"], row["key"], row["density"]]
        assert row["numel"] == pair["numel"]
        shared = (pair["overlap"] or 0) * pair["overlap_by_chance"] * pair["numel"]
        assert row["by_all"] == pytest.approx(shared)
        if row["density"] == 1.0:
            assert row["sign_conflict"] == pair["sign_conflict"]
        checked += 1
    assert checked > 20


@pytest.mark.parametrize(("shards", "threads"), [(1, 1), (2, 3), (32, 2)])
def test_kept_by_any_shards_and_threads_is_the_same(places, monkeypatch, shards, threads):
    cut_tiles(monkeypatch, 24 * 23)
    assert reduced(places, shards, threads).kept_by == reduced(places).kept_by


def test_groups_alone_are_counted_without_their_pairs(places):
    alone = reduced(places, fresh=frozenset())
    assert (alone.pairs, alone.subspaces) == ([], [])
    assert alone.kept_by == reduced(places).kept_by
    assert reduced(places, groups=()).kept_by == []


def test_groups_of_models_with_and_without_a_tensor_are_counted_one_by_one():
    torch.manual_seed(1)
    deltas = {name: torch.randn(500) for name in "abc"} | {"none": None}
    limits = {name: [0x3F000000, 0] for name in deltas}
    groups = (("c", "a"), ("none", "b", "a"))
    found = products_of(500, deltas, limits, Related(groups=groups)).masks
    for place, (group, first) in enumerate(zip(groups, (0, 4), strict=True)):
        rows = np.array([np.zeros(500) if deltas[n] is None else deltas[n].numpy() for n in group])
        for density, limit in enumerate((0.5, 0.0)):
            expected = one_by_one(rows.T.tolist(), [limit] * len(group))
            assert found.kept[density, first : first + len(group) + 2].tolist() == expected
        assert place < 2


def test_pairs_have_rows_of_tensors_where_asked(places):
    rows = reduced(places).pairs
    tensors = {r["key"] for r in rows if (r["a"], r["b"], r["level"]) == ("one", "two", "tensor")}
    assert tensors == set(SHAPES)
    path, models = places
    job = Job(models, (), path / "base", vectors=tuple(models), groups=GROUPS)
    usual = reduce_pairs(job, DENSITIES, InProcess(), 3)
    assert usual.pairs == [r for r in rows if r["level"] != "tensor"]
    assert usual.kept_by == [r for r in reduced(places).kept_by if r["level"] != "tensor"]


def test_deltas_of_the_fixture_are_those_of_its_factors(places):
    exact = deltas_of(random_factors(1, LINEAR))
    for name, delta in vectors_of(places)["all"].items():
        np.testing.assert_allclose(delta, exact[name].numpy(), atol=1e-6)
    assert not any(np.any(delta) for delta in vectors_of(places)["zero"].values())
