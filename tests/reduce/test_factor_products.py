"""Inner products out of factors against whole deltas in float64, and what is left to entries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.reduce import factor_products as module
from raylab.reduce.factor_products import factor_products
from raylab.weights.adapter_parts import Factors

QUICK = settings(max_examples=40, deadline=None)


def factors(seed, shape=(40, 30), rank=4, scale=2.0, size=1.0):
    draws = torch.Generator().manual_seed(seed)
    rows, columns = shape
    down = size * torch.randn(rank, columns, generator=draws)
    return Factors(down, torch.randn(rows, rank, generator=draws), scale)


def delta(terms, shape=(40, 30)):
    found = np.zeros(shape)
    for each in terms:
        found += each.scale * (each.up.double() @ each.down.double()).numpy()
    return found


def every(chains):
    return np.ones((len(chains), len(chains)), dtype=np.bool_)


@QUICK
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.5, 16.0, -1.0])), max_size=3),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(0, 2**16),
)
def test_products_of_any_chains_equal_those_of_whole_deltas(kinds, rows, columns, seed):
    chains = [
        tuple(
            factors(seed + 10 * model + k, (rows, columns), rank, scale)
            for k, (rank, scale) in enumerate(terms)
        )
        for model, terms in enumerate(kinds)
    ]
    found, by_factors = factor_products(chains, every(chains))
    whole = [delta(terms, (rows, columns)) for terms in chains]
    for i, j in itertools.product(range(len(chains)), repeat=2):
        scale = np.linalg.norm(whole[i]) * np.linalg.norm(whole[j])
        if by_factors[i, j]:
            assert found[i, j] == pytest.approx(np.sum(whole[i] * whole[j]), abs=1e-9 * scale)
        else:
            assert found[i, j] == 0
    assert by_factors.all() or any(len(terms) > 1 for terms in chains)
    assert (found == found.T).all()


def test_product_of_two_deltas_has_the_same_bits_beside_any_others_in_any_order():
    chains = [(factors(n, rank=n % 5 + 1), factors(50 + n)) for n in range(20)]
    whole, _ = factor_products(chains, every(chains))
    for order in ([3, 17], [17, 3], [9, 1, 3, 17, 0]):
        some = [chains[n] for n in order]
        found, by_factors = factor_products(some, every(some))
        assert by_factors.all()
        assert found.tobytes() == whole[np.ix_(order, order)].tobytes()


def test_pairs_that_are_not_wanted_are_left_out():
    chains = [(factors(n),) for n in range(3)]
    wanted = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=np.bool_)
    found, by_factors = factor_products(chains, wanted)
    whole, _ = factor_products(chains, every(chains))
    assert (by_factors == wanted).all()
    assert (found == np.where(wanted, whole, 0)).all()


def test_deltas_of_zeros_have_products_of_zero_and_no_sums_of_products_have_none():
    untrained = Factors(torch.randn(4, 30), torch.zeros(40, 4), 2.0)
    chains = [(factors(1),), (), (untrained,), None]
    found, by_factors = factor_products(chains, every(chains))
    assert by_factors[:3, :3].all()
    assert not by_factors[3].any() and not by_factors[:, 3].any()
    assert found[0, 0] > 0
    found[0, 0] = 0
    assert not found.any()


def negated(one, by=1.0):
    """A second term that takes out the first, but for a share."""
    return Factors(one.down, -by * one.up, one.scale)


ONE = factors(5)
LEFT_TO_ENTRIES = {
    "terms that cancel": (ONE, negated(ONE, 1 - 2**-20)),
    "terms that cancel wholly": (ONE, negated(ONE)),
    "an overflow of float32": (factors(1, size=1e38),),
    "an overflow on the way": (factors(1, size=1e38, scale=1e-30),),
    "magnitudes that vanish in float32": (factors(1, size=1e-38, scale=1e-5),),
    "NaN": (factors(1, size=math.nan),),
    "infinity": (factors(1, size=math.inf),),
    "a rank beyond the most": (factors(1, (300, 300), rank=65),),
}


@pytest.mark.parametrize("terms", LEFT_TO_ENTRIES.values(), ids=LEFT_TO_ENTRIES)
def test_delta_whose_entries_know_better_is_left_to_them(terms):
    plain = (factors(2, (300, 300)) if terms[0].rank > 64 else factors(2),)
    found, by_factors = factor_products([terms, plain], every([terms, plain]))
    assert by_factors.tolist() == [[False, False], [False, True]]
    assert found[0].tolist() == [0, 0]


def test_terms_that_cancel_less_are_within_a_billionth():
    terms = (ONE, negated(ONE, 1 - 2**-8))
    found, by_factors = factor_products([terms], every([terms]))
    assert by_factors.all()
    assert found[0, 0] == pytest.approx(np.sum(delta(terms) ** 2), rel=1e-9)


def test_rank_up_to_the_most_is_of_factors(monkeypatch):
    monkeypatch.setattr(module, "MOST_RANK", 4)
    chains = [(factors(1),), (factors(2, rank=2), factors(3, rank=3))]
    _, by_factors = factor_products(chains, every(chains))
    assert by_factors.tolist() == [[True, False], [False, False]]
