"""Principal angles of adapters against dense SVDs in float64 and scipy's subspace angles."""

from __future__ import annotations

import inspect
import math
import re
from statistics import median_low

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from raylab.errors import NonFiniteError
from raylab.reduce import passes
from raylab.reduce.job import InProcess, Job, Shard
from raylab.reduce.low_rank import directions_of_factors, leading_directions
from raylab.reduce.passes import relate_subspaces
from raylab.reduce.shard_cache import pack, unpack
from raylab.reduce.subspaces import subspaces_of
from raylab.store.phase import SHARDS
from raylab.store.references import ModelLocation
from raylab.store.tables import to_table
from raylab.weights.views import DELTA, ViewedModel
from tests.reduce.models import (
    LINEAR,
    Q0,
    Q10,
    SHAPES,
    UP0,
    deltas_of,
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
)

QUICK = settings(max_examples=60, deadline=None)


def vectors(delta, rank):
    """(left singular vectors, singular values, right ones) of the leading `rank`, by numpy."""
    u, s, vt = np.linalg.svd(np.asarray(delta, dtype=np.float64), full_matrices=False)
    return u[:, :rank], s[:rank], vt[:rank].T


def wanted_k(values, share):
    """The fewest values whose squares hold `share` of all, counted one after another."""
    whole, sum_so_far = math.fsum(v * v for v in values), 0.0
    for count, value in enumerate(values, 1):
        sum_so_far += value * value
        if sum_so_far >= share * whole * (1 - 1e-12):
            return count
    return len(values)


