"""Is a difference more than another seed makes? Every difference against the seed baseline.

Model: the seed changes a recipe in two ways, which are its seed baseline (frame `floor`): its norm
varies over seeds (the largest over the smallest), and two seeds of it end `seed_distance` apart.
Two recipes that differ in one factor alone are compared with both, seed_distance being the mean
over pairs of seeds of either recipe:

    norm:      norm_times   = log(larger mean norm / smaller) / log(larger spread of the two)
    direction: ratio_unlike = mean distance at different seeds / seed_distance
               ratio        = mean distance at the same seed   / seed_distance

At different seeds the two recipes are compared as two seeds of one recipe are: were they one
recipe, ratio_unlike would be 1. Where the factor moves models by d and the seed by s,
independently, distance^2 is d^2 + s^2, so that at 2 three quarters of it are the factor's, at
1.25 a third. `ratio` is the number of the original report: it does not contain the part of the
seed's effect that both recipes share. No distance is more than the sum of both norms. Where even
that is below twice the seeds' distance (`ratio_most` < 2), as when seeds end in unrelated
directions, the verdict is open.
Invariant: every pair of recipes that differ in one factor alone has a row, measured or not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.statistics import (
    bootstrap_interval,
    mean,
    ratio_of,
    standard_deviation,
)
from raylab.report.findings.trained_models import (
    FACTORS,
    Distances,
    Model,
    RecipePair,
    at_other_seeds,
    by_base_model,
    by_recipe,
    labels_of,
    models_of,
    one_factor_pairs,
)
from raylab.report.seed_noise import BEYOND, verdict_of
from raylab.report.study_tables import Row, Tables, grouped


def find(tables: Tables) -> Finding:
    """The seed baseline of every recipe, and every difference against it."""
    models, distances = models_of(tables), Distances(tables)
    baselines, differences = [], []
    for of_base in by_base_model(models).values():
        labels = labels_of(of_base)
        for seeds in by_recipe(of_base).values():
            baselines.append(_baseline_row(seeds, labels, distances))
        for pair in one_factor_pairs(of_base):
            differences.append(_difference_row(pair, labels, distances))
    differences.sort(key=lambda row: (*FACTORS, row["factor"]).index(row["factor"]))
    frames = {"differences": differences, "floor": baselines}
    sentences = [*_baseline_sentences(baselines)] or [Sentence("floor-unknown", {}, "unknown")]
    return Finding.of("floor", sentences, frames)


def _baseline_row(
    seeds: Sequence[Model], labels: Mapping[str, str], distances: Distances
) -> dict[str, Any]:
    """The seed baseline of one recipe: `seeds` are its models."""
    recipe, norms = seeds[0].recipe, [model.l2 for model in seeds]
    seed_distances = distances.among(seeds)
    low, high = bootstrap_interval(norms)
    return {
        "model": seeds[0].base_model,
        "recipe": recipe,
        "label": labels[recipe],
        "seeds": len(seeds),
        "l2_mean": mean(norms),
        "l2_deviation": standard_deviation(norms),
        "l2_low": low,
        "l2_high": high,
        "l2_factor": _norm_spread(seeds),
        "seed_pairs": len(seed_distances),
        "seed_distance": mean(seed_distances),
        "relative_distance": ratio_of(mean(seed_distances), mean(norms)),
    }


def _norm_spread(seeds: Sequence[Model]) -> float | None:
    """The largest norm over the smallest; None of one seed."""
    norms = [model.l2 for model in seeds]
    return max(norms) / min(norms) if len(norms) > 1 else None


def _difference_row(
    pair: RecipePair, labels: Mapping[str, str], distances: Distances
) -> dict[str, Any]:
    a, b = pair.a, pair.b
    pairs = list(itertools.product(a, b))
    found = (distances.between(x, y) for x, y in pairs if x.seed == y.seed)
    same_seed = [distance for distance in found if distance]
    found = (distances.between(x, y) for x, y in at_other_seeds(pairs))
    different_seeds = [distance.value for distance in found if distance]
    values = [distance.value for distance in same_seed]
    low, high = bootstrap_interval(values)
    seed_distances = [*distances.among(a), *distances.among(b)]
    seed_distance = mean(seed_distances)
    ratio_unlike = ratio_of(mean(different_seeds), seed_distance)
    ratio_most = ratio_of(sum(_mean_norm(seeds) for seeds in (a, b)), seed_distance)
    is_open = ratio_unlike is not None and ratio_most is not None and ratio_most < BEYOND
    return {
        "model": a[0].base_model,
        "factor": pair.factor,
        "a": a[0].recipe,
        "b": b[0].recipe,
        "label": f"{labels[a[0].recipe]} vs {labels[b[0].recipe]}",
        "also": ", ".join(pair.other_settings) or None,
        **_norm_columns(a, b),
        "seeds": len(values),
        "distance": mean(values),
        "deviation": standard_deviation(values),
        "low": low,
        "high": high,
        "seed_pairs": len(seed_distances),
        "seed_distance": seed_distance,
        "ratio": ratio_of(mean(values), seed_distance),
        "ratio_unlike": ratio_unlike,
        "ratio_most": ratio_most,
        "verdict": "open" if is_open else verdict_of(ratio_unlike),
        "source": "+".join(sorted({distance.source for distance in same_seed})),
        "marked": any(model.marked for model in (*a, *b)),
    }


def _mean_norm(seeds: Sequence[Model]) -> float:
    return math.fsum(model.l2 for model in seeds) / len(seeds)


def _norm_columns(a: Sequence[Model], b: Sequence[Model]) -> dict[str, Any]:
    """The factor between the mean norms of two recipes, against the larger of their spreads."""
    means = _mean_norm(a), _mean_norm(b)
    factor = max(means) / min(means)
    spreads = [spread for spread in (_norm_spread(a), _norm_spread(b)) if spread is not None]
    spread = max(spreads, default=None)
    if spread is None:
        times = None
    elif spread == 1:
        times = 1.0 if factor == 1 else math.inf
    else:
        times = math.log(factor) / math.log(spread)
    return {
        "norm_factor": factor,
        "norm_spread": spread,
        "norm_times": times,
        "norm_verdict": verdict_of(times),
    }


def _baseline_sentences(baselines: Sequence[Row]) -> Iterator[Sentence]:
    """For each base model the spread of norms, then the distance of seeds."""
    for base, rows in grouped(baselines, lambda row: str(row["model"])).items():
        for key, column in (("floor-apart", "relative_distance"), ("floor-spread", "l2_factor")):
            known = [row[column] for row in rows if row[column] is not None]
            if known:
                values = {"recipes": len(known), "low": min(known), "high": max(known)}
                yield Sentence(key, {"model": base, **values})
