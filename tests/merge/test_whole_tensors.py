"""Merges by methods of whole tensors, against oracles in the vectors' own space, float64."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from raylab.errors import InputError, NonFiniteError
from raylab.merge.merge import merge_models
from raylab.spec.merge_methods import METHODS
from raylab.spec.merges import request_merge
from raylab.weights import row_tiles
from tests.merge.models import drawn, near, place, saved
from tests.oracles import tensor_merging as oracle

TENSORS = [name for name, row in METHODS.items() if row.combines == "tensors"]
W = [1.0, 3.0, 0.5]


def merged(folder, method, base, others, with_base=True, threads=2, **options):
    """The merged tensors, float64, and the record."""
    paths = [saved(folder / f"m{i}", values) for i, values in enumerate([base, *others])]
    names, start = [str(path) for path in paths[1:]], paths[0] if with_base else None
    request = request_merge(method, names, base=str(start) if start else None, **options)
    out = folder / "out"
    record = merge_models(request, [place(p) for p in paths[1:]], start, out, threads=threads)
    weights = load_file(out / "model.safetensors")
    return {name: values.double().numpy() for name, values in weights.items()}, record


def models(count, far=True, dtype=torch.float32):
    base = drawn(0, dtype=dtype)
    made = [drawn(i + 1, dtype=dtype) if far else near(base, i + 1) for i in range(count)]
    return base, made


def f8(tensors):
    return {name: values.double().numpy() for name, values in tensors.items()}


def over(axes, function, values):
    """`function` of each model's vectors: the tensor, its rows (1) or its columns (0)."""
    if axes is None or values[0].ndim == 1:
        return function([v.ravel() for v in values]).reshape(values[0].shape)
    flat = [v.reshape(len(v), -1) for v in values]
    count = flat[0].shape[1 - axes]
    parts = [function([v.take(i, axis=1 - axes) for v in flat]) for i in range(count)]
    return np.stack(parts, axis=1 - axes).reshape(values[0].shape)


CASES = [
    ("slerp", 2, {"parameters": {"t": 0.3}}, "values", None, lambda v: oracle.slerp(*v, 0.3)),
    ("slerp", 2, {"parameters": {"t": 0}}, "values", None, lambda v: v[0]),
    ("slerp", 2, {"parameters": {"t": 1}}, "values", None, lambda v: v[1]),
    ("nuslerp", 2, {"weights": [1.0, 3.0]}, "deltas", None, lambda v: oracle.slerp(*v, 0.75)),
    ("nuslerp", 2, {"parameters": {"nuslerp_flatten": False}}, "deltas", 1,
     lambda v: oracle.slerp(*v, 0.5)),
    ("nuslerp", 2, {"parameters": {"nuslerp_flatten": False, "nuslerp_row_wise": True}},
     "deltas", 0, lambda v: oracle.slerp(*v, 0.5)),
    ("nuslerp", 2, {"with_base": False}, "values", None, lambda v: oracle.slerp(*v, 0.5)),
    ("multislerp", 3, {"weights": W}, "deltas", None, lambda v: oracle.multislerp(v, W)),
    ("multislerp", 3, {"weights": W, "with_base": False}, "values", None,
     lambda v: oracle.multislerp(v, W)),
    ("multislerp", 3, {"weights": W, "parameters": {"normalize_weights": False}}, "deltas", None,
     lambda v: oracle.multislerp(v, W, False)),
    ("multislerp", 1, {}, "deltas", None, lambda v: v[0]),
    ("karcher", 3, {"parameters": {"max_iter": 50, "tol": 1e-7}}, "values", None,
     lambda v: oracle.karcher(v, [1, 1, 1], 60)),
    ("karcher", 3, {"weights": W, "parameters": {"max_iter": 1, "tol": 1e-7}}, "values", None,
     lambda v: oracle.karcher(v, W, 1)),
    ("karcher", 1, {}, "values", None, lambda v: v[0]),
    ("model_stock", 2, {}, "deltas", None, oracle.model_stock),
    ("model_stock", 3, {}, "deltas", None, oracle.model_stock),
    ("model_stock", 3, {"parameters": {"filter_wise": True}}, "deltas", 1, oracle.model_stock),
    ("nearswap", 1, {"parameters": {"t": 0.3}}, "deltas", None,
     lambda v: oracle.nearswap(v[0], 0.3)),
    ("ram", 3, {}, "deltas", None, lambda v: oracle.ram(v, 1e-5)),
    ("ram", 3, {"parameters": {"epsilon": 0.1}}, "deltas", None, lambda v: oracle.ram(v, 0.1)),
    ("ramplus_tl", 3, {}, "deltas", None, lambda v: oracle.ramplus(v, 0.1, 0.2, 1e-5)),
    ("ramplus_tl", 3, {"parameters": {"r": 0.5, "alpha": 2.0, "epsilon": 0.15}}, "deltas", None,
     lambda v: oracle.ramplus(v, 0.5, 2.0, 0.15)),
    ("ramplus_tl", 1, {"parameters": {"epsilon": 0.1}}, "deltas", None,
     lambda v: oracle.ram(v, 0.1)),
    ("sce", 3, {}, "deltas", None, lambda v: oracle.sce(v, 1)),
    ("sce", 3, {"parameters": {"select_topk": 0.4}}, "deltas", None, lambda v: oracle.sce(v, 0.4)),
    ("sce", 2, {"parameters": {"select_topk": 0.0}}, "deltas", None, lambda v: 0.0 * v[0]),
    ("passthrough", 1, {}, "values", None, lambda v: v[0]),
    ("passthrough", 1, {"parameters": {"scale": -0.5}}, "values", None, lambda v: -0.5 * v[0]),
    ("nearswap", 1, {"parameters": {"t": 0.0}}, "deltas", None, lambda v: 0.0 * v[0]),
]  # fmt: skip