def interference(first, second):
    """| (U^T U - 1) S (V^T V - 1) |_1 of both models' vectors side by side, as it is defined."""
    u, v = (np.hstack([first[i], second[i]]) for i in (0, 2))
    s = np.diag(np.concatenate([first[1], second[1]]))
    one = np.eye(u.shape[1])
    return np.abs((u.T @ u - one) @ s @ (v.T @ v - one)).sum()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(places, base, deltas in float64 by model, ranks): adapters, a chain and a checkpoint."""
    path = tmp_path_factory.mktemp("subspaces")
    base = random_weights(0, torch.float32)
    write_checkpoint(path / "base", base)
    factors = {
        "one": random_factors(1),
        "two": random_factors(2, rank=3),
        "part": random_factors(3, (Q0, UP0)),
        "child": random_factors(4, (Q0, Q10), rank=2),
    }
    for name, parts in factors.items():
        rank = next(iter(parts.values()))[0].shape[0]
        write_adapter(path / name, parts, rank=rank)
    ranks = {"one": 4, "two": 3, "part": 4, "child": 2}
    deltas = {n: deltas_of(parts, rank=ranks[n]) for n, parts in factors.items()}
    deltas["chain"] = {
        name: deltas["one"][name] + deltas["child"].get(name, 0) for name in deltas["one"]
    }
    low = {
        name: sum(2.0**-i * np.outer(*_unit(i, SHAPES[name])) for i in range(1, 21))
        for name in (Q0, UP0)
    }
    whole = {**base, **{n: base[n] + torch.from_numpy(d).float() for n, d in low.items()}}
    write_checkpoint(path / "whole", whole)
    deltas["whole"] = {n: (whole[n] - base[n]).double() for n in low}
    places = {n: ModelLocation((path / n,)) for n in ("one", "two", "part")}
    places["chain"] = ModelLocation((path / "one", path / "child"))
    places["whole"] = ModelLocation(checkpoint=path / "whole", base=path / "base")
    return places, path / "base", deltas, {"one": 4, "two": 3, "part": 4, "chain": 6, "whole": 16}


def _unit(seed, shape):
    random = np.random.default_rng(seed)
    return [v / np.linalg.norm(v) for v in (random.standard_normal(n) for n in shape)]


def job_of(made, **changes):
    places, base, _, _ = made
    return Job(**{"places": places, "pairs": (), "base": base, "vectors": tuple(places)} | changes)


def rows_of(made, **changes):
    return relate_subspaces(job_of(made, **changes), InProcess()).subspaces


def rank_of(made, model, name):
    return made[3][model] - (2 if model == "chain" and name == UP0 else 0)


@pytest.mark.parametrize(
    ("a", "b"), [("one", "two"), ("one", "part"), ("two", "chain"), ("one", "whole")]
)
def test_subspaces_of_a_tensor_are_those_of_dense_decompositions(made, a, b):
    rows = rows_of(made)
    deltas = made[2]
    common = [n for n in LINEAR if n in deltas[a] and n in deltas[b]]
    for name in common:
        of = [vectors(deltas[m][name], rank_of(made, m, name)) for m in (a, b)]
        k90 = min(wanted_k(vectors(deltas[m][name], 24)[1], 0.9) for m in (a, b))
        for energy, sizes in ((1.0, [len(x[1]) for x in of]), (0.9, [k90, k90])):
            cut = [tuple(part[..., :k] for part in x) for x, k in zip(of, sizes, strict=True)]
            for side, place in (("output", 0), ("input", 2)):
                (row,) = (
                    r
                    for r in rows
                    if (r["a"], r["b"], r["level"], r["key"]) == (a, b, "tensor", name)
                    and (r["side"], r["energy"]) == (side, energy)
                )
                angles = np.degrees(subspace_angles(cut[0][place], cut[1][place]))
                assert row["k"] == min(sizes)
                squares = np.cos(np.radians(angles)) ** 2
                assert row["overlap"] == pytest.approx(np.mean(squares), rel=1e-6)
                assert row["angle_median"] == pytest.approx(np.median(angles), abs=1e-4)
                assert row["angle_first"] == pytest.approx(angles.min(), abs=1e-4)
                assert row["chance"] == max(sizes) / len(cut[0][place])
                assert row["interference"] == pytest.approx(interference(*cut), rel=1e-6)
                assert row["tensors"] == 1


def test_subspaces_of_levels_are_means_over_their_tensors(made):
    rows = rows_of(made)
    assert to_table("subspaces", rows).num_rows == len(rows)
    chosen = [r for r in rows if (r["a"], r["b"], r["energy"]) == ("one", "two", 0.9)]
    tensors = [r for r in chosen if r["level"] == "tensor" and r["side"] == "input"]
    (whole,) = (r for r in chosen if r["level"] == "all" and r["side"] == "input")
    assert {r["key"] for r in tensors} == set(LINEAR)
    for column in ("overlap", "angle_median", "angle_first", "chance", "interference", "share"):
        mean = math.fsum(r[column] for r in tensors) / 3
        assert whole[column] == pytest.approx(mean, rel=1e-14)
    assert whole["k"] == median_low([r["k"] for r in tensors])
    assert whole["tensors"] == 3
    layers = {r["key"]: r["tensors"] for r in chosen if r["level"] == "layer"}
    assert layers == {"model.layers.0": 2, "model.layers.10": 1}


def test_subspaces_of_a_pair_have_the_same_bits_beside_other_models_and_in_shards(made):
    alone = rows_of(made, vectors=("one", "chain"))
    among = [r for r in rows_of(made, threads=2) if (r["a"], r["b"]) == ("one", "chain")]
    assert alone == among
    turned = rows_of(made, vectors=("chain", "one"))
    assert [r | {"a": r["b"], "b": r["a"]} for r in turned] == alone
    job = job_of(made)
    calls = [Shard(i, (name,), 0) for i, name in enumerate(sorted(job.compared()))]
    total = {}
    for shard in calls:
        total |= unpack(pack(job.open().subspaces(shard.names)))[0]
    whole = job.open().subspaces(sorted(job.compared()))[0]
    assert total.keys() == whole.keys()
    for name, found in whole.items():
        for part in ("pairs", "k", "sides", "both"):
            np.testing.assert_array_equal(getattr(found, part), getattr(total[name], part))


def test_subspaces_of_a_fresh_model_are_those_of_its_pairs_alone(made):
    whole = [r for r in rows_of(made) if "part" in (r["a"], r["b"])]
    assert whole
    assert rows_of(made, fresh=frozenset({"part"})) == whole


def test_subspaces_of_equal_and_zero_deltas(tmp_path):
    factors = random_factors(5, (Q0,))
    nothing = {Q0: (factors[Q0][0], torch.zeros_like(factors[Q0][1]))}
    for name, parts in (("a", factors), ("same", factors), ("zero", nothing)):
        write_adapter(tmp_path / name, parts)
    models = {n: ViewedModel(ModelLocation((tmp_path / n,)), DELTA) for n in ("a", "same", "zero")}
    found = subspaces_of(models, [Q0])[Q0]
    assert found.pairs.tolist() == [[0, 1]]
    np.testing.assert_allclose(found.sides[0, :, :, 0], 1.0, rtol=1e-14)
    assert found.sides[0, :, :, 1:3].max() < 1e-5
    assert np.all(found.k[0] >= 1)


@st.composite
def factor_pairs(draw):
    """Factors of any shape: a rank above both sides, columns that repeat, values far apart."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    rows, columns, rank = (draw(st.integers(1, top)) for top in (30, 30, 9))
    a = random.standard_normal((rank, columns)).astype(np.float32)
    b = random.standard_normal((rows, rank)).astype(np.float32)
    if draw(st.booleans()):
        b[:, -1] = b[:, 0]
    return torch.from_numpy(a), torch.from_numpy(b), draw(st.sampled_from([1e-6, 0.5, -3.0]))


