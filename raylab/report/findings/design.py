"""Which factors of a study can be told apart, and which cannot.

Model: observations carry a level of each factor. A factor with one level was not varied. Factor f
is nested in g where f varies within at most one level of g: a learning rate that only SFT
changes, a parent that only DPO has. Aliased factors vary within none. Nested and aliased factors
are bound into one group, whose levels are the combinations that occur, until no two groups are
nested and the additive design

    1 + sum over groups of (levels - 1)   columns

has full rank.
Invariant: every factor that varies is in one group; a group is never taken apart to fit it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Levels = Mapping[str, Sequence[Any]]
"""By factor: its level in each observation."""


@dataclass(frozen=True)
class Design:
    """`groups` of factors that are separable from one another; `constant` ones did not vary."""

    groups: tuple[tuple[str, ...], ...]
    constant: tuple[str, ...]

    @property
    def inseparable(self) -> tuple[tuple[str, ...], ...]:
        """The groups of more than one factor."""
        return tuple(group for group in self.groups if len(group) > 1)


def design_of(levels: Levels, *, nesting: bool = True) -> Design:
    """The design of observations; without `nesting` only what has no rank is bound."""
    # Observations of equal levels say nothing more of a design than one of them.
    combinations = list(dict.fromkeys(zip(*levels.values(), strict=True)))
    levels = dict(zip(levels, zip(*combinations, strict=True), strict=True)) if combinations else {}
    groups: tuple[tuple[str, ...], ...] = tuple(
        (name,) for name, found in levels.items() if len(set(found)) > 1
    )
    constant = tuple(name for name, found in levels.items() if len(set(found)) <= 1)
    while (pair := _bound(levels, groups, nesting)) is not None:
        a, b = pair
        kept = [group for group in groups if group not in pair]
        names = {*a, *b}
        groups = (*kept, tuple(name for name in levels if name in names))
    order = list(levels)
    return Design(tuple(sorted(groups, key=lambda group: order.index(group[0]))), constant)


def codes_of(levels: Levels, group: Sequence[str]) -> list[int]:
    """The level of a group in each observation, as a number."""
    combinations = list(zip(*(levels[name] for name in group), strict=True))
    numbers = {found: place for place, found in enumerate(dict.fromkeys(combinations))}
    return [numbers[found] for found in combinations]


def _bound(
    levels: Levels, groups: Sequence[tuple[str, ...]], nesting: bool
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Two groups that cannot be told apart; None where all can."""
    coded = {group: codes_of(levels, group) for group in groups}
    for a, b in itertools.combinations(groups, 2):
        if nesting and (_is_nested(coded[a], coded[b]) or _is_nested(coded[b], coded[a])):
            return a, b
    return _deficient(coded)


def _is_nested(inner: Sequence[int], outer: Sequence[int]) -> bool:
    """Whether `inner` varies within at most one level of `outer`."""
    within: dict[int, set[int]] = {}
    for level, place in zip(inner, outer, strict=True):
        within.setdefault(place, set()).add(level)
    return sum(len(found) > 1 for found in within.values()) <= 1


def _deficient(
    coded: Mapping[tuple[str, ...], Sequence[int]],
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The first two groups that lose rank beside the others; None where the design has it."""
    if not coded:
        return None
    columns = {group: indicators(found) for group, found in coded.items()}
    whole = _rank(list(columns.values()))
    lost = [
        group
        for group in columns
        if whole - _rank([c for g, c in columns.items() if g != group]) < columns[group].shape[1]
    ]
    return (lost[0], lost[1]) if len(lost) > 1 else None


def indicators(codes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Indicators of all levels but the first, float64 (observations, levels - 1)."""
    found = np.asarray(codes)
    return (found[:, None] == np.arange(1, found.max() + 1)).astype(np.float64)


def _rank(columns: Sequence[np.ndarray]) -> int:
    if not columns:
        return 1
    ones = np.ones((len(columns[0]), 1))
    return int(np.linalg.matrix_rank(np.hstack([ones, *columns])))
