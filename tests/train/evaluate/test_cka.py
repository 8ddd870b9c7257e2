"""Linear CKA by unbiased HSIC, against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raylab.train.evaluate.cka import block_hsic, centred_gram, cka, hsic
from tests.oracles.functions import cka_of_blocks, unbiased_hsic


def states_of(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.5


def cka_of(xs, ys):
    """CKA of blocks of states (tokens, width) of two models."""
    pairs = zip(xs, ys, strict=True)
    found = [block_hsic([x[None], y[None]], [(0, 1)], "cpu")[0, 0] for x, y in pairs]
    return cka([list(map(float, block)) for block in found])


@pytest.mark.parametrize("tokens", [4, 5, 30])
def test_hsic_is_the_formula_written_out(tokens):
    x, y = states_of(tokens, 6), states_of(tokens, 9, seed=1)
    found = hsic(centred_gram(x), centred_gram(y))
    assert found == pytest.approx(unbiased_hsic(x.numpy(), y.numpy()), rel=1e-10, abs=1e-12)


def test_hsic_centred_rows_sum_to_zero():
    gram = centred_gram(states_of(12, 5))
    assert gram.sum(1).abs().max() < 1e-12 * gram.abs().max() * 12


def test_cka_of_several_blocks_is_averaged_before_the_quotient():
    xs = [states_of(n, 7, seed=n) for n in (6, 11, 20)]
    ys = [x @ states_of(7, 5, seed=99) + 0.3 * states_of(len(x), 5, seed=len(x) + 1) for x in xs]
    expected = cka_of_blocks([x.numpy() for x in xs], [y.numpy() for y in ys])
    assert cka_of(xs, ys) == pytest.approx(expected, rel=1e-10)
    apart = np.mean([cka_of([x], [y]) for x, y in zip(xs, ys, strict=True)])
    assert abs(cka_of(xs, ys) - apart) > 1e-6


def test_cka_of_equal_states_is_exactly_one():
    xs = [states_of(9, 4), states_of(13, 4, seed=1)]
    assert cka_of(xs, [x.clone() for x in xs]) == 1.0


def test_cka_does_not_see_rotation_scale_and_place():
    x = states_of(25, 6)
    rotation = torch.linalg.qr(states_of(6, 6, seed=3).double())[0]
    assert cka_of([x], [3 * x.double() @ rotation + 7]) == pytest.approx(1.0, rel=1e-9)


def test_cka_of_unrelated_wide_states_is_near_zero():
    values = [
        cka_of([states_of(20, 400, seed=s)], [states_of(20, 400, seed=s + 50)]) for s in range(20)
    ]
    # The biased estimate is near 1 here, since the states are wider than there are tokens.
    assert abs(np.mean(values)) < 0.05


def test_cka_of_states_that_do_not_vary_is_none():
    still = torch.ones(8, 3)
    assert cka_of([still], [states_of(8, 3)]) is None


def test_cka_of_states_that_are_not_finite_is_none():
    x = states_of(8, 3)
    x[2, 1] = float("nan")
    assert cka_of([x], [states_of(8, 3, seed=1)]) is None


def test_cka_of_each_layer_and_pair_is_that_of_two_alone():
    models = [states_of(3, 10, 4, seed=s) for s in range(3)]
    pairs = [(0, 1), (0, 2), (1, 2), (1, 1)]
    together = block_hsic(models, pairs, "cpu")
    for place, (a, b) in enumerate(pairs):
        alone = block_hsic([models[a], models[b]], [(0, 1)], "cpu")[:, 0]
        assert together[:, place].tolist() == alone.tolist()
