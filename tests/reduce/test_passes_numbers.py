"""The whole reduction against float64 numpy: adapters, chains, checkpoints, any shards."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from raylab.errors import ModelError, NonFiniteError
from raylab.reduce import passes as reduction
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs, task_vector_norms
from raylab.reduce.row_block import Pair
from raylab.store.references import ModelLocation

SHAPES = {
    "model.layers.0.self_attn.q_proj": (48, 32),
    "model.layers.0.mlp.up_proj": (96, 32),
    "model.layers.1.self_attn.q_proj": (48, 32),
    "model.layers.10.mlp.up_proj": (96, 32),
}
DENSITIES = (0.01, 0.1, 0.29, 0.5, 1.0)


def write_adapter(directory, seed, modules=tuple(SHAPES), alpha=16, rank=4, rslora=False):
    """A PEFT adapter of random factors; returns {weight name: exact delta in float64}."""
    rng = np.random.default_rng(seed)
    tensors, deltas = {}, {}
    for module in modules:
        rows, columns = SHAPES[module]
        down = rng.standard_normal((rank, columns)).astype(np.float32)
        up = rng.standard_normal((rows, rank)).astype(np.float32) * 1e-3
        tensors[f"base_model.model.{module}.lora_A.weight"] = down
        tensors[f"base_model.model.{module}.lora_B.weight"] = up
        scale = alpha / (math.sqrt(rank) if rslora else rank)
        deltas[f"{module}.weight"] = scale * (up.astype(np.float64) @ down.astype(np.float64))
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_rslora": rslora}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return deltas


def write_base(directory, seed=9, scale=1.0):
    rng = np.random.default_rng(seed)
    weights = {
        f"{module}.weight": (scale * rng.standard_normal(shape)).astype(np.float32)
        for module, shape in SHAPES.items()
    }
    directory.mkdir(parents=True)
    save_file(weights, directory / "model.safetensors")
    (directory / "config.json").write_text("{}")
    return weights


def reduce(places, pairs, base=None, execute=None):
    return reduce_pairs(Job(places, tuple(pairs), base), DENSITIES, execute or InProcess())


def whole(tables):
    return {row["comparison"]: row for row in tables.norms if row["level"] == "all"}


@pytest.fixture
def adapters(tmp_path):
    """Two adapters that target different modules, and their exact deltas."""
    names = tuple(SHAPES)
    a = write_adapter(tmp_path / "a", 1, names[:3])
    b = write_adapter(tmp_path / "b", 2, names[1:], rslora=True)
    return tmp_path, a, b


def difference(a, b):
    zero = {f"{m}.weight": np.zeros(s) for m, s in SHAPES.items()}
    names = sorted({*a, *b})
    return {n: a.get(n, zero[n]) - b.get(n, zero[n]) for n in names}


def test_norms_of_two_adapters_equal_float64_at_every_level(adapters):
    path, a, b = adapters
    places = {"a": ModelLocation((path / "a",)), "b": ModelLocation((path / "b",))}
    rows = reduce(places, [Pair("a~b", "a", "b")]).norms
    exact = difference(a, b)
    groups = {
        ("all", "all"): list(exact),
        ("layer", "model.layers.0"): [n for n in exact if ".0." in n],
        ("layer", "model.layers.10"): [n for n in exact if ".10." in n],
        ("module", "q_proj"): [n for n in exact if "q_proj" in n],
        **{("tensor", n): [n] for n in exact},
    }
    found = {(row["level"], row["key"]): row for row in rows}
    assert list(found)[1:4] == [("layer", f"model.layers.{i}") for i in (0, 1, 10)]
    for key, names in groups.items():
        values = np.concatenate([exact[name].ravel() for name in names])
        row = found[key]
        assert row["numel"] == values.size
        assert row["l1"] == pytest.approx(np.abs(values).sum(), rel=1e-6)
        assert row["l2"] == pytest.approx(np.sqrt((values**2).sum()), rel=1e-6)
        assert row["linf"] == pytest.approx(np.abs(values).max(), rel=1e-6)
        assert row["nonzero"] == np.count_nonzero(values)
        assert (row["moved"], row["tolerance"]) == (np.count_nonzero(np.abs(values) > 1e-5), 1e-5)


def test_densities_of_two_adapters_equal_a_full_sort(adapters):
    path, a, b = adapters
    places = {"a": ModelLocation((path / "a",)), "b": ModelLocation((path / "b",))}
    rows = reduce(places, [Pair("a~b", "a", "b")]).densities
    values = np.concatenate([d.ravel() for d in difference(a, b).values()])
    ordered = np.sort(np.abs(values))[::-1]
    for row in rows:
        assert row["num_keep"] == max(1, math.floor(round(row["density"] * values.size, 9)))
        kept = ordered[: row["num_keep"]]
        assert row["threshold"] == pytest.approx(kept[-1], rel=1e-5, abs=1e-8)
        assert row["l1"] == pytest.approx(kept.sum(), rel=1e-6)
        assert row["l2"] == pytest.approx(np.sqrt((kept**2).sum()), rel=1e-6)
        assert row["l2_share"] == pytest.approx(row["l2"] / np.sqrt((ordered**2).sum()), rel=1e-6)


def test_chained_task_vector_is_the_sum_of_its_adapters(adapters):
    path, a, b = adapters
    norms = task_vector_norms(ModelLocation((path / "a", path / "b")))
    total = difference(a, {name: -delta for name, delta in b.items()})
    assert norms.l2 == pytest.approx(
        math.sqrt(sum((delta**2).sum() for delta in total.values())), rel=1e-6
    )


def test_relative_norm_against_base_is_over_the_same_tensors(adapters):
    path, a, _ = adapters
    weights = write_base(path / "base")
    places = {"a": ModelLocation((path / "a",)), "base": ModelLocation()}
    row = whole(reduce(places, [Pair("a~base", "a", "base")], path / "base"))["a~base"]
    base = math.sqrt(sum((weights[name].astype(np.float64) ** 2).sum() for name in a))
    assert row["relative_l2"] == pytest.approx(row["l2"] / base, rel=1e-9)
    without = whole(reduce(places, [Pair("a~base", "a", "base")]))["a~base"]
    assert without["relative_l2"] is None


def test_checkpoints_are_subtracted_as_they_are(adapters):
    path, a, _ = adapters
    base = write_base(path / "base")
    one, two = write_base(path / "one", 3), write_base(path / "two", 4, scale=1e-4)
    places = {
        "one": ModelLocation(checkpoint=path / "one", base=path / "base"),
        "two": ModelLocation(checkpoint=path / "two", base=path / "base"),
        "a": ModelLocation((path / "a",)),
        "base": ModelLocation(),
    }
    pairs = [Pair(f"{x}~{y}", x, y) for x, y in (("one", "two"), ("one", "base"), ("a", "one"))]
    rows = whole(reduce(places, pairs, path / "base"))
    expected = {
        "one~two": {n: (one[n] - two[n]).astype(np.float64) for n in base},
        "one~base": {n: (one[n] - base[n]).astype(np.float64) for n in base},
        "a~one": {n: a.get(n, 0) - (one[n] - base[n]).astype(np.float64) for n in base},
    }
    for name, values in expected.items():
        assert rows[name]["l2"] == pytest.approx(
            math.sqrt(sum((v**2).sum() for v in values.values())), rel=1e-6
        )
    exact = math.fsum(abs(float(v)) for n in base for v in (one[n] - two[n]).ravel())
    assert rows["one~two"]["l1"] == exact
    values = math.sqrt(sum((two[n].astype(np.float64) ** 2).sum() for n in base))
    assert rows["one~two"]["relative_l2"] == pytest.approx(rows["one~two"]["l2"] / values)


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
@pytest.mark.parametrize("threads", [1, 2])
def test_tables_for_any_shards_threads_and_order_have_the_same_bits(
    adapters, shards, threads, monkeypatch
):
    path, _, _ = adapters
    places = {
        "a": ModelLocation((path / "a",)),
        "b": ModelLocation((path / "b",)),
        "base": ModelLocation(),
    }
    pairs = [Pair("a~b", "a", "b"), Pair("a~base", "a", "base")]
    expected = reduce(places, pairs)

    inside = InProcess()

    def shuffled(job, calls):
        results = list(inside(job, calls))
        random.Random(shards).shuffle(results)
        return results

    monkeypatch.setattr(reduction, "SHARDS", shards)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert reduce(places, pairs, execute=shuffled) == expected
    finally:
        torch.set_num_threads(before)


def test_comparison_of_a_model_with_itself_is_zero_everywhere(adapters):
    path, _, _ = adapters
    places = {"a": ModelLocation((path / "a",)), "again": ModelLocation((path / "a",))}
    tables = reduce(places, [Pair("a~again", "a", "again")])
    row = whole(tables)["a~again"]
    assert (row["l1"], row["l2"], row["linf"], row["nonzero"], row["moved"]) == (0, 0, 0, 0, 0)
    assert all(row["threshold"] == 0 and row["l1_share"] is None for row in tables.densities)
    assert all(row["at_or_above"] == row["num_keep"] for row in tables.densities[-1:])


def test_nan_in_an_adapter_is_an_error_that_names_the_tensor(adapters):
    path, _, _ = adapters
    write_adapter(path / "bad", 5)
    file = path / "bad" / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"][1, 1] = float("nan")
    save_file(tensors, file)
    places = {"bad": ModelLocation((path / "bad",)), "base": ModelLocation()}
    with pytest.raises(NonFiniteError, match=r"model\.layers\.0"):
        reduce(places, [Pair("bad~base", "bad", "base")])


def test_shapes_that_differ_are_an_error(adapters, monkeypatch):
    path, _, _ = adapters
    monkeypatch.setitem(SHAPES, "model.layers.0.mlp.up_proj", (96, 16))
    write_adapter(path / "other", 5)
    places = {"a": ModelLocation((path / "a",)), "other": ModelLocation((path / "other",))}
    with pytest.raises(ModelError, match="two shapes"):
        reduce(places, [Pair("a~other", "a", "other")])
