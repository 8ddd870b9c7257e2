"""Merges by foreseen thresholds are those by counted ones, whatever the sample says."""

import hashlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.errors import NonFiniteError
from raylab.merge import one_pass
from raylab.merge.merge import merge_models
from raylab.merge.one_pass import OnePass, foreseen_threshold
from raylab.merge.trim import trims_together
from raylab.spec.merges import request_merge
from raylab.weights import read_ahead
from tests.merge.models import drawn, made, place, saved
from tests.reduce.arrays import arrays

WRONG = {
    "too large": lambda magnitudes, *_: float(magnitudes.max()),
    "too small": lambda magnitudes, *_: float(magnitudes.min()),
    "zero": lambda *_: 0.0,
    "unforeseen": lambda *_: None,
}


METHODS = {"ties": {}, "breadcrumbs": {"parameters": {"gamma": 0.2}}}


def merged(out, paths, scope, density=0.3, threads=2, method="ties"):
    """The bytes of every file that depends on weights, by name."""
    names = [str(path) for path in paths[1:]]
    asked = {"base": str(paths[0]), "density": density, "scope": scope, **METHODS[method]}
    request = request_merge(method, names, **asked)
    merge_models(
        request, [place(p) for p in paths[1:]], paths[0], out, most_bytes=150, threads=threads
    )
    files = {file.name: file.read_bytes() for file in out.iterdir() if file.suffix != ".md"}
    recorded = json.loads(files["merge.json"])["files"]
    for name in recorded:
        assert recorded[name]["sha256"] == hashlib.sha256(files[name]).hexdigest()
    return files


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("kind", ["normal", "adversarial", "sparse"])
@pytest.mark.parametrize(("method", "threads"), [("ties", 1), ("ties", 3), ("breadcrumbs", 3)])
def test_merge_by_small_samples_has_the_bytes_of_whole_ones(
    tmp_path, monkeypatch, scope, kind, method, threads
):
    *_, paths = made(tmp_path, kind)
    whole = merged(tmp_path / "whole", paths, scope, method=method)
    for size in [(1, 1), (2, 6), (3, 20)]:
        monkeypatch.setattr(one_pass, "_OF_A_TENSOR", size)
        monkeypatch.setattr(one_pass, "_OF_A_MODEL", size)
        found = merged(tmp_path / f"{size}", paths, scope, threads=threads, method=method)
        assert found == whole


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_merge_of_models_that_exceed_memory_has_the_same_bytes(tmp_path, monkeypatch, scope):
    *_, paths = made(tmp_path)
    small = merged(tmp_path / "small", paths, scope)
    monkeypatch.setattr(read_ahead, "_OF_MEMORY", 0)
    assert merged(tmp_path / "large", paths, scope) == small


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_merge_by_wrong_thresholds_is_made_again(
    tmp_path, monkeypatch, scope, wrong, method, dtype
):
    *_, paths = made(tmp_path, dtype=dtype)
    right = merged(tmp_path / "right", paths, scope, method=method)
    again = []
    merge_again = OnePass._again
    monkeypatch.setattr(OnePass, "_again", lambda s, g: again.append(g) or merge_again(s, g))
    monkeypatch.setattr(one_pass, "foreseen_threshold", WRONG[wrong])
    assert merged(tmp_path / "wrong", paths, scope, method=method) == right
    assert bool(again) == (wrong != "unforeseen")


@pytest.mark.parametrize("wrong", ["too large", "too small", "unforeseen"])
def test_merge_counts_only_the_models_whose_thresholds_were_not_foreseen(
    tmp_path, monkeypatch, wrong
):
    *_, paths = made(tmp_path)
    right = merged(tmp_path / "right", paths, "tensor")
    counted, calls = [], []

    def foreseen(*given):
        # Every second call is of the second of two models.
        calls.append(given)
        return WRONG[wrong](*given) if len(calls) % 2 == 0 else foreseen_threshold(*given)

    def together(*given, models):
        found = trims_together(*given, models=models)
        assert found == {i: t for i, t in trims_together(*given).items() if i in models}
        counted.append([*found])
        return found

    monkeypatch.setattr(one_pass, "foreseen_threshold", foreseen)
    monkeypatch.setattr(one_pass, "trims_together", together)
    assert merged(tmp_path / "wrong", paths, "tensor") == right
    assert counted and all(models == [1] for models in counted)


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_merge_where_most_entries_are_unmoved_has_a_threshold_of_zero(tmp_path, scope):
    base = drawn(0)
    moved = {name: values.clone() for name, values in base.items()}
    moved["a.weight"][0, 0] += 1
    paths = [saved(tmp_path / "base", base), saved(tmp_path / "moved", moved)]
    files = merged(tmp_path / "out", paths, scope)
    (row,) = json.loads(files["merge.json"])["models"]
    rows = row["tensors"].values() if scope == "tensor" else [row]
    assert {found["threshold"] for found in rows} == {0.0}
    numel = sum(values.numel() for values in base.values())
    assert sum(found["at_or_above"] for found in rows) == numel
    assert row["kept"] == 1


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_merge_of_nan_names_the_tensor_and_leaves_nothing(tmp_path, scope):
    *_, paths = made(tmp_path)
    broken = drawn(1)
    broken["b.weight"][1, 1] = torch.nan
    paths[1] = saved(tmp_path / "broken", broken)
    with pytest.raises(NonFiniteError, match=r"broken: b\.weight"):
        merged(tmp_path / "out", paths, scope)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_merge_breadcrumbs_in_one_pass_has_the_thresholds_of_two(tmp_path, monkeypatch, scope):
    *_, paths = made(tmp_path)
    one = merged(tmp_path / "one", paths, scope, method="breadcrumbs")
    monkeypatch.setattr("raylab.merge.merge.can_foresee", lambda rows: False)
    assert merged(tmp_path / "two", paths, scope, method="breadcrumbs") == one


@given(arrays(1, 300), st.data())
@settings(max_examples=100, deadline=None)
def test_foreseen_threshold_of_all_entries_is_that_of_sorting(values, data):
    magnitudes = np.abs(values).ravel()
    keep = data.draw(st.integers(1, magnitudes.size))
    expected = np.sort(magnitudes)[::-1][keep - 1]
    assert foreseen_threshold(magnitudes, keep, magnitudes.size) == expected


def test_foreseen_threshold_of_a_sample_is_said_where_many_tie():
    random = np.random.default_rng(0)
    levels = random.permutation(np.repeat(np.float32([0, 1, 2, 3]), 25_000))
    sample, numel = levels[:5000], levels.size
    assert foreseen_threshold(sample, 10_000, numel) == 3
    assert foreseen_threshold(sample, 40_000, numel) == 2
    assert foreseen_threshold(sample, 25_100, numel) is None
    assert foreseen_threshold(random.random(5000, np.float32), 10_000, numel) is None
