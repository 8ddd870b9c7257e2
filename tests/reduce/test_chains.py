"""Chained task vectors against exact rational sums and float64 numpy."""

from __future__ import annotations

import json
import math
import random
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from raylab.errors import ModelError, NonFiniteError
from raylab.reduce.chains import chain_parts, chain_rows
from raylab.reduce.passes import task_vector_norms
from raylab.store.references import ModelLocation
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import to_table
from raylab.weights.views import ViewedModel
from tests.oracles.norms import root
from tests.reduce.arrays import arrays

QUICK = settings(max_examples=60, deadline=None)
Q0, Q1, UP = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.self_attn.q_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
)


class Deltas:
    """A side that holds its deltas whole."""

    def __init__(self, **deltas):
        self._deltas = deltas
        self.shapes = {name: delta.shape for name, delta in deltas.items()}

    def delta(self, name, start, stop):
        if name not in self._deltas:
            return None
        return torch.from_numpy(np.ascontiguousarray(self._deltas[name][start:stop]))


def exact(p, c):
    """(l2 of p, of c, of float32(p + c), cosine, cancellation) out of fractions."""
    with np.errstate(over="ignore"):
        w = p + c
    parts = [[Fraction(v) for v in x.ravel().tolist()] for x in (p, c, w)]
    pp, cc, ww = (root(sum((v * v for v in x), Fraction(0))) for x in parts)
    cross = sum((a * b for a, b in zip(parts[0], parts[1], strict=True)), Fraction(0))
    cosine = float(cross / (Fraction(pp) * Fraction(cc))) if pp and cc else None
    cancellation = 1 - ww / (pp + cc) if pp + cc else None
    return pp, cc, ww, cosine, cancellation


def assert_row(row, p, c):
    l2_parent, l2_child, l2, cosine, cancellation = exact(p, c)
    assert row["l2_parent"] == pytest.approx(l2_parent, rel=1e-12, abs=0)
    assert row["l2_child"] == pytest.approx(l2_child, rel=1e-12, abs=0)
    assert row["l2"] == pytest.approx(l2, rel=1e-12, abs=0)
    assert row["cosine"] == (None if cosine is None else pytest.approx(cosine, abs=1e-12))
    if cancellation is None:
        assert row["cancellation"] is None
    else:
        assert 0 <= row["cancellation"] <= 1
        assert row["cancellation"] == pytest.approx(max(cancellation, 0), abs=1e-12)


@QUICK
@given(st.data())
def test_row_any_two_arrays_equals_exact_arithmetic(data):
    p, c = data.draw(arrays(1)), data.draw(arrays(1))
    length = min(p.size, c.size)
    p, c = p[None, :length], c[None, :length]
    if not np.isfinite(p.astype(np.float64) + c).all() or np.abs(np.float64(p) + c).max() > 3.4e38:
        return
    rows = chain_rows("m", chain_parts(Deltas(x=p), Deltas(x=c), ["x"]))
    assert [row["level"] for row in rows] == ["all", "layer", "module", "tensor"]
    for row in rows:
        assert_row(row, p, c)


def test_rows_of_several_tiles_and_tensors_equal_float64():
    generator = np.random.default_rng(0)
    shapes = {Q0: (1100, 1024), Q1: (40, 64), UP: (64, 40)}
    p, c = (
        {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        for _ in range(2)
    )
    rows = chain_rows("trial", chain_parts(Deltas(**p), Deltas(**c), shapes))
    groups = {
        ("all", "all"): [Q0, Q1, UP],
        ("layer", "model.layers.0"): [Q0, UP],
        ("layer", "model.layers.1"): [Q1],
        ("module", "q_proj"): [Q0, Q1],
        ("module", "up_proj"): [UP],
        **{("tensor", name): [name] for name in shapes},
    }
    assert {(row["level"], row["key"]) for row in rows} == set(groups)
    for row in rows:
        names = groups[row["level"], row["key"]]
        one, two = (np.concatenate([x[n].ravel() for n in names]) for x in (p, c))
        whole = (one + two).astype(np.float64)
        one, two = one.astype(np.float64), two.astype(np.float64)
        assert row["l2_parent"] == pytest.approx(np.linalg.norm(one), rel=1e-12)
        assert row["l2_child"] == pytest.approx(np.linalg.norm(two), rel=1e-12)
        assert row["l2"] == pytest.approx(np.linalg.norm(whole), rel=1e-12)
        expected = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        assert row["cosine"] == pytest.approx(expected, abs=1e-12)
        assert row["model"] == "trial"
    assert {"note", *rows[0]} == set(SCHEMAS["chains"].names)
    assert to_table("chains", rows).num_rows == len(rows)


@pytest.mark.parametrize("count", [2, 3, 5, 600])  # sqrt(3) squared is below 3 in float64
def test_same_direction_cancels_nothing_and_opposite_directions_all(count):
    p = np.ones((1, count), np.float32)
    [row, *_] = chain_rows("m", chain_parts(Deltas(x=p), Deltas(x=p), ["x"]))
    assert 1 - 1e-12 < row["cosine"] <= 1
    assert 0 <= row["cancellation"] < 1e-7
    [row, *_] = chain_rows("m", chain_parts(Deltas(x=p), Deltas(x=-p), ["x"]))
    assert -1 <= row["cosine"] < -1 + 1e-12
    assert (row["l2"], row["cancellation"]) == (0.0, 1.0)


def test_one_side_alone_has_no_cosine_and_cancels_nothing():
    p = np.ones((2, 3), np.float32)
    sums = chain_parts(Deltas(x=p), Deltas(y=2 * p), ["x", "y", "z"])
    assert list(sums) == ["x", "y"]
    rows = {(r["level"], r["key"]): r for r in chain_rows("m", sums)}
    of_parent, of_child = rows["tensor", "x"], rows["tensor", "y"]
    assert (of_parent["l2_child"], of_parent["cosine"], of_parent["cancellation"]) == (0, None, 0)
    assert (of_child["l2_parent"], of_child["cosine"], of_child["cancellation"]) == (0, None, 0)
    assert of_child["l2"] == of_child["l2_child"] == math.sqrt(24)
    assert rows["all", "all"]["cosine"] == 0.0


def test_nothing_trained_is_a_row_of_zeros():
    zero = Deltas(x=np.zeros((2, 2), np.float32))
    for sums in (chain_parts(zero, zero, ["x"]), {}):
        row = chain_rows("m", sums)[0]
        assert [row[k] for k in ("l2_parent", "l2_child", "l2")] == [0.0] * 3
        assert (row["cosine"], row["cancellation"]) == (None, None)


@pytest.mark.parametrize(
    ("p", "c"), [(math.nan, 0), (0, math.inf), (3e38, 3e38), (math.inf, -math.inf)]
)
def test_delta_not_finite_is_an_error_that_names_the_tensor(p, c):
    p, c = (np.array([[1, value]], np.float32) for value in (p, c))
    with pytest.raises(NonFiniteError, match=UP.replace(".", r"\.")):
        chain_parts(Deltas(**{UP: p}), Deltas(**{UP: c}), [UP])


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ModelError, match="two shapes"):
        chain_parts(Deltas(x=np.ones((2, 3))), Deltas(x=np.ones((3, 2))), ["x"])


