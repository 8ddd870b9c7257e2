"""Spectra of adapters against numpy's singular values of the full delta in float64."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from raylab.errors import NonFiniteError
from raylab.reduce.spectra import effective_rank, shares, singular_values, spectra_of
from raylab.store.references import ModelLocation
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import to_table
from raylab.weights import Checkpoint

QUICK = settings(max_examples=60, deadline=None)
NAME = "model.layers.0.self_attn.q_proj"
TINIEST = float(np.finfo(np.float32).tiny)


def full(terms):
    """The delta in float64, one outer product after another."""
    total = 0.0
    for a, b, scale in terms:
        a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        for index in range(a.shape[0]):
            total = total + scale * np.outer(b[:, index], a[index])
    return total


def size(terms):
    """An upper bound of the delta's size, however much of it cancels."""
    return sum(
        abs(scale) * np.linalg.norm(np.float64(b), axis=0) @ np.linalg.norm(np.float64(a), axis=1)
        for a, b, scale in terms
    )


def entropy_rank(values):
    """Roy and Vetterli's definition, one value after another."""
    parts = [value / math.fsum(values) for value in values if value > 0]
    return math.exp(-math.fsum(part * math.log(part) for part in parts))


@st.composite
def chains(draw):
    """One to three terms of one shape: ordinary, zero, repeated, rank-deficient, far apart."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    terms = []
    for _ in range(draw(st.integers(1, 3))):
        rank = draw(st.integers(1, 6))
        a = random.standard_normal((rank, columns)).astype(np.float32)
        b = random.standard_normal((rows, rank)).astype(np.float32)
        kind = draw(st.sampled_from(["plain", "zero B", "twin rows", "unbalanced", "uneven"]))
        if kind == "zero B":
            b[:] = 0
        if kind == "twin rows":
            a[:] = a[0]
        if kind == "unbalanced":
            a, b = a * np.float32(1e-25), b * np.float32(1e25)
        if kind == "uneven":
            a *= np.float32(10) ** random.integers(-12, 12, (rank, 1))
        exponent = draw(st.integers(-60, 60))
        terms.append((a, b, draw(st.floats(0.5, 2)) * 10.0**exponent))
    return terms


def tensors(terms):
    return [(torch.from_numpy(a), torch.from_numpy(b), scale) for a, b, scale in terms]


@QUICK
@given(chains())
def test_singular_values_any_chain_equal_those_of_the_full_delta(terms):
    found = singular_values(tensors(terms))
    rows, columns = terms[0][1].shape[0], terms[0][0].shape[1]
    rank = min(rows, columns, sum(a.shape[0] for a, _, _ in terms))
    assert len(found) == rank
    assert found == sorted(found, reverse=True)
    expected = np.linalg.svd(full(terms), compute_uv=False)[:rank]
    assert np.abs(found - expected).max() <= 1e-13 * size(terms)


@QUICK
@given(chains())
def test_shares_and_effective_rank_any_chain_follow_their_definitions(terms):
    values = singular_values(tensors(terms))
    if values[0] == 0:
        assert (shares(values), effective_rank(values)) == (None, 0.0)
        return
    squares = [(value / values[0]) ** 2 for value in values]
    expected = [math.fsum(squares[: k + 1]) / math.fsum(squares) for k in range(len(squares))]
    assert shares(values) == pytest.approx(expected, rel=1e-12)
    assert shares(values)[-1] == 1.0
    assert effective_rank(values) == pytest.approx(entropy_rank(values), rel=1e-12)
    assert 1 - 1e-12 <= effective_rank(values) <= len(values) + 1e-9


@pytest.mark.parametrize("scale", [1e-300, TINIEST, 1.0, 1e38, 1e150])
def test_singular_values_scale_with_the_delta(scale):
    random = np.random.default_rng(0)
    a, b = random.standard_normal((4, 30)), random.standard_normal((20, 4))
    a, b = a.astype(np.float32), b.astype(np.float32)
    one = singular_values(tensors([(a, b, 1.0)]))
    found = singular_values(tensors([(a, b, scale)]))
    assert found == pytest.approx([scale * value for value in one], rel=1e-12, abs=0)
    assert effective_rank(found) == pytest.approx(effective_rank(one), rel=1e-12)


def test_effective_rank_of_k_equal_values_is_k():
    assert effective_rank([3.0] * 5 + [0.0] * 3) == pytest.approx(5, rel=1e-14)
    assert shares([3.0] * 4) == [0.25, 0.5, 0.75, 1.0]


def test_chain_that_cancels_is_a_zero_delta():
    random = np.random.default_rng(1)
    a = random.standard_normal((8, 300)).astype(np.float32)
    b = random.standard_normal((200, 8)).astype(np.float32)
    for opposite in ((-a, b, 16.0), (a, b, -16.0)):
        assert singular_values(tensors([(a, b, 16.0), opposite])) == [0.0] * 16
    assert np.count_nonzero(singular_values(tensors([(a, b, 16.0), (-a[:5], b[:, :5], 16.0)]))) == 3


def test_factors_that_repeat_have_the_rank_of_what_they_span():
    random = np.random.default_rng(2)
    a = random.standard_normal((8, 300)).astype(np.float32)
    b = random.standard_normal((200, 8)).astype(np.float32)
    a[4:] = a[:4]
    assert np.count_nonzero(singular_values(tensors([(a, b, 2.0)]))) == 4


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_factors_not_finite_are_refused(wrong):
    a, b = torch.ones(2, 5), torch.ones(4, 2)
    a[1, 3] = wrong
    with pytest.raises(NonFiniteError):
        singular_values([(a, b, 1.0)])
    with pytest.raises(NonFiniteError):
        singular_values([(torch.ones(2, 5), b, wrong)])


def test_singular_values_any_threads_have_the_same_bits():
    random = np.random.default_rng(3)
    terms = tensors(
        (
            random.standard_normal((16, 700)).astype(np.float32),
            random.standard_normal((900, 16)).astype(np.float32),
            2.0,
        )
        for _ in range(2)
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = singular_values(terms)
        torch.set_num_threads(4)
        assert singular_values(terms) == expected
        with ThreadPoolExecutor(4) as pool:
            assert all(found == expected for found in pool.map(singular_values, [terms] * 8))
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def write_adapter(directory, factors, alpha, extra=None):
    """A PEFT adapter of `factors`, {module: (A, B)}; DoRA's magnitudes are `extra`."""
    directory.mkdir()
    stored = {}
    for module, (a, b) in factors.items():
        stored[f"base_model.model.{module}.lora_A.weight"] = a
        stored[f"base_model.model.{module}.lora_B.weight"] = b
    rank = a.shape[0]
    stored |= extra or {}
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_dora": bool(extra)}
    save_file(stored, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def factors(seed, rank=4, rows=24, columns=32):
    random = np.random.default_rng(seed)
    a = random.standard_normal((rank, columns)).astype(np.float32)
    return a, random.standard_normal((rows, rank)).astype(np.float32)


def test_rows_of_a_chain_are_those_of_the_summed_delta(tmp_path):
    other = NAME.replace("q_proj", "k_proj")
    old = {NAME: factors(1), other: factors(2)}
    new = {NAME: factors(3)}
    place = ModelLocation(
        (write_adapter(tmp_path / "old", old, 16), write_adapter(tmp_path / "new", new, 8))
    )
    names = [f"{NAME}.weight", f"{other}.weight", "model.norm.weight"]
    rows = spectra_of(place, names)
    assert [row["tensor"] for row in rows] == names[:2]
    chain = [(*old[NAME], 4.0), (*new[NAME], 2.0)]
    expected = np.linalg.svd(full(chain), compute_uv=False)[:8]
    assert rows[0]["singular_values"] == pytest.approx(expected, rel=1e-12)
    assert rows[0]["effective_rank"] == pytest.approx(entropy_rank(expected), rel=1e-12)
    assert [row["rank"] for row in rows] == [8, 4]
    assert {"model", "note", *rows[0]} == set(SCHEMAS["spectra"].names)
    assert to_table("spectra", rows).num_rows == 2


def test_rows_of_an_untrained_adapter_are_zero(tmp_path):
    a, b = factors(4)
    place = ModelLocation((write_adapter(tmp_path / "fresh", {NAME: (a, 0 * b)}, 16),))
    [row] = spectra_of(place, [f"{NAME}.weight"])
    assert row == {
        "tensor": f"{NAME}.weight",
        "rank": 0,
        "singular_values": [0.0] * 4,
        "shares": None,
        "effective_rank": 0.0,
    }


def test_rows_in_parts_are_those_of_the_whole(tmp_path):
    modules = [NAME.replace("0", str(layer)) for layer in range(4)]
    place = ModelLocation((write_adapter(tmp_path / "a", {m: factors(5) for m in modules}, 16),))
    names = [f"{module}.weight" for module in modules]
    parts = [row for name in names for row in spectra_of(place, [name])]
    assert parts == spectra_of(place, names)


def test_adapter_not_finite_is_an_error_that_names_the_tensor(tmp_path):
    a, b = factors(6)
    a[0, 0] = math.nan
    place = ModelLocation((write_adapter(tmp_path / "bad", {NAME: (a, b)}, 16),))
    with pytest.raises(NonFiniteError, match=r"layers\.0\.self_attn\.q_proj"):
        spectra_of(place, [f"{NAME}.weight"])


def test_tensor_with_a_part_that_has_no_low_rank_form_has_no_row(tmp_path):
    other = NAME.replace("q_proj", "k_proj")
    old = write_adapter(tmp_path / "old", {NAME: factors(1), other: factors(2)}, 16)
    magnitude = {f"base_model.model.{NAME}.lora_magnitude_vector": np.ones(24, np.float32)}
    new = write_adapter(tmp_path / "new", {NAME: factors(3)}, 16, magnitude)
    (tmp_path / "base").mkdir()
    weights = {f"{module}.weight": np.ones((24, 32), np.float32) for module in (NAME, other)}
    save_file(weights, tmp_path / "base" / "model.safetensors")
    (tmp_path / "base" / "config.json").write_text("{}")
    names = list(weights)
    rows = spectra_of(ModelLocation((old, new)), names, Checkpoint(tmp_path / "base"))
    assert rows == spectra_of(ModelLocation((old,)), names[1:])
    assert len(rows) == 1


def test_checkpoint_has_no_rows(tmp_path):
    save_file({"x.weight": np.ones((2, 2), np.float32)}, tmp_path / "model.safetensors")
    assert spectra_of(ModelLocation(checkpoint=tmp_path), ["x.weight"]) == []