@QUICK
@given(factor_pairs())
def test_directions_of_factors_rebuild_the_delta(term):
    a, b, scale = term
    delta = scale * (b.double().numpy() @ a.double().numpy())
    found = directions_of_factors([term], "a tensor")
    assert found.rank == np.linalg.matrix_rank(delta) <= min(delta.shape)
    rebuilt = (found.output * found.values) @ found.input.T
    np.testing.assert_allclose(rebuilt, delta, atol=1e-12 * np.abs(delta).max())
    for basis in (found.output, found.input):
        np.testing.assert_allclose(basis.T @ basis, np.eye(found.rank), atol=1e-12)
    np.testing.assert_allclose(found.values, np.linalg.svd(delta)[1][: found.rank], rtol=1e-9)
    assert found.rank_for(1.0) == found.rank
    assert found.held(found.rank_for(0.9)) >= 0.9 * (1 - 1e-12)


@QUICK
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**16))
def test_leading_directions_of_a_falling_spectrum_are_those_of_the_dense_svd(rows, columns, seed):
    random = np.random.default_rng(seed)
    u, _, vt = np.linalg.svd(random.standard_normal((rows, columns)), full_matrices=False)
    delta = (u * 0.5 ** np.arange(len(vt))) @ vt
    tensor = torch.from_numpy(delta)
    found = leading_directions(lambda start, stop: tensor[start:stop], (rows, columns), "t")
    k = min(16, rows, columns)
    np.testing.assert_allclose(found.values, 0.5 ** np.arange(k), rtol=1e-6)
    np.testing.assert_allclose(found.energy, np.square(delta).sum(), rtol=1e-12)
    overlap = np.square(u[:, :k].T @ found.output.numpy()).sum() / k
    assert overlap == pytest.approx(1.0, abs=1e-6)


def test_directions_that_are_not_finite_are_refused_by_name():
    a, b = torch.full((2, 4), math.nan), torch.ones(3, 2)
    with pytest.raises(NonFiniteError, match="of q"):
        directions_of_factors([(a, b, 1.0)], "q")
    rows = torch.full((5, 4), math.inf)
    with pytest.raises(NonFiniteError, match="of q"):
        leading_directions(lambda start, stop: rows[start:stop], (5, 4), "q")


