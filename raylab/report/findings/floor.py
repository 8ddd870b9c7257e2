"""Is a difference more than another seed makes? Two floors, and every difference against them.

Model: the seed moves a recipe in two ways, each a floor (`floor` frame): its norm spreads over
seeds (the largest over the smallest), and two seeds of it end `seed_distance` apart. Two recipes
that differ in one factor alone are read against both:

    how far:  norm_times = log(larger mean norm / smaller) / log(larger spread of the two)
    where to: ratio      = mean distance at like seeds / mean distance of two seeds of either

If the two recipes were one, distances at unlike seeds would be alike and the ratio about 1. Where
the factor moves models by d and the seed by s, independently, distance^2 is about d^2 + s^2: at a
ratio of 2 three quarters of the squared distance are the factor's, at 1.25 a third.
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
)
from raylab.report.findings.intervals import bootstrap_interval
from raylab.report.findings.models import (
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
        for factor, a, b in differing(mine):
            differences.append(_difference_row(factor, a, b, labels, distances))
    differences.sort(key=lambda row: FACTORS.index(row["factor"]))
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
        "relative_distance": between / average if between is not None else None,
    }


def _difference_row(
    factor: str,
    a: Sequence[Model],
    b: Sequence[Model],
    labels: Mapping[str, str],
    distances: Distances,
) -> dict[str, Any]:
    other = {model.seed: model for model in b}
    pairs = [distances.between(m, other[m.seed]) for m in a if m.seed in other]
    known = [pair for pair in pairs if pair is not None]
    values = [pair.value for pair in known]
    apart = [*seed_distances(a, distances), *seed_distances(b, distances)]
    average, between = mean(values), mean(apart)
    ratio = average / between if average is not None and between else None
    low, high = bootstrap_interval(values)
    return {
        "model": a[0].base_model,
        "factor": factor,
        "a": a[0].stem,
        "b": b[0].stem,
        "label": f"{labels[a[0].stem]} vs {labels[b[0].stem]}",
        **_norm_columns(a, b),
        "seeds": len(values),
        "distance": average,
        "deviation": deviation(values),
        "low": low,
        "high": high,
        "seed_pairs": len(apart),
        "seed_distance": between,
        "ratio": ratio,
        "verdict": verdict_of(ratio),
        "source": "+".join(sorted({pair.source for pair in known})),
        "marked": any(model.marked for model in (*a, *b)),
    }


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
    yield from _answer(differences)
    for factor in dict.fromkeys(row["factor"] for row in differences):
        mine = [row for row in differences if row["factor"] == factor]
        values = {"norm": _norm_sentence(mine), "place": _place_sentence(mine)}
        alike = values["norm"].grade == values["place"].grade
        grade: Grade = values["norm"].grade if alike else "fair"
        yield Sentence("floor.factor", values, grade, f"factor.{factor}")


def _answer(differences: Sequence[Mapping[str, Any]]) -> Iterator[Sentence]:
    """Which factors are beyond the seed in most of their differences, the largest first."""
    largest: dict[str, float] = {}
    for row in differences:
        largest[row["factor"]] = max(largest.get(row["factor"], 0.0), row["norm_factor"])
    beyond = {
        column: tuple(
            factor
            for factor in sorted(largest, key=lambda name: -largest[name])
            if _is_mostly_beyond([r for r in differences if r["factor"] == factor], column)
        )
        for column in ("norm_verdict", "verdict")
    }
    if any(row["verdict"] != "unknown" for row in differences):
        yield Sentence(
            "floor.answer", {"far": beyond["norm_verdict"], "place": beyond["verdict"]}, "",
            "section.floor",
        )  # fmt: skip


def _is_mostly_beyond(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    return sum(row[column] == "beyond" for row in rows) > len(rows) / 2


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
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    if not ratios:
        return Sentence("floor.place.unknown", {"total": len(rows)}, "unknown")
    values = {
        "verdicts": counted_verdicts(rows, "verdict"),
        "low": min(ratios),
        "high": max(ratios),
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