@pytest.mark.parametrize("far", [True, False])
@pytest.mark.parametrize(("method", "count", "options", "of", "axes", "function"), CASES)
def test_merge_tensors_any_method_is_its_formula(
    tmp_path, monkeypatch, far, method, count, options, of, axes, function
):
    # Pieces of a row or two, so that every tensor has several.
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", 5)
    base, others = models(count, far)
    found, record = merged(tmp_path, method, base, others, **options)
    start, values = f8(base), [f8(other) for other in others]
    for name in start:
        given = [v[name] - (start[name] if of == "deltas" else 0.0) for v in values]
        wanted = over(axes, function, given) + (start[name] if of == "deltas" else 0.0)
        # Task vectors are rounded to float32, and so is the result.
        np.testing.assert_allclose(found[name], wanted, rtol=3e-7, atol=3e-7)
    assert record["parameters" if METHODS[method].parameters else "method"]
    assert json.loads((tmp_path / "out" / "merge.json").read_text()) == record


def test_merge_tensors_every_method_has_a_case():
    assert {case[0] for case in CASES} | {"arcee_fusion"} == set(TENSORS)


@pytest.mark.parametrize("far", [True, False])
def test_merge_arcee_fusion_takes_the_entries_of_the_largest_importance(tmp_path, monkeypatch, far):
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", 5)
    base, (model,) = models(1, far)
    found, record = merged(tmp_path, "arcee_fusion", base, [model])
    start, values, kept = f8(base), f8(model), 0
    for name, before in start.items():
        moves = oracle.arcee_fusion(values[name] - before, before)
        np.testing.assert_allclose(found[name], before + moves, rtol=3e-7, atol=3e-7)
        kept += np.count_nonzero(moves)
    (row,) = record["models"]
    assert row["kept"] == kept < row["numel"]


def needed(method):
    """Settings that the method does not go without."""
    rows = METHODS[method].parameters
    return {name: 0.5 for name, row in rows.items() if row.default is None}


@pytest.mark.parametrize("method", TENSORS)
def test_merge_tensors_threads_and_pieces_do_not_change_a_bit(tmp_path, method):
    base, others = models(METHODS[method].most or 3)
    one, _ = merged(tmp_path / "1", method, base, others, threads=1, parameters=needed(method))
    many, _ = merged(tmp_path / "8", method, base, others, threads=8, parameters=needed(method))
    assert all((one[name] == many[name]).all() for name in one)


@pytest.mark.parametrize("method", TENSORS)
def test_merge_tensors_nan_is_refused_and_nothing_is_written(tmp_path, method):
    base, others = models(METHODS[method].most or 3)
    others[-1]["b.weight"][1, 2] = math.nan
    with pytest.raises(NonFiniteError, match=r"b\.weight"):
        merged(tmp_path, method, base, others, parameters=needed(method))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", [m for m in TENSORS if METHODS[m].of != "deltas"])
@pytest.mark.parametrize("with_base", [True, False])
def test_merge_tensors_equal_models_are_the_model(tmp_path, method, with_base):
    base, (model,) = models(1)
    count = METHODS[method].most or 3
    found, _ = merged(tmp_path, method, base, [model] * count, with_base, parameters=needed(method))
    for name, values in f8(model).items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=3e-7)


@pytest.mark.parametrize("method", ["model_stock", "ram", "sce"])
def test_merge_tensors_equal_task_vectors_are_the_model(tmp_path, method):
    base, (model,) = models(1)
    found, _ = merged(tmp_path, method, base, [model] * 3)
    for name, values in f8(model).items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=3e-7)