def test_every_call_on_shards_is_told_by_a_name_of_its_own():
    source = inspect.getsource(passes)
    methods = set(re.findall(r'\.all\(\s*"(\w+)"', source))
    assert "subspaces" in methods
    assert methods <= set(SHARDS)


def phi_of(made, **changes):
    job = job_of(made, **changes)
    return relate_subspaces(job, InProcess(), by_tensor=True, phi=True).phi


@pytest.mark.parametrize(
    "order", [("one", "two", "part", "chain", "whole"), ("whole", "two", "one")]
)
def test_phi_of_tensors_of_ranks_that_differ_is_that_of_dense_decompositions(made, order):
    rows = phi_of(made, vectors=order)
    assert to_table("phi", rows).num_rows == len(rows)
    checked = 0
    for row in rows:
        if row["level"] != "tensor":
            continue
        name, place = row["key"], {"output": 0, "input": 2}[row["side"]]
        a, b = (
            vectors(made[2][m][name], rank_of(made, m, name))[place] for m in (row["a"], row["b"])
        )
        expected = [
            np.sum((a[:, :i].T @ b[:, :j]) ** 2) / min(i, j)
            for i in range(1, a.shape[1] + 1)
            for j in range(1, b.shape[1] + 1)
        ]
        assert (row["directions_a"], row["directions_b"]) == (a.shape[1], b.shape[1])
        assert row["phi"] == pytest.approx(expected, abs=1e-6)
        checked += 1
    assert checked >= 10


def test_phi_of_levels_is_the_mean_where_all_tensors_have_directions(made):
    rows = [r for r in phi_of(made) if (r["a"], r["b"], r["side"]) == ("one", "two", "output")]
    (whole,) = (r for r in rows if r["level"] == "all")
    tensors = [r["phi"] for r in rows if r["level"] == "tensor"]
    assert whole["phi"] == pytest.approx(np.mean(tensors, axis=0), rel=1e-14)
    assert (whole["tensors"], whole["directions_a"], whole["directions_b"]) == (3, 4, 3)
    usual = relate_subspaces(job_of(made), InProcess(), phi=True)
    assert {r["level"] for r in usual.phi} == {"all", "layer", "module"}
    assert relate_subspaces(job_of(made), InProcess()).phi == []
    assert usual.subspaces == rows_of(made)


def test_phi_of_a_model_with_itself_is_one_and_zeros_have_none(tmp_path):
    factors = random_factors(1)
    zero = {name: (down, torch.zeros_like(up)) for name, (down, up) in factors.items()}
    for name, parts in {"a": factors, "again": factors, "zero": zero}.items():
        write_adapter(tmp_path / name, parts)
    places = {name: ModelLocation((tmp_path / name,)) for name in ("a", "again", "zero")}
    rows = relate_subspaces(Job(places, (), vectors=tuple(places)), InProcess(), phi=True).phi
    assert {(r["a"], r["b"]) for r in rows} == {("a", "again")}
    for row in rows:
        found = np.reshape(row["phi"], (row["directions_a"], row["directions_b"]))
        np.testing.assert_allclose(found, 1.0, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 7, 16])
def test_leading_directions_of_a_delta_of_known_rank_are_all_of_it(rank):
    random = np.random.default_rng(rank)
    left, right = random.standard_normal((90, rank)), random.standard_normal((rank, 70))
    delta = torch.from_numpy((left * 2.0 ** -np.arange(rank)) @ right)
    found = leading_directions(lambda start, stop: delta[start:stop], (90, 70), "known rank")
    u, values, v = vectors(delta, rank)
    assert found.rank == rank
    assert found.held(rank) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found.values.numpy(), values, rtol=1e-9)
    for mine, exact in ((found.output, u), (found.input, v)):
        assert np.sum((mine.numpy().T @ exact) ** 2) / rank == pytest.approx(1, abs=1e-9)
