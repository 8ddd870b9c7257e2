"""Decompositions of base tensors: numpy's SVD is the oracle; what a store keeps of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raylab.reduce import decomposition
from raylab.reduce.decomposition import ShortSide, decomposition_of, packed, unpacked
from raylab.store.filesystem import DECOMPOSED, Store
from raylab.weights import Checkpoint
from tests.reduce.models import Q0, random_weights, write_checkpoint


@pytest.fixture
def counted(monkeypatch):
    """The tensors that were decomposed."""
    made, decompose = [], ShortSide.decomposed

    def decomposed(self, name):
        made.append(name)
        return decompose(self, name)

    monkeypatch.setattr(ShortSide, "decomposed", decomposed)
    return made


def side_of(shape, dtype=torch.bfloat16, seed=0):
    draws = torch.Generator().manual_seed(seed)
    matrix = torch.randn(shape, generator=draws).to(dtype)
    return matrix, ShortSide(matrix.T if shape[0] > shape[1] else matrix)


@pytest.mark.parametrize("shape", [(30, 30), (20, 70), (70, 20), (1, 9), (9, 1)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_decomposed_has_the_singular_values_and_vectors_of_numpy(shape, dtype, monkeypatch):
    monkeypatch.setattr(decomposition, "_BLOCK_ENTRIES", 64)
    matrix, side = side_of(shape, dtype)
    found = side.decomposed("a tensor")
    u, s, vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    short = vt.T if shape[0] > shape[1] else u
    assert found.squares.sqrt().numpy() == pytest.approx(s, rel=1e-10)
    assert np.abs(short.T @ found.vectors.numpy()) == pytest.approx(np.eye(len(s)), abs=1e-8)
    assert found.rank == len(s)
    right = torch.from_numpy(np.random.default_rng(0).standard_normal((max(shape), 3)))
    wide = matrix.T if shape[0] > shape[1] else matrix
    assert side.times(right).numpy() == pytest.approx(wide.double().numpy() @ right.numpy())


def test_rank_counts_what_is_not_zero():
    outer = torch.outer(torch.arange(1.0, 9.0), torch.ones(5))
    assert ShortSide(outer.T).decomposed("one").rank == 1
    assert ShortSide(torch.zeros(3, 4)).decomposed("none").rank == 0


def test_decomposition_is_made_once_for_each_base_model_and_tensor(tmp_path, counted):
    store, (_, side) = Store(str(tmp_path)), side_of((12, 20))
    first = decomposition_of(side, "a", store, "one")
    again = decomposition_of(side, "a", store, "one")
    assert counted == ["a"]
    assert torch.equal(first.squares, again.squares)
    assert torch.equal(first.vectors, again.vectors)
    decomposition_of(side, "b", store, "one")
    decomposition_of(side, "a", store, "other")
    assert counted == ["a", "b", "a"]
    assert len(list(store.files(DECOMPOSED))) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_decomposition_that_is_damaged_is_made_again(tmp_path, counted, damage):
    store, (_, side) = Store(str(tmp_path)), side_of((12, 20))
    first = decomposition_of(side, "a", store, "one")
    (key,) = store.files(DECOMPOSED)
    data = bytearray(store.read(f"{DECOMPOSED}/{key}"))
    if damage == "flipped":
        data[-5] ^= 1
    damaged = {"cut": data[:-9], "flipped": data, "empty": b"", "text": b"x" * 99}[damage]
    store.write(f"{DECOMPOSED}/{key}", bytes(damaged))
    again = decomposition_of(side, "a", store, "one")
    assert counted == ["a", "a"]
    assert torch.equal(first.vectors, again.vectors)
    decomposition_of(side, "a", store, "one")
    assert counted == ["a", "a"]


def test_unpacked_of_another_tensor_or_shape_is_none():
    _, side = side_of((6, 9))
    data = packed(side.decomposed("a"), "a")
    assert unpacked(data, "a", 6) is not None
    assert unpacked(data, "b", 6) is None
    assert unpacked(data, "a", 9) is None


def test_short_side_of_a_tall_tensor_is_its_transpose(tmp_path):
    weights = random_weights(0)
    base = Checkpoint(write_checkpoint(tmp_path / "base", weights))
    assert torch.equal(ShortSide.of(base, Q0).matrix, weights[Q0].T)
