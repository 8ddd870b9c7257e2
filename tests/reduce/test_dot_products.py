"""Inner products of rows against exact sums, and what they depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.reduce.dot_products import dot_products

ALL = np.ones((24, 24), dtype=np.bool_)


def exact(a, b):
    return math.fsum(float(x) * float(y) for x, y in zip(a.tolist(), b.tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 5000), st.integers(0, 2**16))
def test_dot_products_equal_exact_sums(count, size, seed):
    rows = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    found = dot_products(rows, ALL[:count, :count])
    for i in range(count):
        for j in range(count):
            scale = math.sqrt(exact(rows[i], rows[i]) * exact(rows[j], rows[j]))
            assert float(found[i, j]) == pytest.approx(exact(rows[i], rows[j]), abs=1e-13 * scale)


@pytest.mark.parametrize("size", [1, 31, 2048, 2049, 7001])
def test_dot_product_of_two_rows_has_the_same_bits_beside_any_others(size):
    rows = torch.randn(24, size, generator=torch.Generator().manual_seed(size))
    whole = dot_products(rows, ALL)
    assert torch.equal(whole, whole.T)
    for count in range(1, 24):
        assert torch.equal(dot_products(rows[:count], ALL[:count, :count]), whole[:count, :count])
    order = [17, 3, 9]
    assert torch.equal(dot_products(rows[order], ALL[:3, :3]), whole[order][:, order])


@pytest.mark.parametrize("count", [4, 40])
def test_dot_products_leave_out_the_pairs_that_are_not_wanted(count):
    rows = torch.randn(count, 100, generator=torch.Generator().manual_seed(1))
    asked = np.eye(count, dtype=np.bool_)
    asked[1] = asked[:, 1] = asked[count - 1, 0] = asked[0, count - 1] = True
    found, whole = dot_products(rows, asked), dot_products(rows, np.ones_like(asked))
    assert torch.equal(found, torch.where(torch.from_numpy(asked), whole, 0.0))
