"""Deltas against the base model's directions: numpy's SVD of W and of W + delta is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raylab.errors import NonFiniteError
from raylab.reduce import leading_vectors
from raylab.reduce.decomposition import ShortSide
from raylab.reduce.intruders import base_sums
from raylab.reduce.low_rank import directions_of_factors
from raylab.spec.spectra import BaseDirections
from tests.oracles.directions import against_base

QUICK = settings(max_examples=80, deadline=None)


def measured(weight, terms, top=10, epsilon=0.5):
    matrix = torch.from_numpy(np.ascontiguousarray(weight))
    side = ShortSide(matrix.T if matrix.shape[0] > matrix.shape[1] else matrix)
    delta = directions_of_factors(terms, "a tensor")
    asked = BaseDirections(top=top, epsilon=epsilon)
    return base_sums(delta, side, side.decomposed("a tensor"), asked)


def full(terms):
    return sum(scale * (b.double().numpy() @ a.double().numpy()) for a, b, scale in terms)


def factors(random, shape, rank, size):
    a = torch.from_numpy(random.standard_normal((rank, shape[1])).astype(np.float32))
    b = torch.from_numpy(random.standard_normal((shape[0], rank)).astype(np.float32))
    return a, b * size, 2.0


def weights(random, shape, decay=1.0):
    """Singular values that fall as those of trained weights do, and no two alike."""
    side = min(shape)
    left = np.linalg.qr(random.standard_normal((shape[0], side)))[0]
    right = np.linalg.qr(random.standard_normal((shape[1], side)))[0]
    values = 3.0 * (1 + np.arange(side)) ** -decay * (1 + 0.1 * random.random(side))
    return ((left * np.sort(values)[::-1]) @ right.T).astype(np.float32)


def check(found, expected, close=1e-9):
    assert found.energy == pytest.approx(expected["energy"], rel=1e-12)
    assert found.left == pytest.approx(expected["left"], rel=close, abs=1e-12 * found.energy)
    assert found.right == pytest.approx(expected["right"], rel=close, abs=1e-12 * found.energy)
    assert (found.directions, found.intruders) == (expected["directions"], expected["intruders"])


@pytest.mark.parametrize("size", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("shape", [(48, 48), (40, 96), (96, 40)])
def test_base_sums_square_wide_and_tall_are_those_of_numpy(shape, size):
    random = np.random.default_rng(len(str(shape)))
    weight, terms = weights(random, shape), [factors(random, shape, 4, size)]
    expected = against_base(weight, full(terms), 10, 0.5)
    assert expected["margin"] > 1e-6
    check(measured(weight, terms), expected)


def test_base_sums_of_deltas_that_grow_have_more_intruders():
    random = np.random.default_rng(1)
    shape = (120, 160)
    weight, term = weights(random, shape), factors(random, shape, 4, 1.0)
    counts = [
        measured(weight, [(term[0], term[1] * size, term[2])]).intruders
        for size in (1e-4, 0.1, 10.0)
    ]
    assert counts[0] == 0 < counts[1] <= counts[2] and counts[2] >= 4


@st.composite
def cases(draw):
    """Any shape down to one row, ranks beyond a side, zero factors, W that lacks directions."""
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    shape = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    weight = weights(random, shape, draw(st.sampled_from([0.3, 1.0, 2.0])))
    kind = draw(st.sampled_from(["whole", "lacks directions", "zero"]))
    if kind != "whole":
        kept = 0 if kind == "zero" else draw(st.integers(0, min(shape)))
        u, s, vt = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
        weight = (u[:, :kept] * s[:kept]) @ vt[:kept]
    terms = []
    for _ in range(draw(st.integers(1, 3))):
        a, b, scale = factors(random, shape, draw(st.integers(1, 30)), draw(st.floats(1e-3, 3)))
        terms.append((a, torch.zeros_like(b) if draw(st.booleans()) else b, scale))
    top, epsilon = draw(st.integers(1, 30)), draw(st.sampled_from([0.1, 0.5, 0.9]))
    return weight, terms, top, epsilon


@QUICK
@given(cases())
def test_base_sums_of_any_shape_and_rank_are_those_of_numpy(case):
    weight, terms, top, epsilon = case
    expected = against_base(weight, full(terms), top, epsilon)
    # A cosine at epsilon itself may be counted either way.
    assume(expected["margin"] > 1e-6)
    check(measured(weight, terms, top, epsilon), expected, close=1e-6)


def test_base_sums_of_a_delta_that_cancels_are_those_of_zero():
    random = np.random.default_rng(3)
    weight, (a, b, scale) = weights(random, (20, 30)), factors(random, (20, 30), 3, 1.0)
    found = measured(weight, [(a, b, scale), (a, -b, scale)])
    assert (found.energy, found.left, found.right, found.intruders) == (0.0, 0.0, 0.0, 0)
    assert found.directions == 10


def test_base_sums_of_a_delta_within_the_top_directions_has_all_of_its_energy_there():
    random = np.random.default_rng(4)
    weight = weights(random, (30, 50))
    u, _, vt = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    a, b = (torch.from_numpy(x.copy()) for x in (vt[3:5], u[:, 7:9]))
    found = measured(weight, [(a, b, 0.5)])
    assert found.left == pytest.approx(found.energy, rel=1e-9)
    assert found.right == pytest.approx(found.energy, rel=1e-9)
    assert measured(weight, [(a, b, 0.5)], top=3).left == pytest.approx(0, abs=1e-12)


def test_decomposed_of_weights_that_are_not_finite_is_refused():
    matrix = torch.ones(3, 4)
    matrix[1, 2] = torch.inf
    with pytest.raises(NonFiniteError, match="q_proj"):
        ShortSide(matrix).decomposed("q_proj")


@pytest.fixture
def large(monkeypatch):
    """Matrices of this test are large ones; whether each was solved without being formed."""
    monkeypatch.setattr(leading_vectors, "_DENSE", 16)
    monkeypatch.setattr(leading_vectors, "_KEPT", 4)
    solve, solved = leading_vectors._in_krylov_space, []

    def solve_and_tell(*arguments):
        found = solve(*arguments)
        solved.append(found is not None)
        return found

    monkeypatch.setattr(leading_vectors, "_in_krylov_space", solve_and_tell)
    return solved


@pytest.mark.parametrize("decay", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(160, 160), (150, 240), (240, 150)])
def test_base_sums_of_large_matrices_are_those_of_numpy(shape, decay, large):
    random = np.random.default_rng(len(str(shape)) + int(10 * decay))
    weight = weights(random, shape, decay)
    for size in (0.001, 0.05, 1.0):
        terms = [factors(random, shape, 3, size)]
        expected = against_base(weight, full(terms), 10, 0.5)
        if expected["margin"] > 1e-6:
            check(measured(weight, terms), expected)
    assert any(large)


@given(st.integers(0, 2**20), st.integers(1, 6), st.sampled_from([0.0, 1e-14, 1e-3, 1.0]))
@settings(max_examples=40, deadline=None)
def test_leading_vectors_in_the_krylov_space_are_those_of_the_whole_matrix(seed, width, size):
    random = np.random.default_rng(seed)
    diagonal = np.sort(random.random(300) ** 3)[::-1].copy()
    factor = size * random.standard_normal((300, width))
    factor[:, random.random(width) < 0.3] = 0
    core = random.standard_normal((width, width))
    core = core + core.T
    expected = np.linalg.eigvalsh(np.diag(diagonal) + factor @ core @ factor.T)[::-1][:5]
    arguments = [torch.from_numpy(x) for x in (diagonal, factor, core)]
    found = leading_vectors._in_krylov_space(*arguments, 5, 5 + width + 20)
    values, vectors = leading_vectors.leading_vectors(*arguments, 5)
    assert np.abs(values.numpy() - expected).max() <= 1e-11 * max(1, abs(expected[0]))
    if found is not None:
        assert np.abs(found[0].numpy() - expected).max() <= 1e-11 * max(1, abs(expected[0]))
        z = found[1].numpy()
        left = diagonal[:, None] * z + factor @ (core @ (factor.T @ z)) - z * found[0].numpy()
        assert np.abs(left).max() <= 1e-10 * max(1, abs(expected[0]))
        assert np.abs(z.T @ z - np.eye(5)).max() <= 1e-10
    assert vectors.shape == (300, 5)
