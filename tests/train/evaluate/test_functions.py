"""Divergences of next-token distributions against scipy and torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raylab.plan.functions import MEASURES
from raylab.train.evaluate import functions
from raylab.train.evaluate.functions import compare_tokens
from tests.oracles.functions import token_divergences

KL_AB, KL_BA, JS, TOP1, L2 = range(5)


def logits_of(*shape, seed=0, scale=4.0, dtype=torch.float32):
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def compared(*logits, pairs=((0, 1),), tokens=None):
    length, vocabulary = logits[0].shape
    answer = torch.arange(length) % vocabulary if tokens is None else torch.tensor(tokens)
    return compare_tokens(logits, answer, pairs, "cpu")


@pytest.mark.parametrize("scale", [0.01, 4.0, 60.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_divergences_are_those_of_scipy(scale, dtype):
    a, b = logits_of(9, 50, scale=scale, dtype=dtype), logits_of(9, 50, seed=1, scale=scale)
    found = compared(a, b).values[0]
    expected = token_divergences(a.double().numpy(), b.double().numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)


def test_divergences_kl_is_that_of_torch():
    a, b = logits_of(7, 30), logits_of(7, 30, seed=3)
    log_a, log_b = a.double().log_softmax(-1), b.double().log_softmax(-1)
    kl = torch.nn.functional.kl_div
    expected = kl(log_b, log_a, log_target=True, reduction="none").sum(-1)
    found = compared(a, b)
    np.testing.assert_allclose(found.values[0, KL_AB], expected.numpy(), rtol=1e-12)
    assert found.sums()[0, KL_AB] == math.fsum(found.values[0, KL_AB])


@pytest.mark.parametrize("special", [None, "minus infinity", "underflow"])
def test_divergences_of_equal_models_are_exactly_zero(special):
    logits = logits_of(5, 40)
    if special == "minus infinity":
        logits[:, 7:] = -math.inf
    elif special == "underflow":
        logits[:, 3] = 2000.0
    found = compared(logits, logits.clone()).values[0]
    assert found[[KL_AB, KL_BA, JS, L2]].tolist() == np.zeros((4, 5)).tolist()
    assert not np.signbit(found).any()
    assert found[TOP1].tolist() == [1.0] * 5


def test_divergences_of_distributions_without_overlap():
    a, b = torch.full((1, 4), -math.inf), torch.full((1, 4), -math.inf)
    a[0, 0], b[0, 1] = 0.0, 0.0
    found = compared(a, b).values[0, :, 0]
    assert found[JS] == pytest.approx(math.log(2))
    assert (found[TOP1], found[L2]) == (0.0, pytest.approx(math.sqrt(2)))
    assert found[KL_AB] == found[KL_BA] == math.inf


def test_divergences_of_logits_that_are_not_numbers_are_not_numbers():
    a = logits_of(2, 8)
    a[1, 3] = math.nan
    found = compared(a, logits_of(2, 8, seed=1)).values[0]
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[[KL_AB, KL_BA, JS, L2], 1]).all()


def test_divergences_turned_round_have_the_same_bits():
    a, b = logits_of(6, 33), logits_of(6, 33, seed=2)
    one, other = compared(a, b).values[0], compared(b, a).values[0]
    assert one[[KL_AB, KL_BA]].tolist() == other[[KL_BA, KL_AB]].tolist()
    assert one[[JS, TOP1, L2]].tolist() == other[[JS, TOP1, L2]].tolist()


def test_divergences_of_a_pair_do_not_depend_on_other_models(monkeypatch):
    many = [logits_of(11, 17, seed=seed) for seed in range(5)]
    pairs = [(a, b) for a in range(5) for b in range(5)]
    together = compared(*many, pairs=pairs).values
    for place, (a, b) in enumerate(pairs):
        assert together[place].tolist() == compared(many[a], many[b]).values[0].tolist()
    monkeypatch.setitem(functions._ENTRIES, "cpu", 40)
    np.testing.assert_allclose(compared(*many, pairs=pairs).values, together, rtol=1e-12)


def test_divergences_name_the_likeliest_token_and_the_probability_of_the_answer():
    a, b = logits_of(4, 6), logits_of(4, 6, seed=1)
    found = compared(a, b, tokens=[5, 0, 2, 2])
    for place, logits in enumerate((a, b)):
        p = torch.softmax(logits.double(), -1)
        assert found.top[place].tolist() == p.argmax(-1).tolist()
        expected = [float(p[t, token]) for t, token in enumerate([5, 0, 2, 2])]
        assert found.chosen[place].tolist() == pytest.approx(expected, rel=1e-12)


def test_measures_are_columns_of_the_table():
    from raylab.store.schemas import SCHEMAS

    assert set(MEASURES) <= set(SCHEMAS["functions"].names)
