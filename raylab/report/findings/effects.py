"""Does a factor matter? What it does to models, against what another seed does.

Model: in each space (`raylab.report.findings.spaces`), a factor's effect is the mean value of two
models whose recipes differ in the factor alone, and its baseline that of two models of one of
these recipes. In both, only models at different seeds are taken, so that the two are of one
kind: were the factor without effect, they would be the same. Seeds are different where they differ
in every part (init, order, dropout) that varies in the study. The space `delta` is compared between
models that share init, which alone makes two deltas unrelated.

    times = effect / baseline                              of distances
    times = (baseline - chance) / (effect - chance)        of overlaps

A part of the seed, or parts that go together, have as their effect the mean of two models of one
recipe that differ in nothing else; their baseline is that of the same recipes.
With three seeds or more a permutation test says whether labels matter
(`raylab.report.findings.permutation`), its p corrected over the factors of a space (Holm 1979). A
verdict rests on it where its least p is at most 5 %; else it is descriptive: up to 1.25 times
within the seed, from 2 on beyond it, near in between.
Invariant: every factor that two recipes differ in alone has a row in every space, measured or not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.report.findings.effect_words import (
    answer_sentences,
    caution_sentences,
    factor_sentences,
    seed_sentences,
    tested_sentences,
)
from raylab.report.findings.factor_test import Choose, p_values
from raylab.report.findings.finding import Finding
from raylab.report.findings.spaces import Space, spaces_of
from raylab.report.findings.statistics import holm, mean
from raylab.report.findings.trained_models import (
    SEPARATOR,
    Model,
    RecipePair,
    by_base_model,
    by_recipe,
    differ_in,
    differing_parts,
    labels_of,
    models_of,
    one_factor_pairs,
    recipes_of,
    varied_parts,
)
from raylab.report.seed_noise import BEYOND, verdict_of
from raylab.report.study_tables import Tables, grouped
from raylab.spec.seeds import COLUMNS

LEVEL = 0.05
"""Of significance."""
MOST_OF_SEED, LITTLE_OF_SEED = 0.8, 0.2
_DELTA, _INIT = "delta", "seed_init"


@dataclass(frozen=True)
class Means:
    """The mean value of pairs of models, the chance level beside it, and their number."""

    value: float | None
    chance: float
    count: int

    @classmethod
    def of(cls, space: Space, pairs: Sequence[tuple[Model, Model]]) -> Means:
        """Of the pairs that were measured."""
        known = [pair for pair in pairs if space.value(*pair) is not None]
        values = [value for pair in known if (value := space.value(*pair)) is not None]
        chance = mean([space.chance_of(*pair) for pair in known])
        return cls(mean(values), chance or 0.0, len(values))

    def shown_chance(self, space: Space) -> float | None:
        """The chance level as a column; None in a space without one, and of no pairs."""
        return self.chance if space.is_likeness and self.count else None


def find(tables: Tables) -> Finding:
    """Every factor in every space, and every two recipes of it."""
    models = models_of(tables)
    effects: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for of_base in by_base_model(models).values():
        spaces = spaces_of(tables, of_base)
        varied = varied_parts(of_base)
        factors = grouped(one_factor_pairs(of_base), lambda pair: pair.factor)
        labels = labels_of(of_base)
        for space in spaces:
            is_unlike = _unlike(space, varied)
            rows = [
                _effect_row(space, is_unlike, *item) | p_values(space, is_unlike, item[1])
                for item in factors.items()
            ]
            effects += _judged(rows)
            effects += _seed_rows(space, of_base, varied)
            pairs += [
                _pair_row(space, is_unlike, pair, labels)
                for pair in itertools.chain.from_iterable(factors.values())
            ]
    return Finding(
        "effects",
        answer=tuple(answer_sentences(models, effects)),
        details=(
            *factor_sentences(effects),
            *seed_sentences(effects),
            *tested_sentences(effects),
        ),
        cautions=tuple(caution_sentences(models, effects)),
        frames={"effects": effects, "effect_pairs": pairs},
    )


def _unlike(space: Space, varied: Sequence[str]) -> Choose:
    """Whether two models are compared in `space`: by their seeds alone."""
    if space.key == _DELTA:
        return lambda a, b: bool(parts := differing_parts(a, b)) and _INIT not in parts
    return differ_in(varied)


def _effect_row(
    space: Space, is_unlike: Choose, factor: str, pairs: Sequence[RecipePair]
) -> dict[str, Any]:
    recipes = recipes_of(pairs)
    between = [(x, y) for pair in pairs for x in pair.a for y in pair.b]
    within = [pair for found in recipes.values() for pair in itertools.combinations(found, 2)]
    effect = Means.of(space, [pair for pair in between if is_unlike(*pair)])
    baseline = Means.of(space, [pair for pair in within if is_unlike(*pair)])
    like = Means.of(space, [(x, y) for x, y in between if x.seed == y.seed])
    also = dict.fromkeys(name for pair in pairs for name in pair.other_settings)
    return {
        "model": pairs[0].a[0].base_model,
        "factor": factor,
        "space": space.key,
        "also": ", ".join(also) or None,
        "differences": len(pairs),
        **_columns(space, effect, baseline),
        "like": like.value,
    }


def _columns(space: Space, effect: Means, baseline: Means) -> dict[str, Any]:
    times = times_of(space, effect, baseline)
    return {
        "effect": effect.value,
        "baseline": baseline.value,
        "chance": baseline.shown_chance(space),
        "effect_chance": effect.shown_chance(space),
        "times": times,
        "pairs": effect.count,
        "seed_pairs": baseline.count,
        "verdict": verdict_of(times),
        "basis": "descriptive" if times is not None else None,
    }


def times_of(space: Space, effect: Means, baseline: Means) -> float | None:
    """How many times as far apart as the baseline; None where either was not measured, or where
    the baseline's models share no more than chance.

    Infinite where the baseline has no distance and the effect has, or where models of the effect
    share no more than chance.
    """
    if effect.value is None or baseline.value is None:
        return None
    if space.is_likeness:
        above, below = baseline.value - baseline.chance, effect.value - effect.chance
        if above <= 0:
            return None
    else:
        above, below = effect.value, baseline.value
    if below <= 0:
        return math.inf if above > 0 else 1.0
    return above / below


def _pair_row(
    space: Space, is_unlike: Choose, pair: RecipePair, labels: Mapping[str, str]
) -> dict[str, Any]:
    recipes = [pair.a[0].recipe, pair.b[0].recipe]
    row = _effect_row(space, is_unlike, pair.factor, [pair])
    row |= {"a": recipes[0], "b": recipes[1]}
    row["label"] = " vs ".join(labels[recipe] for recipe in recipes)
    return row


def _judged(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of one space with p corrected over factors, and verdicts that rest on it."""
    tested = [row for row in rows if row["p"] is not None and row["p_least"] <= LEVEL]
    found = [row["p"] for row in tested]
    adjusted = {id(row): p for row, p in zip(tested, holm(found), strict=True)}
    for row in rows:
        p = adjusted.get(id(row))
        row = row | {"p_adjusted": p}
        if p is not None and row["times"] is not None:
            is_beyond = row["times"] >= BEYOND
            row["basis"] = "permutation"
            row["verdict"] = "within" if p > LEVEL else "beyond" if is_beyond else "near"
        yield row