def write_adapter(directory, seed, modules):
    """A PEFT adapter of random factors, float32(scale * B A) by weight."""
    generator = np.random.default_rng(seed)
    tensors, deltas = {}, {}
    for name, (rows, columns) in modules.items():
        down = generator.standard_normal((4, columns)).astype(np.float32)
        up = generator.standard_normal((rows, 4)).astype(np.float32) * np.float32(1e-3)
        stem = "base_model.model." + name.removesuffix(".weight")
        tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        deltas[name] = 2 * (up.astype(np.float64) @ down)
    directory.mkdir()
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return deltas


@pytest.fixture
def chain(tmp_path):
    """Three adapters over each other: their directories and exact deltas."""
    shapes = [
        {Q0: (600, 2000), UP: (48, 32)},
        {Q0: (600, 2000), Q1: (32, 32)},
        {Q0: (600, 2000), UP: (48, 32), Q1: (32, 32)},
    ]
    deltas = [write_adapter(tmp_path / str(i), i, s) for i, s in enumerate(shapes)]
    return [tmp_path / str(i) for i in range(3)], deltas


def test_rows_of_adapters_split_ancestors_from_the_trial(chain):
    paths, deltas = chain
    parent, child = (
        ViewedModel(ModelLocation(tuple(paths[:2]))),
        ViewedModel(ModelLocation((paths[2],))),
    )
    rows = chain_rows("m", chain_parts(parent, child, [Q0, Q1, UP]))
    zero = {name: 0 * delta for d in deltas for name, delta in d.items()}
    old = {n: deltas[0].get(n, zero[n]) + deltas[1].get(n, zero[n]) for n in zero}
    one, two = (np.concatenate([x[n].ravel() for n in sorted(zero)]) for x in (old, deltas[2]))
    lengths = [np.linalg.norm(x) for x in (one, two, one + two)]
    assert rows[0]["l2_parent"] == pytest.approx(lengths[0], rel=1e-6)
    assert rows[0]["l2_child"] == pytest.approx(lengths[1], rel=1e-6)
    assert rows[0]["l2"] == pytest.approx(lengths[2], rel=1e-6)
    assert rows[0]["cosine"] == pytest.approx(one @ two / lengths[0] / lengths[1], abs=1e-6)
    assert rows[0]["cancellation"] == pytest.approx(
        1 - lengths[2] / (lengths[0] + lengths[1]), abs=1e-6
    )


def test_whole_is_the_norm_of_the_task_vector(chain):
    paths, _ = chain
    parent, child = (
        ViewedModel(ModelLocation(tuple(paths[:2]))),
        ViewedModel(ModelLocation((paths[2],))),
    )
    row = chain_rows("m", chain_parts(parent, child, [Q0, Q1, UP]))[0]
    assert row["l2"] == pytest.approx(task_vector_norms(ModelLocation(tuple(paths))).l2, rel=1e-13)


@pytest.mark.parametrize("threads", [1, 4])
def test_rows_any_shards_threads_and_order_have_the_same_bits(chain, threads):
    paths, _ = chain
    names = [Q0, Q1, UP]

    def part(some):
        return chain_parts(
            ViewedModel(ModelLocation(tuple(paths[:2]))),
            ViewedModel(ModelLocation((paths[2],))),
            some,
        )

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = chain_rows("m", part(names))
        torch.set_num_threads(threads)
        order = random.Random(threads).sample(names, 3)
        with ThreadPoolExecutor(threads) as pool:
            found = {k: v for some in pool.map(part, [[n] for n in order]) for k, v in some.items()}
        assert chain_rows("m", found) == expected
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
