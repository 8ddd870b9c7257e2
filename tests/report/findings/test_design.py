"""Which factors are separable: hand-made designs, and exact ranks over the rationals."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.report.findings.design import codes_of, design_of


def levels_of(names, rows):
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def rank_of(rows):
    """The rank of a matrix of integers, by elimination with fractions."""
    rows = [[Fraction(value) for value in row] for row in rows]
    rank = 0
    for column in range(len(rows[0])):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] / rows[rank][column]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


def additive_rank(levels, groups):
    """(rank of the additive model of groups, columns that it should have)."""
    observations = len(next(iter(levels.values())))
    columns, wanted = [[1] * observations], 1
    for group in groups:
        own = [tuple(levels[name][i] for name in group) for i in range(observations)]
        kinds = list(dict.fromkeys(own))
        columns += [[int(level == kind) for level in own] for kind in kinds]
        wanted += len(kinds) - 1
    return rank_of(list(zip(*columns, strict=True))), wanted


def test_design_crossed_factors_stand_alone():
    rows = list(itertools.product(("sft", "dpo"), ("D0", "D1", "D2"), (1, 2)))
    found = design_of(levels_of(("method", "data", "seed"), rows))
    assert found.groups == (("method",), ("data",), ("seed",))
    assert found.constant == found.inseparable == ()


def test_design_learning_rate_of_one_method_is_bound_to_it():
    rows = [
        (method, rate, seed)
        for method, rate in (("sft", 1e-5), ("sft", 1e-4), ("dpo", 1e-5))
        for seed in (1, 2)
    ]
    found = design_of(levels_of(("method", "learning_rate", "seed"), rows))
    assert found.groups == (("method", "learning_rate"), ("seed",))
    assert found.inseparable == (("method", "learning_rate"),)


def test_design_parent_of_dpo_alone_is_bound_to_the_method():
    recipes = (("sft", None), ("dpo", None), ("dpo", "sft-d1"), ("dpo", "sft-d2"))
    rows = [(m, d, p) for (m, p), d in itertools.product(recipes, ("D0", "D1"))]
    found = design_of(levels_of(("method", "data", "parent"), rows))
    assert found.groups == (("method", "parent"), ("data",))


def test_design_learning_rate_of_two_methods_stands_alone():
    rows = list(itertools.product(("sft", "dpo"), (1e-5, 1e-4)))
    found = design_of(levels_of(("method", "learning_rate"), rows))
    assert found.groups == (("method",), ("learning_rate",))


def test_design_aliased_factors_are_one_group():
    rows = [("sft", "D0", 1), ("sft", "D0", 2), ("dpo", "D1", 1), ("dpo", "D1", 2)]
    found = design_of(levels_of(("method", "data", "seed"), rows))
    assert found.groups == (("method", "data"), ("seed",))


def test_design_constant_factor_is_named_and_in_no_group():
    found = design_of({"method": ["sft", "sft"], "data": ["D0", "D1"], "parent": [None, None]})
    assert found.groups == (("data",),)
    assert found.constant == ("method", "parent")


def test_design_of_no_observations_has_no_groups():
    assert design_of({"method": [], "data": []}).groups == ()


def test_design_two_blocks_that_never_meet_are_one_group():
    # Neither factor is nested in the other, yet their blocks are not separable.
    blocks = [*itertools.product((0, 1), (0, 1)), *itertools.product((2, 3), (2, 3))]
    levels = levels_of(("data", "seed"), blocks)
    assert additive_rank(levels, (("data",), ("seed",))) == (6, 7)
    assert design_of(levels).groups == (("data", "seed"),)


def test_design_factors_that_only_together_lose_rank_are_bound():
    # a + b = c + d: every two of the four are crossed.
    rows = [row for row in itertools.product((0, 1), repeat=4) if row[0] + row[1] == sum(row[2:])]
    levels = levels_of("abcd", rows)
    for two in itertools.combinations("abcd", 2):
        assert additive_rank(levels, [(name,) for name in two]) == (3, 3)
    assert additive_rank(levels, [(name,) for name in "abcd"]) == (4, 5)
    found = design_of(levels)
    assert found.inseparable
    rank, wanted = additive_rank(levels, found.groups)
    assert rank == wanted


designs = st.integers(1, 4).flatmap(
    lambda factors: st.lists(st.tuples(*[st.integers(0, 2)] * factors), min_size=1, max_size=12)
)


@settings(max_examples=150, deadline=None)
@given(designs)
def test_design_any_has_every_factor_once_and_full_rank(rows):
    names = "abcd"[: len(rows[0])]
    levels = levels_of(names, rows)
    found = design_of(levels)
    varying = {name for name in names if len(set(levels[name])) > 1}
    assert sorted(name for group in found.groups for name in group) == sorted(varying)
    assert set(found.constant) == set(names) - varying
    rank, wanted = additive_rank(levels, found.groups)
    assert rank == wanted


@settings(max_examples=80, deadline=None)
@given(designs, st.integers(1, 3))
def test_design_repeated_and_renamed_observations_change_nothing(rows, times):
    names = "abcd"[: len(rows[0])]
    found = design_of(levels_of(names, rows))
    renamed = [tuple(f"level {9 - value}" for value in row) for row in rows] * times
    assert design_of(levels_of(names, renamed)) == found


@pytest.mark.parametrize("levels", [(2, 2), (3, 2, 2), (2, 3, 4)])
def test_design_full_factorial_is_never_bound(levels):
    rows = list(itertools.product(*map(range, levels)))
    assert not design_of(levels_of("abc"[: len(levels)], rows)).inseparable


def test_codes_of_a_group_number_its_combinations_as_they_come():
    levels = {"method": ["sft", "dpo", "sft", "dpo", "sft"], "rate": [1, 1, 2, 1, 1]}
    assert codes_of(levels, ("method", "rate")) == [0, 1, 2, 1, 0]