def _seed_rows(
    space: Space, models: Sequence[Model], varied: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """What the seed does by itself, and what parts of it do that vary alone."""
    recipes = by_recipe(models)
    within = [pair for found in recipes.values() for pair in itertools.combinations(found, 2)]
    by_parts = grouped(within, lambda pair: differing_parts(*pair))
    for parts, pairs in by_parts.items():
        # Of the same recipes, which may be few: recipes differ in what a seed does to them.
        taken = {a.recipe for a, _ in pairs}
        unlike = [pair for pair in by_parts.get(tuple(varied), []) if pair[0].recipe in taken]
        found, whole = Means.of(space, pairs), Means.of(space, unlike)
        is_whole = parts == tuple(varied)
        times = None if is_whole else times_of(space, found, whole)
        yield {
            "model": models[0].base_model,
            "factor": "seed" if parts == COLUMNS else SEPARATOR.join(parts),
            "space": space.key,
            "effect": found.value,
            "baseline": whole.value,
            "chance": whole.shown_chance(space),
            "effect_chance": found.shown_chance(space),
            "times": times,
            "pairs": found.count,
            "seed_pairs": whole.count,
            "verdict": "baseline" if is_whole else _share_verdict(times),
            "basis": "descriptive" if found.value is not None else None,
        }


def _share_verdict(share: float | None) -> str:
    if share is None:
        return "unknown"
    return "most" if share >= MOST_OF_SEED else "little" if share <= LITTLE_OF_SEED else "part"
