"""The factors of a study that can be separated, and those that cannot.

Model: observations carry a level of each factor. A factor with one level was not varied. Factor f
is nested in g where f varies within at most one level of g: a learning rate that only SFT
changes, a parent that only DPO has. Aliased factors vary within none. Nested and aliased factors
are joined into one group, whose levels are the combinations that occur, until no two groups are
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
Group = tuple[str, ...]
"""Factors that cannot be separated."""


@dataclass(frozen=True)
class Design:
    """`groups` of factors that are separable from one another; `constant` ones did not vary."""

    groups: tuple[Group, ...]
    constant: tuple[str, ...]

    @property
    def inseparable(self) -> tuple[Group, ...]:
        """The groups of more than one factor."""
        return tuple(group for group in self.groups if len(group) > 1)


def design_of(levels: Levels, *, nesting: bool = True) -> Design:
    """The design of observations; without `nesting` only groups that lose rank are joined."""
    # Repeated observations of equal levels do not change a design.
    combinations = list(dict.fromkeys(zip(*levels.values(), strict=True)))
    levels = dict(zip(levels, zip(*combinations, strict=True), strict=True)) if combinations else {}
    groups: list[Group] = [(name,) for name, found in levels.items() if len(set(found)) > 1]
    constant = tuple(name for name, found in levels.items() if len(set(found)) <= 1)
    while (pair := _inseparable_pair(levels, groups, nesting)) is not None:
        names = {name for group in pair for name in group}
        joined = tuple(name for name in levels if name in names)
        groups = [*(group for group in groups if group not in pair), joined]
    order = list(levels)
    return Design(tuple(sorted(groups, key=lambda group: order.index(group[0]))), constant)


def codes_of(levels: Levels, group: Sequence[str]) -> list[int]:
    """The level of a group in each observation, as a number."""
    combinations = list(zip(*(levels[name] for name in group), strict=True))
    numbers = {level: number for number, level in enumerate(dict.fromkeys(combinations))}
    return [numbers[level] for level in combinations]


def indicators(codes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Indicators of all levels but the first, float64 (observations, levels - 1)."""
    array = np.asarray(codes)
    return (array[:, None] == np.arange(1, array.max() + 1)).astype(np.float64)


def _inseparable_pair(
    levels: Levels, groups: Sequence[Group], nesting: bool
) -> tuple[Group, Group] | None:
    """Two groups that cannot be separated: nested, else without full rank; None where all can."""
    codes = {group: codes_of(levels, group) for group in groups}
    for a, b in itertools.combinations(groups, 2):
        if nesting and (_is_nested(codes[a], codes[b]) or _is_nested(codes[b], codes[a])):
            return a, b
    columns = {group: indicators(codes[group]) for group in groups}

    def rank_without(left_out: Group | None) -> int:
        ones = np.ones((len(codes[groups[0]]), 1))
        kept = [columns[group] for group in groups if group != left_out]
        return int(np.linalg.matrix_rank(np.hstack([ones, *kept])))

    full = rank_without(None) if groups else 0
    lost = [g for g in groups if full - rank_without(g) < columns[g].shape[1]]
    return (lost[0], lost[1]) if len(lost) > 1 else None


def _is_nested(inner: Sequence[int], outer: Sequence[int]) -> bool:
    """Whether `inner` varies within at most one level of `outer`."""
    within: dict[int, set[int]] = {}
    for inner_level, outer_level in zip(inner, outer, strict=True):
        within.setdefault(outer_level, set()).add(inner_level)
    return sum(len(levels) > 1 for levels in within.values()) <= 1
