"""The table `pairs` against whole-array numpy, and what all pairs cost in reads."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from raylab.reduce import products as relations
from raylab.reduce.job import InProcess, Job
from raylab.reduce.pairwise import Relation, relation_rows, whole_relation
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.products import OrderedSum, products_of
from raylab.reduce.row_block import Pair
from raylab.store.references import ModelLocation
from raylab.store.tables import to_table
from raylab.weights import row_tiles
from raylab.weights.safetensors_reader import MappedFile
from tests.oracles import relations as oracle
from tests.reduce.arrays import arrays
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

QUICK = settings(max_examples=40, deadline=None)
DENSITIES = (0.01, 0.29, 1.0)
EXACT = ("numel", "sign_agreement", "sign_conflict", "overlap", "overlap_by_chance")


@pytest.fixture(autouse=True, params=["cpu", "gpu"])
def small_tiles(request, monkeypatch):
    """Tiles of 23 rows of 24 columns, and slices of fewer entries than a tile."""
    cut_tiles(monkeypatch, 24 * 23)
    if request.param == "gpu":
        on_gpu(monkeypatch, 24 * 23)
    monkeypatch.setattr(relations, "_SLICE", 400)
    return request.param


def related(places, base=None, execute=None, shards=3, threads=1, pairs=()):
    job = Job(places, tuple(pairs), base, threads=threads, vectors=tuple(places))
    return reduce_pairs(job, DENSITIES, execute or InProcess(), shards)


def assert_pair(rows, a, b, exact=None):
    """Every row of a pair is the oracle's, its cosine that of `exact`, before deltas were rounded
    to float32, and none is missing."""
    expected = oracle.rows(a, b, DENSITIES, exact)
    assert {(r["level"], r["key"], r["density"]) for r in rows} == set(expected)
    for row in rows:
        wanted = expected[row["level"], row["key"], row["density"]]
        assert {key: row[key] for key in EXACT} == {key: wanted[key] for key in EXACT}
        cosine = wanted["cosine"]
        assert row["cosine"] == (None if cosine is None else pytest.approx(cosine, abs=1e-12))


def arrays_of(tensors):
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def subtracted(a, b):
    return {name: a[name].float().numpy() - b[name].float().numpy() for name in a}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A base model in bf16 and four checkpoints: two random, one with sparse changes, one equal."""
    path = tmp_path_factory.mktemp("checkpoints")
    base = random_weights(0)
    step = random_weights(3, torch.float32, scale=0.001)
    sparse = {
        name: torch.where(step[name] > 0.0012, base[name] + step[name], base[name]).bfloat16()
        for name in base
    }
    made = {
        "one": {n: (base[n] + 0.01 * v).bfloat16() for n, v in random_weights(1).items()},
        "two": {n: (base[n] + 0.01 * v).bfloat16() for n, v in random_weights(2).items()},
        "sparse": sparse,
        "equal": base,
    }
    for name, tensors in {"base": base, **made}.items():
        write_checkpoint(path / name, tensors)
    return path, base, made


def test_pairs_of_checkpoints_in_bf16_equal_numpy_with_all_their_ties(checkpoints):
    path, base, made = checkpoints
    places = {name: ModelLocation(checkpoint=path / name, base=path / "base") for name in made}
    rows = related(places, path / "base").pairs
    vectors = {name: subtracted(tensors, base) for name, tensors in made.items()}
    tied = np.abs(oracle.whole(vectors["one"], SHAPES))
    assert np.unique(tied).size < tied.size / 4
    for a, b in itertools.combinations(made, 2):
        assert_pair([r for r in rows if (r["a"], r["b"]) == (a, b)], vectors[a], vectors[b])
    assert len({(r["a"], r["b"]) for r in rows}) == 6
    assert to_table("pairs", rows).num_rows == len(rows)


