"""What a reduction tells of single models: spectra, chains and audits, whole and in shards."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from raylab.reduce.job import InProcess, Job
from raylab.reduce.model_details import Details, detail, detail_rows
from raylab.reduce.passes import detail_models, reduce_pairs
from raylab.reduce.row_block import BASE, Pair
from raylab.spec.study import Quantization
from raylab.store.references import ModelLocation
from raylab.store.tables import to_table
from raylab.weights import Checkpoint
from tests.reduce.models import (
    LINEAR,
    Q0,
    Q10,
    UP0,
    cut_tiles,
    deltas_of,
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
)

NF4 = Quantization(compute_dtype="float32")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    cut_tiles(monkeypatch, 24 * 23)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(places, base, factors): two adapters, a chain of them, a checkpoint and the base model."""
    path = tmp_path_factory.mktemp("details")
    write_checkpoint(path / "base", random_weights(0))
    write_checkpoint(path / "whole", random_weights(1))
    factors = {"first": random_factors(1, (Q10, Q0)), "second": random_factors(2, (UP0, Q0))}
    for name, parts in factors.items():
        write_adapter(path / name, parts)
    places = {name: ModelLocation((path / name,)) for name in factors}
    places |= {
        "chain": ModelLocation((path / "first", path / "second")),
        "whole": ModelLocation(checkpoint=path / "whole"),
        "base": ModelLocation(),
    }
    return places, path / "base", factors


def job_of(made, quantization=NF4, **changes):
    places, base, _ = made
    vectors = tuple(key for key in places if key != "base")
    job = Job(places, (), base, vectors=vectors, quantization=quantization)
    return replace(job, **changes)


def rows_of(made, shards=3, execute=None, **changes):
    return detail_models(job_of(made, **changes), execute or InProcess(), shards)


def test_spectra_are_the_singular_values_of_the_deltas_in_the_order_of_layers(made):
    _, _, factors = made
    rows = rows_of(made).spectra
    deltas = {name: deltas_of(parts) for name, parts in factors.items()}
    both = {n: deltas["first"].get(n, 0) + deltas["second"].get(n, 0) for n in LINEAR}
    expected = {"first": deltas["first"], "second": deltas["second"], "chain": both}
    order = {"first": [Q0, Q10], "second": [UP0, Q0], "chain": [UP0, Q0, Q10]}
    assert {key: [r["tensor"] for r in rows if r["model"] == key] for key in order} == order
    assert {row["model"] for row in rows} == set(order)
    for row in rows:
        exact = np.linalg.svd(expected[row["model"]][row["tensor"]].numpy(), compute_uv=False)
        found = np.array(row["singular_values"])
        np.testing.assert_allclose(found, exact[: found.size], rtol=1e-9, atol=1e-12)
        assert exact[found.size :].max(initial=0) < 1e-12
    assert to_table("spectra", rows).num_rows == len(rows)


def test_chains_split_the_last_adapter_from_all_before_it(made):
    _, _, factors = made
    rows = rows_of(made).chains
    assert {row["model"] for row in rows} == {"chain"}
    first, second = (deltas_of(factors[name]) for name in ("first", "second"))
    parent, child = (
        np.concatenate([(part[n] if n in part else 0 * both).numpy().ravel() for n, both in
                        ((n, first.get(n, second.get(n))) for n in LINEAR)])
        for part in (first, second)
    )  # fmt: skip
    [row] = [row for row in rows if row["level"] == "all"]
    lengths = [np.linalg.norm(v) for v in (parent, child, parent + child)]
    assert [row[k] for k in ("l2_parent", "l2_child", "l2")] == pytest.approx(lengths, rel=1e-6)
    assert row["cosine"] == pytest.approx(parent @ child / lengths[0] / lengths[1], abs=1e-6)
    tensors = [row["key"] for row in rows if row["level"] == "tensor"]
    assert tensors == [UP0, Q0, Q10]
    assert to_table("chains", rows).num_rows == len(rows)


def test_whole_of_a_chain_is_the_norm_of_its_comparison_with_the_base(made):
    places, base, _ = made
    pair = Pair("chain~base", "chain", "base")
    norms = reduce_pairs(Job(places, (pair,), base), (1.0,), InProcess()).norms
    [l2] = [row["l2"] for row in norms if row["level"] == "all"]
    [row] = [row for row in rows_of(made).chains if row["level"] == "all"]
    assert row["l2"] == pytest.approx(l2, rel=1e-13)


def test_audit_tells_what_bf16_loses_of_the_last_adapter(made):
    _, _, factors = made
    rows = rows_of(made).audit
    assert {row["model"] for row in rows} == {"first", "second", "chain"}
    weights = random_weights(0)
    for row in rows:
        if row["level"] != "tensor" or row["model"] == "chain":
            continue
        a, b = factors[row["model"]][row["key"]]
        delta, start = 2 * (b @ a), weights[row["key"]]
        error = (start + delta).bfloat16().double() - start.double() - delta.double()
        expected = float(error.norm() / delta.double().norm())
        assert row["merged_error"] == pytest.approx(expected, rel=1e-3)
        assert row["quantization_noise"] > 0.01
    [of_chain] = [r for r in rows if (r["model"], r["level"]) == ("chain", "all")]
    [of_second] = [r for r in rows if (r["model"], r["level"]) == ("second", "all")]
    assert of_chain["l2"] == pytest.approx(of_second["l2"], rel=1e-6)
    assert of_chain["merged_error"] != of_second["merged_error"]
    assert to_table("audit", rows).num_rows == len(rows)


def test_audit_without_quantization_has_no_dequantized_columns(made):
    for row in rows_of(made, quantization=None).audit:
        assert row["dequantized_error"] is row["quantization_noise"] is None
        assert row["merged_error"] > 0


def test_without_base_model_there_are_spectra_and_chains_but_no_audit(made):
    places, _, _ = made
    trained = {key: places[key] for key in ("first", "chain")}
    rows = rows_of(made, places=trained, vectors=tuple(trained), base=None)
    assert len(rows.spectra) == 5
    assert len(rows.chains) > 0
    assert rows.audit == []


def test_models_without_adapters_have_no_details(made):
    rows = rows_of(made, vectors=("whole",))
    assert (rows.spectra, rows.chains, rows.audit) == ([], [], [])


@pytest.mark.parametrize("shards", [1, 2, 7])
@pytest.mark.parametrize("threads", [1, 3])
def test_details_any_shards_threads_and_order_have_the_same_bits(made, shards, threads):
    expected = rows_of(made, shards=3)
    inside = InProcess()

    def shuffled(job, calls):
        results = list(inside(job, calls))
        random.Random(shards).shuffle(results)
        return results

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = rows_of(made, shards=shards, execute=shuffled, threads=threads)
    finally:
        torch.set_num_threads(before)
    assert found == expected


def test_parts_of_disjoint_tensors_add_up_to_the_whole(made):
    places, base, _ = made
    weights = Checkpoint(base)
    whole = detail(places, LINEAR, weights, NF4)
    total = Details()
    for name in reversed(LINEAR):
        total.merge(detail(places, [name], weights, NF4))
    total.merge(Details())
    assert detail_rows(total) == detail_rows(whole)
    assert BASE not in whole.audits
