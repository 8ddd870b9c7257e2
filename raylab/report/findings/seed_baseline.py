"""Is a difference more than another seed makes? Two floors, and every difference against them.

Model: the seed moves a recipe in two ways, each a floor (`floor` frame): its norm spreads over
seeds (the largest over the smallest), and two seeds of it end `seed_distance` apart. Two recipes
that differ in one factor alone are read against both:

    how far:  norm_times   = log(larger mean norm / smaller) / log(larger spread of the two)
    where to: ratio_unlike = mean distance at unlike seeds / mean distance of two seeds of either
              ratio        = mean distance at like seeds   / the same

At unlike seeds the two recipes are held against each other as two seeds of one are: were they one
recipe, ratio_unlike would be 1; where the factor moves models by d and the seed by s,
independently, distance^2 is d^2 + s^2, so that at 2 three quarters of it are the factor's, at
1.25 a third. `ratio` is the number of the original report: what a seed moves both recipes by
alike is not in it. No distance is more than the sum of both norms. Where even that is below twice
the seeds' (`ratio_most` < 2), as when seeds end in unrelated directions, the question is open.
Invariant: every pair of recipes that differ in one factor alone has a row, measured or not.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.findings.caveats import caveats_of
from raylab.report.findings.finding import (
    FACTORS,
    Finding,
    Grade,
    Sentence,
    Tables,
    deviation,
    mean,
    over,
)
from raylab.report.findings.intervals import bootstrap_interval
from raylab.report.findings.trained_models import (
    Difference,
    Distance,
    Distances,
    Model,
    by_base,
    differing,
    labels_of,
    models_of,
    recipes_of,
)

WITHIN, BEYOND = 1.25, 2.0
VERDICTS: Mapping[str, Grade] = {
    "beyond": "good",
    "near": "fair",
    "within": "bad",
    "open": "unknown",
    "unknown": "unknown",
}


def floor(tables: Tables) -> Finding:
    """The two floors of every recipe, and every difference against them."""
    models, distances = models_of(tables), Distances(tables)
    floors, differences = [], []
    for mine in by_base(models).values():
        labels = labels_of(mine)
        for found in recipes_of(mine).values():
            floors.append(_floor_row(found, labels, distances))
        for found_one in differing(mine):
            differences.append(_difference_row(found_one, labels, distances))
    differences.sort(key=lambda row: (*FACTORS, row["factor"]).index(row["factor"]))
    headline = tuple(_headline(models, differences))
    said = tuple(_floor_sentences(floors))
    frames = {"differences": differences, "floor": floors}
    return Finding("floor", headline, said, caveats_of(models), frames)


def verdict_of(ratio: float | None) -> str:
    """within up to 1.25, beyond from 2 on, near in between; unknown without a ratio."""
    if ratio is None:
        return "unknown"
    return "within" if ratio <= WITHIN else "beyond" if ratio >= BEYOND else "near"


def seed_distances(found: Sequence[Model], distances: Distances) -> list[float]:
    """The distances of every two seeds of one recipe that are known."""
    pairs = (distances.between(a, b) for a, b in itertools.combinations(found, 2))
    return [pair.value for pair in pairs if pair is not None]


def _floor_row(
    found: Sequence[Model], labels: Mapping[str, str], distances: Distances
) -> dict[str, Any]:
    first, norms = found[0], [model.l2 for model in found]
    apart = seed_distances(found, distances)
    low, high = bootstrap_interval(norms)
    average, between = mean(norms), mean(apart)
    assert average, "a model that is measured has a norm above zero"
    return {
        "model": first.base_model,
        "recipe": first.stem,
        "label": labels[first.stem],
        "seeds": len(found),
        "l2_mean": average,
        "l2_deviation": deviation(norms),
        "l2_low": low,
        "l2_high": high,
        "l2_factor": _spread(found),
        "seed_pairs": len(apart),
        "seed_distance": between,
        "relative_distance": over(between, average),
    }


def _difference_row(
    found: Difference, labels: Mapping[str, str], distances: Distances
) -> dict[str, Any]:
    a, b = found.a, found.b
    pairs = [(one, other) for one in a for other in b]
    like = _known(distances, [p for p in pairs if p[0].seed == p[1].seed])
    unlike = [d.value for d in _known(distances, [p for p in pairs if p[0].seed != p[1].seed])]
    values = [distance.value for distance in like]
    apart = [*seed_distances(a, distances), *seed_distances(b, distances)]
    between, most = mean(apart), sum(mean([m.l2 for m in side]) or 0.0 for side in (a, b))
    low, high = bootstrap_interval(values)
    ratios = {
        "ratio": over(mean(values), between),
        "ratio_unlike": over(mean(unlike), between),
        "ratio_most": over(most, between),
    }
    return {
        "model": a[0].base_model,
        "factor": found.factor,
        "a": a[0].stem,
        "b": b[0].stem,
        "label": f"{labels[a[0].stem]} vs {labels[b[0].stem]}",
        "also": ", ".join(found.also) or None,
        **_norm_columns(a, b),
        "seeds": len(values),
        "distance": mean(values),
        "deviation": deviation(values),
        "low": low,
        "high": high,
        "seed_pairs": len(apart),
        "seed_distance": between,
        **ratios,
        "verdict": _place_verdict(ratios["ratio_unlike"], ratios["ratio_most"]),
        "source": "+".join(sorted({distance.source for distance in like})),
        "marked": any(model.marked for model in (*a, *b)),
    }


def _known(distances: Distances, pairs: Sequence[tuple[Model, Model]]) -> list[Distance]:
    found = (distances.between(a, b) for a, b in pairs)
    return [distance for distance in found if distance is not None]


def _place_verdict(ratio: float | None, most: float | None) -> str:
    if ratio is not None and most is not None and most < BEYOND:
        return "open"
    return verdict_of(ratio)


def _norm_columns(a: Sequence[Model], b: Sequence[Model]) -> dict[str, Any]:
    """How far: the factor between mean norms, and the larger factor between seeds."""
    means = [math.fsum(m.l2 for m in found) / len(found) for found in (a, b)]
    spreads = [spread for found in (a, b) if (spread := _spread(found)) is not None]
    factor, spread = max(means) / min(means), max(spreads, default=None)
    times = None if spread is None else _times(factor, spread)
    return {
        "norm_factor": factor,
        "norm_spread": spread,
        "norm_times": times,
        "norm_verdict": verdict_of(times),
    }


def _spread(found: Sequence[Model]) -> float | None:
    """The largest norm over the smallest between seeds; None of one seed."""
    norms = [model.l2 for model in found]
    return max(norms) / min(norms) if len(norms) > 1 else None


def _times(factor: float, spread: float) -> float:
    if spread == 1:
        return 1.0 if factor == 1 else math.inf
    return math.log(factor) / math.log(spread)


def _headline(
    models: Sequence[Model], differences: Sequence[Mapping[str, Any]]
) -> Iterator[Sentence]:
    if not models:
        yield Sentence("floor.nothing", {}, "unknown")
        return
    if len({model.seed for model in models}) == 1:
        yield Sentence("floor.one_seed", {}, "unknown")
    if not differences:
        yield Sentence("floor.no_difference", {}, "unknown")
        return
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in differences:
        groups.setdefault(row["factor"], []).append(row)
    yield _answer(groups)
    for factor, mine in groups.items():
        also = dict.fromkeys(
            name for row in mine if row["also"] for name in row["also"].split(", ")
        )
        norm, place = _norm_sentence(mine), _place_sentence(mine)
        grade: Grade = norm.grade if norm.grade == place.grade else "fair"
        values = {"norm": norm, "place": place, "also": tuple(also)}
        yield Sentence("floor.factor", values, grade, f"factor.{factor}")


def _answer(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sentence:
    """For each question what most differences in a factor say, the largest differences first."""
    order = sorted(groups, key=lambda name: -max(row["norm_factor"] for row in groups[name]))
    values = {
        question: tuple(
            (answer, tuple(name for name in order if _most(groups[name], column) == answer))
            for answer in ANSWERS
        )
        for question, column in (("far", "norm_verdict"), ("place", "verdict"))
    }
    return Sentence("floor.answer", values, "", "section.floor")


ANSWERS = ("yes", "partly", "no", "open", "unknown")
"""Beyond the seed in most differences that are known, in some, in none; cannot be told; not
measured."""


def _most(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    verdicts = [row[column] for row in rows]
    known = [verdict for verdict in verdicts if verdict not in ("open", "unknown")]
    if not known:
        return "open" if "open" in verdicts else "unknown"
    beyond = known.count("beyond")
    return "yes" if beyond > len(known) / 2 else "partly" if beyond else "no"


def _norm_sentence(rows: Sequence[Mapping[str, Any]]) -> Sentence:
    spreads = [row["norm_spread"] for row in rows if row["norm_spread"] is not None]
    if not spreads:
        return Sentence("floor.norm.unknown", {"total": len(rows)}, "unknown")
    factors = [row["norm_factor"] for row in rows]
    values = {
        "verdicts": counted_verdicts(rows, "norm_verdict"),
        "low": min(factors),
        "high": max(factors),
        "spread": max(spreads),
    }
    return Sentence("floor.norm", values, _grade_of(rows, "norm_verdict"))


def _place_sentence(rows: Sequence[Mapping[str, Any]]) -> Sentence:
    unlike = [row["ratio_unlike"] for row in rows if row["ratio_unlike"] is not None]
    like = [row["ratio"] for row in rows if row["ratio"] is not None]
    if not like:
        return Sentence("floor.place.unknown", {"total": len(rows)}, "unknown")
    values = {
        "verdicts": counted_verdicts(rows, "verdict"),
        "low": min(like),
        "high": max(like),
        "low_unlike": min(unlike, default=None),
        "high_unlike": max(unlike, default=None),
    }
    return Sentence("floor.place", values, _grade_of(rows, "verdict"))


def counted_verdicts(
    rows: Sequence[Mapping[str, Any]], column: str
) -> tuple[tuple[str, int, int], ...]:
    """(verdict, how many, of how many), without those that no row has."""
    counts = Counter(row[column] for row in rows)
    return tuple((name, counts[name], len(rows)) for name in VERDICTS if counts[name])


def _grade_of(rows: Sequence[Mapping[str, Any]], column: str) -> Grade:
    """The grade that most rows have; fair where none has more than half."""
    verdict, count = Counter(row[column] for row in rows).most_common(1)[0]
    return VERDICTS[verdict] if count > len(rows) / 2 else "fair"


def _floor_sentences(floors: Sequence[Mapping[str, Any]]) -> Iterator[Sentence]:
    spread = [row["l2_factor"] for row in floors if row["l2_factor"] is not None]
    apart = [row["relative_distance"] for row in floors if row["relative_distance"] is not None]
    if spread:
        values = {"recipes": len(spread), "low": min(spread), "high": max(spread)}
        yield Sentence("floor.spread", values)
    if apart:
        values = {"recipes": len(apart), "low": min(apart), "high": max(apart)}
        yield Sentence("floor.apart", values)
