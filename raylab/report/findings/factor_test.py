"""Whether a factor's labels matter in a space: which models could change places.

Model: the statistic of a factor is the mean value of two models whose recipes differ in it alone,
less that of two models of one recipe; of likenesses it is turned round. Recipes that differ in the
factor, some pair by pair, are a family. A block is the models of a family at one seed; where no
two models of a family share a seed, it is all of them.
Invariant: a factor of which a pair was not measured has no p-value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from raylab.report.findings.permutation import least_p, permutation_p
from raylab.report.findings.spaces import Space
from raylab.report.findings.statistics import MIN_VALUES
from raylab.report.findings.trained_models import Model, RecipePair
from raylab.report.study_tables import grouped

Choose = Callable[[Model, Model], bool]


def p_values(
    space: Space,
    is_unlike: Choose,
    pairs: Sequence[RecipePair],
    recipes: Mapping[str, Sequence[Model]],
) -> dict[str, Any]:
    """`p` of a factor in `space`, and `p_least`, the least that its design can give.

    is_unlike: the pairs of models that are compared. recipes: the models of each, by name. Both
    are None below three seeds, and where a pair was not measured.
    """
    untested = {"p": None, "p_least": None}
    if min(len(found) for found in recipes.values()) < MIN_VALUES:
        return untested
    models = [model for found in recipes.values() for model in found]
    places = {model.name: place for place, model in enumerate(models)}
    names = list(recipes)
    labels = np.array([names.index(model.recipe) for model in models])
    differ = np.zeros((len(names), len(names)), dtype=bool)
    for pair in pairs:
        a, b = names.index(pair.a[0].recipe), names.index(pair.b[0].recipe)
        differ[a, b] = differ[b, a] = True
    taken = [pair for pair in itertools.combinations(models, 2) if is_unlike(*pair)]
    values = [space.value(*pair) for pair in taken]
    if not taken or None in values:
        return untested
    sign = -1.0 if space.is_likeness else 1.0
    value = sign * np.array(values, np.float64)
    one = np.array([places[a.name] for a, _ in taken])
    other = np.array([places[b.name] for _, b in taken])

    def apart(found: np.ndarray) -> float:
        first, second = found[one], found[other]
        between, within = differ[first, second], first == second
        if not between.any() or not within.any():
            return -math.inf
        return float(value[between].mean() - value[within].mean())

    blocks, families = _blocks(pairs, recipes, places)
    return {
        "p": permutation_p(labels, blocks, apart),
        "p_least": least_p(labels, blocks, families),
    }


def _blocks(
    pairs: Sequence[RecipePair],
    recipes: Mapping[str, Sequence[Model]],
    places: Mapping[str, int],
) -> tuple[list[list[int]], list[list[int]]]:
    """(the places of the models of each block, the numbers of the blocks of each family)."""
    family = {recipe: {recipe} for recipe in recipes}
    for pair in pairs:
        joined = family[pair.a[0].recipe] | family[pair.b[0].recipe]
        family |= dict.fromkeys(joined, joined)
    blocks: list[list[int]] = []
    families: list[list[int]] = []
    for names in {frozenset(found): found for found in family.values()}.values():
        models = [model for recipe in recipes if recipe in names for model in recipes[recipe]]
        of_seed = list(grouped(models, lambda model: model.seed).values())
        found = of_seed if any(len(block) > 1 for block in of_seed) else [models]
        families.append(list(range(len(blocks), len(blocks) + len(found))))
        blocks += [[places[model.name] for model in block] for block in found]
    return blocks, families
