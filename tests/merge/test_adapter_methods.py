"""Merges to an adapter by every method that gives no factors: the best approximation of its task
vector, which the oracles form in float64 out of what PEFT reads."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from raylab.merge.merge import merge_models
from raylab.spec.adapter_output import AdapterOutput
from raylab.spec.merge_methods import METHODS
from raylab.spec.mergekit import read_mergekit
from tests.merge.models import place
from tests.merge.test_adapter_out import deltas, merged
from tests.oracles import merging, tensor_merging

W = [1.0, 3.0]
RANK = 3


def crumbs(arrays, density, gamma):
    return [merging.between(d, *merging.breadcrumbs([d], density, gamma)) for d in arrays]


def drop(arrays, density, seed, name):
    return [merging.dropped(d, density, seed, i, name) for i, d in enumerate(arrays)]


def by_rank(arrays, density, epsilon, name):
    return [merging.dropped_by_rank(d, density, epsilon, 0, i, name) for i, d in enumerate(arrays)]


T, R = tensor_merging, {"density": 0.3, "scope": "tensor"}
# (method, models, options, the merged task vector of task vectors d and base b of a tensor)
CASES = [
    ("slerp", 2, {"parameters": {"t": 0.3}},
     lambda d, b, n: T.slerp(b + d[0], b + d[1], 0.3) - b),
    ("karcher", 2, {"weights": W, "parameters": {"max_iter": 50, "tol": 1e-7}},
     lambda d, b, n: T.karcher([b + d[0], b + d[1]], W, 60) - b),
    ("nuslerp", 2, {"weights": W}, lambda d, b, n: T.slerp(*d, 0.75)),
    ("multislerp", 2, {"weights": W}, lambda d, b, n: T.multislerp(d, W)),
    ("model_stock", 2, {}, lambda d, b, n: T.model_stock(d)),
    ("nearswap", 1, {"parameters": {"t": 0.002}}, lambda d, b, n: T.nearswap(d[0], 0.002)),
    ("ram", 2, {"parameters": {"epsilon": 0.002}}, lambda d, b, n: T.ram(d, 0.002)),
    ("ramplus_tl", 2, {"parameters": {"epsilon": 0.002}},
     lambda d, b, n: T.ramplus(d, 0.1, 0.2, 0.002)),
    ("sce", 2, {"parameters": {"select_topk": 0.5}}, lambda d, b, n: T.sce(d, 0.5)),
    ("arcee_fusion", 1, {}, lambda d, b, n: T.arcee_fusion(d[0], b)),
    ("passthrough", 1, {}, lambda d, b, n: d[0]),
    ("breadcrumbs", 2, {**R, "parameters": {"gamma": 0.1}},
     lambda d, b, n: merging.summed(crumbs(d, 0.3, 0.1), [1, 1])),
    ("breadcrumbs_ties", 2, {**R, "weights": W, "parameters": {"gamma": 0.1}},
     lambda d, b, n: merging.elected(crumbs(d, 0.3, 0.1), W, W)),
    ("dare_linear", 2, {"density": 0.4, "seed": 5},
     lambda d, b, n: merging.summed(drop(d, 0.4, 5, n), [1 / 0.4, 1 / 0.4])),
    ("dare_ties", 2, {"density": 0.4},
     lambda d, b, n: merging.elected(drop(d, 0.4, 0, n), [1 / 0.4] * 2, [1, 1])),
    ("della", 2, {"density": 0.4},
     lambda d, b, n: merging.elected(by_rank(d, 0.4, 0.15, n), [1, 1], [1, 1])),
    ("della_linear", 2, {"density": 0.4, "scaling": 0.5},
     lambda d, b, n: merging.summed(by_rank(d, 0.4, 0.15, n), [0.5, 0.5])),
]  # fmt: skip


def test_every_method_without_factors_has_a_case():
    sums = {"linear", "task_arithmetic"}
    without = {name for name, row in METHODS.items() if row.combines != "matrices"} - sums
    # `tests.merge.test_adapter_out` has TIES.
    assert {case[0] for case in CASES} | {"ties"} == without


def task_vectors(base, paths):
    """({tensor: task vector of every model, rounded to float32}, {tensor: the base's rows})."""
    each = [deltas(base, path) for path in paths]
    stored = load_file(base / "model.safetensors")
    found, starts = {}, {}
    for name in each[0]:
        rows = [d[name].numpy() if name in d else 0 * each[0][name].numpy() for d in each]
        found[f"{name}.weight"] = [row.astype(np.float32).astype(np.float64) for row in rows]
        starts[f"{name}.weight"] = stored[f"{name}.weight"].double().numpy()
    return found, starts


@pytest.mark.parametrize(("method", "count", "options", "function"), CASES)
def test_adapter_is_the_best_approximation_of_the_methods_task_vector(
    tmp_path, demo_base, adapters, method, count, options, function
):
    paths, out = adapters[:count], tmp_path / "out"
    record = merged(out, method, demo_base, paths, AdapterOutput(rank=RANK), **options)
    found, (moves, starts) = deltas(demo_base, out), task_vectors(demo_base, paths)
    names = {name.removesuffix(".weight") for name in moves}
    assert found.keys() == names and record["adapter"]["exact"] is False
    for name in [next(n for n in sorted(moves) if end in n) for end in ("q_proj", "up_proj")]:
        base = starts[name]
        exact = np.reshape(function(moves[name], base, name), base.shape)
        values = np.linalg.svd(exact, compute_uv=False)
        least = np.sqrt((values[RANK:] ** 2).sum())
        size = np.linalg.norm(exact)
        error = np.linalg.norm(found[name.removesuffix(".weight")].numpy() - exact)
        # Values are rounded to float32 before a method of values sees them.
        assert error == pytest.approx(least, rel=1e-4, abs=3e-5 * size), name
        row = record["adapter"]["tensors"][name]
        assert row["relative_error"] == pytest.approx(
            least / size if size else 0, rel=1e-4, abs=3e-5
        )


KEPT = {
    "ties": (lambda d, n: merging.trimmed(d, merging.threshold([d], 0.4)[1]), ""),
    "breadcrumbs": (lambda d, n: crumbs([d], 0.4, 0.1)[0], "gamma: 0.1"),
    "breadcrumbs_ties": (lambda d, n: crumbs([d], 0.4, 0.1)[0], "gamma: 0.1"),
    "della_linear": (lambda d, n: by_rank([d], 0.4, 0.15, n)[0], "rescale_norm: l1"),
}


@pytest.mark.parametrize("method", KEPT)
def test_adapter_by_mergekits_yaml_has_the_sum_of_magnitudes_restored(
    tmp_path, demo_base, adapters, method
):
    function, more = KEPT[method]
    model = {"model": f"{demo_base}+{adapters[0]}", "parameters": {"weight": 1.0}}
    file = tmp_path / "merge.yaml"
    file.write_text(
        f"merge_method: {method}\nbase_model: {demo_base}\nmodels: [{json.dumps(model)}]\n"
        f"parameters: {{density: 0.4, rescale: true, {more}}}\n"
    )
    request = replace(read_mergekit(file), output=AdapterOutput(energy=1.0))
    merge_models(request, [place(adapters[0])], demo_base, tmp_path / "out")
    found, (moves, _) = deltas(demo_base, tmp_path / "out"), task_vectors(demo_base, adapters[:1])
    for name, (delta,) in moves.items():
        kept = np.reshape(function(delta, name), delta.shape) != 0
        wanted = np.where(kept, delta, 0) * np.abs(delta).sum() / np.abs(delta[kept]).sum()
        mine = found[name.removesuffix(".weight")].numpy()
        assert np.linalg.norm(mine - wanted) <= 1e-5 * np.linalg.norm(wanted), name
