"""Whether a factor's labels matter in a space: which models could change places.

Model: the statistic of a factor is the mean value of two models whose recipes differ in it alone,
less that of two models of one recipe; of likenesses it is turned round. Recipes that differ in the
factor, some pair by pair, are a family. A block is the models of a family at one seed; where no
two models of a family share a seed, it is all of them.
Invariant: a factor of which a pair was not measured has no p-value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from raylab.report.findings.permutation import Pairings, permutation_test
from raylab.report.findings.spaces import Space
from raylab.report.findings.statistics import MIN_VALUES
from raylab.report.findings.trained_models import Model, RecipePair, recipes_of
from raylab.report.study_tables import grouped

Choose = Callable[[Model, Model], bool]


def p_values(space: Space, is_unlike: Choose, pairs: Sequence[RecipePair]) -> dict[str, Any]:
    """`p` of a factor in `space`, and `p_least`, the least that its design can give.

    is_unlike: which models are compared. Both are None below three seeds of a recipe, and where a
    pair was not measured.
    """
    recipes = recipes_of(pairs)
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
    families = _families(pairs, recipes)
    taken = [
        pair
        for family in families
        for pair in itertools.combinations((m for m in models if m.recipe in family), 2)
        if is_unlike(*pair)
    ]
    values = [space.value(*pair) for pair in taken]
    if not taken or None in values:
        return untested
    sign = -1.0 if space.is_likeness else 1.0
    pairings = Pairings(
        one=np.array([places[a.name] for a, _ in taken]),
        other=np.array([places[b.name] for _, b in taken]),
        values=sign * np.array(values, np.float64),
        differ=differ,
    )
    blocks = [
        [places[model.name] for model in block]
        for family in families
        for block in _blocks([model for model in models if model.recipe in family])
    ]
    p, least = permutation_test(labels, blocks, pairings)
    return {"p": p, "p_least": least}


def _families(pairs: Sequence[RecipePair], recipes: Iterable[str]) -> list[set[str]]:
    """The recipes of each family."""
    family = {recipe: {recipe} for recipe in recipes}
    for pair in pairs:
        joined = family[pair.a[0].recipe] | family[pair.b[0].recipe]
        family |= dict.fromkeys(joined, joined)
    return list({frozenset(found): found for found in family.values()}.values())


def _blocks(models: Sequence[Model]) -> list[list[Model]]:
    """The blocks of the models of one family."""
    of_seed = list(grouped(models, lambda model: model.seed).values())
    return of_seed if any(len(block) > 1 for block in of_seed) else [list(models)]