def test_zero_task_vector_has_neither_cosine_nor_signs_nor_overlap(checkpoints):
    path, _, _ = checkpoints
    places = {name: ModelLocation(checkpoint=path / name) for name in ("one", "equal")}
    for row in related(places, path / "base").pairs:
        undefined = ("cosine", "sign_agreement", "sign_conflict", "overlap")
        assert [row[key] for key in undefined] == [None] * 4
        assert row["overlap_by_chance"] == 0.0


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Adapters over different tensors, a chain of them, and their exact task vectors."""
    path = tmp_path_factory.mktemp("mixed")
    factors = {
        "all": random_factors(1, LINEAR),
        "queries": random_factors(2, (Q0, Q10)),
        "up": random_factors(3, (UP0,)),
    }
    for name, parts in factors.items():
        write_adapter(path / name, parts)
    places = {name: ModelLocation((path / name,)) for name in factors}
    places["chain"] = ModelLocation((path / "queries", path / "all"))
    return path, places, {name: deltas_of(parts) for name, parts in factors.items()}


def test_pairs_of_adapters_that_touch_different_tensors_equal_numpy(mixed):
    """Signs and masks are those of float32 deltas, so the oracle is given these; cosines are those
    of the factors."""
    _, places, deltas = mixed
    exact = {n: {t: d.numpy() for t, d in own.items()} for n, own in deltas.items()}
    both = {t: sum(exact[n].get(t, 0) for n in ("queries", "all")) for t in exact["all"]}
    exact["chain"] = both
    rows = related(places).pairs
    vectors = {}
    for name, place in places.items():
        side = Job({name: place}, ()).models().sides[name]
        vectors[name] = {
            n: torch.cat([side.delta(n, *bounds) for bounds in row_tiles.tiles(shape)]).numpy()
            for n, shape in side.shapes.items()
        }
    for name in ("all", "up"):
        for tensor, delta in deltas[name].items():
            np.testing.assert_allclose(vectors[name][tensor], delta.numpy(), atol=1e-7)
    for a, b in itertools.combinations(places, 2):
        mine = [r for r in rows if (r["a"], r["b"]) == (a, b)]
        assert_pair(mine, vectors[a], vectors[b], (exact[a], exact[b]))
    [apart] = [r for r in rows if (r["a"], r["b"], r["level"]) == ("queries", "up", "all")][:1]
    assert apart["numel"] == sum(np.prod(SHAPES[name]) for name in LINEAR)
    assert (apart["cosine"], apart["sign_agreement"], apart["overlap"]) == (0.0, None, 0.0)


def test_rows_name_view_and_universe_and_come_in_the_order_of_layers(mixed):
    _, places, _ = mixed
    rows = related({name: places[name] for name in ("all", "queries")}).pairs
    assert {(r["view"], r["universe"]) for r in rows} == {("delta", "compared")}
    keys = [r["key"] for r in rows if r["density"] == 1.0]
    layers = ["model.layers.0", "model.layers.10"]
    assert keys == ["all", *layers, "up_proj", "q_proj"]


@pytest.mark.parametrize(("shards", "threads"), [(1, 2), (2, 3), (7, 1), (32, 2)])
def test_pairs_any_shards_and_threads_have_the_same_bits(mixed, checkpoints, shards, threads):
    _, adapters, _ = mixed
    path, _, made = checkpoints
    places = adapters | {name: ModelLocation(checkpoint=path / name) for name in made}
    before = torch.get_num_threads()
    try:
        expected = related(places, path / "base", shards=3, threads=1)
        torch.set_num_threads(threads)
        assert related(places, path / "base", shards=shards, threads=threads) == expected
    finally:
        torch.set_num_threads(before)


def test_reads_of_a_model_do_not_grow_with_the_comparisons(checkpoints, monkeypatch):
    path, _, made = checkpoints
    places = {name: ModelLocation(checkpoint=path / name) for name in made}
    every = [Pair(f"{a}~{b}", a, b) for a, b in itertools.permutations(made, 2)]
    reads: list[Counter] = []
    plain = MappedFile.rows

    def counted(self, name, start, stop):
        reads[-1][id(self), name] += stop - start
        return plain(self, name, start, stop)

    monkeypatch.setattr(MappedFile, "rows", counted)
    tables = []
    for pairs in (every[:2], every):
        reads.append(Counter())
        tables.append(related(places, path / "base", pairs=pairs))
    few, many = tables
    assert few.bytes_read == many.bytes_read
    stored = sum(2 * np.prod(shape) for shape in SHAPES.values()) * 5
    # The first rows of every fourth tile, a tile being 23 rows and a vector one.
    assert stored < few.bytes_read < stored * 1.1
    rows = sum(shape[0] if len(shape) > 1 else 1 for shape in SHAPES.values())
    for counts in reads:
        # A look at a sample, one pass that measures, one for masks, one for what was missed.
        assert len(counts) == 5 * len(SHAPES)
        assert sum(counts.values()) <= 5 * 3.5 * rows


@pytest.mark.parametrize("count", [2, 3, 7, 1500])  # sqrt(3) squared is below 3 in float64
def test_cosine_of_equal_and_opposite_vectors_stays_within_one(count):
    ones = torch.ones(count)
    deltas = {"a": ones, "b": ones, "c": -ones}
    relation = Relation({Q0: products_of(count, deltas, {key: [0] for key in "abc"})})
    rows = {(r["a"], r["b"]): r for r in relation_rows("abc", relation, (1.0,))}
    assert 1 - 1e-12 < rows["a", "b"]["cosine"] <= 1
    assert -1 <= rows["a", "c"]["cosine"] < -1 + 1e-12
    assert (rows["a", "b"]["sign_agreement"], rows["a", "b"]["sign_conflict"]) == (1.0, 0.0)
    assert (rows["a", "c"]["sign_agreement"], rows["a", "c"]["sign_conflict"]) == (0.0, 1.0)


@QUICK
@given(arrays(1, 900), arrays(1, 900))
def test_relation_any_two_arrays_equals_numpy(left, right):
    size = min(left.size, right.size)
    a, b = {Q0: left[:size]}, {Q0: right[:size]}
    limits = {
        key: [int(oracle.threshold(v, d).view(np.int32)) for d in DENSITIES]
        for key, v in (("a", a), ("b", b))
    }
    deltas = {"a": torch.from_numpy(a[Q0]), "b": torch.from_numpy(b[Q0])}
    relation = Relation({Q0: products_of(size, deltas, limits)})
    rows = list(relation_rows("ab", relation, DENSITIES))
    assert_pair(rows, a, b)
    assert whole_relation(relation, 0, 1).items() <= rows[0].items()


def test_products_of_tiles_add_up_and_of_tensors_stay_apart():
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal(3000).astype(np.float32) for _ in range(2))
    limits = {"a": [0x3F800000], "b": [0x3F000000]}
    added = OrderedSum()
    for start, stop in ((1000, 3000), (0, 1000)):
        deltas = {"a": torch.from_numpy(left[start:stop]), "b": torch.from_numpy(right[start:stop])}
        added.add(start, stop, products_of(stop - start, deltas, limits))
    products = added.total
    assert products.numel == 3000
    assert products.dot[0, 1] == pytest.approx(left.astype(np.float64) @ right, abs=1e-9)
    assert products.masks.shared[0, 0, 1] == np.sum((abs(left) >= 1) & (abs(right) >= 0.5))
    total = Relation({Q0: products})
    total.merge(Relation({UP0: products_of(5, {"a": torch.ones(5), "b": None}, limits)}))
    assert list(total.tensors) == [Q0, UP0]
    assert total.tensors[UP0].touched.tolist() == [True, False]
    assert total.kept(0, 0) == np.sum(abs(left) >= 1) + 5


def test_entries_that_are_not_finite_and_were_left_out_count_nowhere():
    """`measure` refuses them first, unless the user said to leave them out."""
    a = torch.tensor([1.0, float("nan"), 2.0, 3.0])
    b = torch.tensor([1.0, 1.0, float("inf"), -3.0])
    deltas, limits = {"a": a, "b": b}, {"a": [1], "b": [1]}
    relation = Relation({Q0: products_of(4, deltas, limits)})
    row = next(iter(relation_rows("ab", relation, (1.0,))))
    assert row["cosine"] == pytest.approx((1 - 9) / np.sqrt((1 + 4 + 9) * (1 + 1 + 9)))
    assert (row["sign_agreement"], row["overlap"]) == (0.5, 2 / 3)