def pair(first, second):
    """Two models of one tensor, over a base of zeros."""
    values = [torch.tensor(v, dtype=torch.float32).reshape(2, 2) for v in (first, second)]
    return {"w.weight": torch.zeros(2, 2)}, [{"w.weight": value} for value in values]


X, ZERO = [3.0, 0.0, 4.0, 0.0], [0.0] * 4
DEGENERATE = [
    ("parallel", X, [2 * x for x in X], 1.25),
    ("opposite", X, [-x for x in X], 0.75 - 0.25),
    ("a zero", X, ZERO, 0.75),
]


@pytest.mark.parametrize(("name", "first", "second", "factor"), DEGENERATE)
@pytest.mark.parametrize("method", ["slerp", "nuslerp"])
def test_merge_tensors_without_an_arc_is_linear(tmp_path, method, name, first, second, factor):
    base, others = pair(first, second)
    given = {"parameters": {"t": 0.25}} if method == "slerp" else {"weights": [3.0, 1.0]}
    found, _ = merged(tmp_path, method, base, others, **given)
    assert found["w.weight"].ravel().tolist() == [factor * x for x in X]


@pytest.mark.parametrize("method", ["multislerp", "karcher"])
@pytest.mark.parametrize(
    ("second", "weights", "factor"),
    [
        ([2 * x for x in X], [3.0, 1.0], 1.25),
        # Opposite: directions of weights 3 and 1 leave the first one, at the mean norm.
        ([-2 * x for x in X], [3.0, 1.0], 1.25),
        # They cancel: linear.
        ([-2 * x for x in X], [1.0, 1.0], -0.5),
        (ZERO, [3.0, 1.0], 0.75),
    ],
)
def test_merge_tensors_mean_direction_of_degenerate_vectors(
    tmp_path, method, second, weights, factor
):
    base, others = pair(X, second)
    found, _ = merged(tmp_path, method, base, others, weights=weights)
    np.testing.assert_allclose(found["w.weight"].ravel(), [factor * x for x in X], rtol=1e-7)


@pytest.mark.parametrize(
    ("second", "factor"),
    [
        (X, 1.0),
        ([2 * x for x in X], 1.5),
        (ZERO, 0.0),
        # 1 + cos = 0: the base stays.
        ([-x for x in X], 0.0),
    ],
)
def test_merge_model_stock_of_degenerate_task_vectors(tmp_path, second, factor):
    base, others = pair(X, second)
    found, _ = merged(tmp_path, "model_stock", base, others)
    assert found["w.weight"].ravel().tolist() == [factor * x for x in X]


def test_merge_sce_signs_that_cancel_leave_the_base_and_ties_all_stay(tmp_path):
    base, others = pair(X, [-x for x in X])
    assert not merged(tmp_path / "1", "sce", base, others)[0]["w.weight"].any()
    base, others = pair([2.0] * 4, ZERO)
    found, _ = merged(tmp_path / "2", "sce", base, others, parameters={"select_topk": 0.5})
    assert found["w.weight"].ravel().tolist() == [2.0] * 4


@pytest.mark.parametrize("method", TENSORS)
def test_merge_tensors_zero_models_are_zero(tmp_path, method):
    base, others = pair(ZERO, ZERO)
    found, _ = merged(
        tmp_path, method, base, others[: METHODS[method].most or 2], parameters=needed(method)
    )
    assert not found["w.weight"].any()


def test_merge_tensors_on_a_gpu_is_refused(tmp_path):
    request = request_merge("slerp", ["a", "b"], parameters={"t": 0.5})
    with pytest.raises(InputError, match="runs on the CPU"):
        merge_models(request, [], None, tmp_path / "out", device="cuda")


def test_merge_tensors_adapter_that_leaves_a_tensor_has_a_zero_task_vector(
    tmp_path, demo_base, adapters
):
    request = request_merge("model_stock", [str(path) for path in adapters], base=str(demo_base))
    merge_models(request, [place(path) for path in adapters], demo_base, tmp_path / "out")
    before = load_file(demo_base / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    # The second adapter lacks up_proj, so the cosine there is 0 and the base stays.
    up = [name for name in before if "up_proj" in name]
    assert up and all(torch.equal(before[name], after[name]) for name in up)
    queries = [name for name in before if "q_proj" in name]
    assert any(not torch.equal(before[name], after[name]) for name in queries)


def test_merge_tensors_bfloat16_is_rounded_once(tmp_path):
    base, others = models(1, dtype=torch.bfloat16)
    found, _ = merged(tmp_path, "nearswap", base, others, parameters={"t": 0.3})
    start, model = f8(base), f8(others[0])
    for name, values in start.items():
        wanted = values + oracle.nearswap(model[name] - values, 0.3)
        assert (torch.from_numpy(wanted).bfloat16().double().numpy() == found[name]).all()
