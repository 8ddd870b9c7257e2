"""Thresholds of merges against sorting, wherever the sample says they are."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from raylab.errors import NonFiniteError
from raylab.merge import trim as trimming
from raylab.merge.backend import CPU
from raylab.merge.inputs import plan_merge
from raylab.merge.magnitude_counts import tally
from raylab.merge.model_rows import ModelRows
from raylab.merge.torch_backend import torch_backend
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.spec.merges import request_merge
from raylab.store.references import ModelLocation
from raylab.weights.row_tiles import Workers
from tests.oracles import merging as oracle
from tests.oracles.norms import bits_of
from tests.reduce.arrays import arrays

QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DENSITIES = [1e-6, 0.01, 0.2, 0.29, 0.5, 0.57, 1.0]


@pytest.fixture(autouse=True)
def small_models_are_sampled(monkeypatch):
    monkeypatch.setattr(trimming, "_SMALL", 0)


def saved(directory, deltas):
    """A float32 model whose base is zero, so that its values are its task vector."""
    directory.mkdir(exist_ok=True)
    tensors = {f"t{i}": torch.from_numpy(values) for i, values in enumerate(deltas)}
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return directory


def planned(folder, models, densities, scope="global"):
    paths = [saved(folder / f"m{i}", deltas) for i, deltas in enumerate(models)]
    base = saved(folder / "base", [np.zeros_like(values) for values in models[0]])
    names = [str(path) for path in paths]
    request = request_merge("ties", names, base=str(base), density=densities, scope=scope)
    return plan_merge(request, [ModelLocation(checkpoint=path) for path in paths], base)


def trims_of(plan, threads=2, backend=CPU):
    with Workers(threads) as workers:
        return trimming.trims_of(ModelRows(plan, backend), workers)


def fields(trim):
    return trim.num_keep, trim.threshold, trim.at_or_above


def sorted_out(deltas, density):
    keep, limit = oracle.threshold(deltas, density)
    return keep, limit, sum(int((np.abs(values) >= limit).sum()) for values in deltas)


@pytest.mark.parametrize("backend", [CPU, torch_backend(torch.device("cpu"))])
@pytest.mark.parametrize("threads", [1, 3])
@QUICK
@given(tensors=st.lists(arrays(1, 400), min_size=1, max_size=4), density=st.sampled_from(DENSITIES))
def test_trims_any_values_are_those_of_sorting(tmp_path, backend, threads, tensors, density):
    others = [values[::-1] * np.float32(0.5) for values in tensors]
    models = [tensors, others]
    found = trims_of(planned(tmp_path, models, [density, 0.3]), threads, backend)
    for deltas, trims, kept in zip(models, found, [density, 0.3], strict=True):
        assert {fields(trim) for trim in trims.values()} == {sorted_out(deltas, kept)}
    per_tensor = trims_of(planned(tmp_path, models, [density, 0.3], "tensor"), threads, backend)
    for i, values in enumerate(tensors):
        assert fields(per_tensor[0][f"t{i}"]) == sorted_out([values], density)


@pytest.mark.parametrize("buckets", [None, (5, 5), (0, 2), (32000, 32001), (0x3A80, 0x3A80)])
def test_trims_wrong_sample_changes_nothing(tmp_path, monkeypatch, buckets):
    deltas = [np.random.default_rng(1).standard_normal((40, 30)).astype(np.float32) * 1e-3]
    plan = planned(tmp_path, [deltas], 0.2)
    range_before = buckets and trimming._Range(buckets[0] << 16, (buckets[1] + 1 << 16) - 1, 0)
    monkeypatch.setattr(trimming, "foreseen_range", lambda counts, density: range_before)
    assert fields(trims_of(plan)[0]["t0"]) == sorted_out(deltas, 0.2)


@pytest.mark.parametrize(("density", "limit"), [(0.34, 4.0), (0.67, 2.0), (1.0, 1.0)])
def test_trims_threshold_beside_the_foreseen_bucket_is_found(tmp_path, monkeypatch, density, limit):
    deltas = [np.float32([1, 4, -2])]
    plan = planned(tmp_path, [deltas], density)
    bucket = bits_of(2.0) >> 16
    foreseen = trimming._Range(bucket << 16, (bucket + 1 << 16) - 1, 0)
    monkeypatch.setattr(trimming, "foreseen_range", lambda counts, density: foreseen)
    assert trims_of(plan)[0]["t0"].threshold == limit


@pytest.mark.parametrize("density", [0.01, 0.2, 0.5, 0.999, 1.0])
def test_foreseen_range_large_sample_has_the_true_threshold_in_few_buckets(density):
    random = np.random.default_rng(4)
    counts = np.zeros((1 << 15) + 1, np.int64)
    tally(random.standard_normal(10**6).astype(np.float32), 0, 2**31 - 1, 16, counts)
    whole = random.standard_normal(10**6).astype(np.float32)
    within = trimming.foreseen_range(counts, density)
    _, limit = oracle.threshold([whole], density)
    if density < 0.999:
        assert within.first <= bits_of(limit) <= within.last
        assert within.shift == 0
    assert within is None or within.size <= 32 << 16


def test_trims_model_is_read_once_where_the_sample_was_right(tmp_path, monkeypatch):
    values = np.random.default_rng(2).choice(np.float32([0.5, 1, 1.001, 2]), (4096, 64))
    deltas = [values]
    plan = planned(tmp_path, [deltas], 0.5)
    passes = passes_of(monkeypatch)
    assert fields(trims_of(plan)[0]["t0"]) == sorted_out(deltas, 0.5)
    assert len(passes) == 1
    ((within,),) = passes
    assert within.first < within.last


def passes_of(monkeypatch):
    """The ranges of each pass over all rows, as they come."""
    passes, count = [], trimming._count

    def counted(*arguments):
        if len(arguments) > 4:
            passes.append(list(arguments[2].values()))
        return count(*arguments)

    monkeypatch.setattr(trimming, "_count", counted)
    return passes


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("density", [0.45, 0.55])
def test_trims_of_many_ties_count_one_magnitude(tmp_path, monkeypatch, scope, density):
    values = np.random.default_rng(5).choice(np.float32([0, 0.5, -0.5, 1]), (4096, 64))
    passes = passes_of(monkeypatch)
    trims = trims_of(planned(tmp_path, [[values]], density, scope))
    assert fields(trims[0]["t0"]) == sorted_out([values], density)
    ((within,),) = passes
    assert within.first == within.last == bits_of(0.5)


@QUICK
@given(values=arrays(1, 400), density=st.sampled_from(DENSITIES))
def test_trims_wrong_guess_changes_nothing(tmp_path, values, density):
    with pytest.MonkeyPatch.context() as patch:
        # Whatever magnitude is guessed is taken for one that ties.
        patch.setattr(trimming, "margin", lambda share, size: (np.inf, -np.inf))
        assert fields(trims_of(planned(tmp_path, [[values]], density))[0]["t0"]) == sorted_out(
            [values], density
        )


def test_trims_are_those_of_the_reduction(tmp_path):
    random = np.random.default_rng(3)
    deltas = [random.standard_normal((50, 40)).astype(np.float32) for _ in range(3)]
    plan = planned(tmp_path, [deltas], 0.37)
    places = {
        "m": ModelLocation(checkpoint=tmp_path / "m0", base=tmp_path / "base"),
        "base": ModelLocation(),
    }
    job = Job(places, (Pair("p", "m", "base"),), tmp_path / "base")
    (row,) = reduce_pairs(job, [0.37], InProcess()).densities
    trim = trims_of(plan)[0]["t0"]
    assert fields(trim) == (row["num_keep"], row["threshold"], row["at_or_above"])


def test_trims_nan_names_model_and_tensor(tmp_path):
    deltas = [np.ones(5, np.float32), np.float32([1, np.nan])]
    with pytest.raises(NonFiniteError, match=r"m0: t1"):
        trims_of(planned(tmp_path, [deltas], 0.2))


@QUICK
@given(arrays(), st.data())
def test_tally_any_range_counts_each_step(values, data):
    bits = [bits_of(value) for value in values.tolist()]
    ends = st.sampled_from([0, 0x7F7FFFFF, 0x7FFFFFFF, *bits])
    first, last = sorted([data.draw(ends), data.draw(ends)])
    shift = data.draw(st.integers(16, 20))
    counts = np.zeros(((last - first) >> shift) + 2, np.int64)
    counts[-1] = 7
    tally(values, first, last, shift, counts)
    assert counts[-1] == 7 + sum(b > last for b in bits)
    expected = [0] * (len(counts) - 1)
    for b in bits:
        if first <= b <= last:
            expected[(b - first) >> shift] += 1
    assert counts[:-1].tolist() == expected
