"""The sentences that answer whether a factor matters, out of rows of effects.

Model: an answer for each base model, which lists the factors of each space by verdict, the largest
effect first; a sentence for each factor, with a part for each space; what is within seed noise,
and what would settle it; how much of the seed is the start of the adapter; what the verdicts rest
on.
Invariant: a factor is called inconclusive only where all that was measured of it is within its
baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.findings.finding import Grade, Sentence
from raylab.report.findings.statistics import MIN_VALUES
from raylab.report.findings.trained_models import SEPARATOR, Model, are_tied
from raylab.report.study_tables import Row, Rows, grouped
from raylab.spec.seeds import COLUMNS

VERDICTS = ("beyond", "near", "within", "unknown")
"""Of factors, in the order of their sentences."""
SEED_VERDICTS = ("baseline", "most", "part", "little")
"""Of the seed and of its parts."""
ANSWERED = ("far", "where", "function")
"""The spaces of the answer."""
_GRADES: Mapping[str, Grade] = {"beyond": "good", "near": "fair"}


def answer_sentences(models: Sequence[Model], effects: Rows) -> Iterator[Sentence]:
    """For each base model the factors of each space by verdict, the largest first."""
    if not models:
        yield Sentence("floor-nothing", {}, "unknown")
    for base, rows in grouped(effects, lambda row: str(row["model"])).items():
        of_factors = _of_factors(rows)
        if of_factors:
            yield _answer(base, of_factors)
        else:
            yield Sentence("floor-no_difference", {"model": base}, "unknown")


def caution_sentences(models: Sequence[Model], effects: Rows) -> Iterator[Sentence]:
    """What limits the verdicts: a single seed, tied randomness, too few seeds for a test."""
    if len({model.seed for model in models}) == 1:
        yield Sentence("floor-one_seed", {"seed": models[0].seed.level}, "unknown")
        return
    if models and are_tied(models):
        yield Sentence("effects-tied", {}, "unknown", "factor-seed")
    for rows in grouped(effects, lambda row: str(row["model"])).values():
        yield from _untested_sentences(rows)


def factor_sentences(effects: Rows) -> Iterator[Sentence]:
    """A sentence for each factor, with its numbers in every space."""
    for rows in grouped(effects, lambda row: str(row["model"])).values():
        for factor, found in grouped(_of_factors(rows), lambda row: str(row["factor"])).items():
            yield _factor_sentence(factor, found)


def _of_factors(rows: Rows) -> list[Row]:
    """The rows that are not of the seed."""
    return [row for row in rows if row["verdict"] in VERDICTS and not is_of_seed(row["factor"])]


def is_of_seed(factor: str) -> bool:
    """Whether a factor is the seed, or parts of it."""
    return set(factor.split(SEPARATOR)) <= {"seed", *COLUMNS}


def _answer(base: str, rows: Rows) -> Sentence:
    of_space = grouped(rows, lambda row: str(row["space"]))
    parts = {
        key: tuple(
            (verdict, tuple((row["factor"], row["times"]) for row in _largest_first(found)))
            for verdict in VERDICTS
            if (found := [row for row in of_space.get(key, ()) if row["verdict"] == verdict])
        )
        for key in ANSWERED
    }
    return Sentence("effects-answer", {"model": base, **parts})


def _largest_first(rows: Rows) -> list[Row]:
    return sorted(rows, key=lambda row: -(row["times"] or 0.0))


def _factor_sentence(factor: str, rows: Rows) -> Sentence:
    """What a factor does in each space, with its numbers."""
    measured = [row for row in rows if row["times"] is not None]
    verdicts = {row["verdict"] for row in measured}
    grade: Grade = next((_GRADES[one] for one in _GRADES if one in verdicts), "unknown")
    shown = (row for row in rows if row["space"] in ANSWERED or row in measured)
    parts = tuple(map(space_sentence, shown))
    also = tuple(rows[0]["also"].split(", ")) if rows[0]["also"] else ()
    values = {
        "parts": parts,
        "differences": rows[0]["differences"],
        "also": also,
        "settle": _what_settles(rows) if measured and verdicts == {"within"} else "",
    }
    return Sentence("effects-factor", values, grade, f"factor-{factor}")


def space_sentence(row: Row) -> Sentence:
    """What a factor, the seed or a part of it does in one space, with its numbers."""
    key, times = row["space"], row["times"]
    if row["verdict"] == "baseline":
        value = math.exp(row["effect"]) if key == "far" else row["effect"]
        counted = {"chance": row["chance"], "pairs": row["pairs"]}
        return Sentence(f"effects-{key}-baseline", {"effect": value, **counted})
    if times is None:
        return Sentence(f"effects-{key}-unknown", {})
    if is_of_seed(row["factor"]):
        return Sentence("effects-part", {"space": key, "times": times, "pairs": row["pairs"]})
    values: dict[str, Any] = {
        "effect": row["effect"],
        "baseline": row["baseline"],
        "chance": row["chance"],
        "times": times,
        "counts": {"pairs": row["pairs"], "seed_pairs": row["seed_pairs"]},
        "p": Sentence("effects-p", {"p": row["p_adjusted"]})
        if row["basis"] == "permutation"
        else "",
    }
    if key == "far":
        values |= {name: math.exp(row[name]) for name in ("effect", "baseline")}
    return Sentence(f"effects-{key}", values)


def _what_settles(rows: Rows) -> Sentence:
    measured = {row["space"] for row in rows if row["times"] is not None}
    return Sentence("effects-settle-all" if "function" in measured else "effects-settle-functions")


def seed_sentences(effects: Rows) -> Iterator[Sentence]:
    """How much of the seed each part of it is."""
    parts = [row for row in effects if row["verdict"] in SEED_VERDICTS[1:]]
    by_part = grouped(parts, lambda row: (str(row["model"]), str(row["factor"])))
    for (base, name), found in by_part.items():
        shares = {row["space"]: row["times"] for row in found}
        if {"delta", "where"} & shares.keys():
            values = {
                "model": base,
                "part": name,
                **{key: shares.get(key) for key in ("far", "where", "delta", "function")},
                "pairs": max(row["pairs"] for row in found),
            }
            yield Sentence("effects-seed_part", values, "", "factor-seed")


def tested_sentences(effects: Rows) -> Iterator[Sentence]:
    """How many verdicts of each base model rest on a test."""
    for base, rows in grouped(effects, lambda row: str(row["model"])).items():
        measured = _measured(rows)
        tested = [row for row in measured if row["basis"] == "permutation"]
        if tested:
            values = {"model": base, "tested": len(tested), "total": len(measured)}
            yield Sentence("effects-tested", values)


def _untested_sentences(rows: Rows) -> Iterator[Sentence]:
    """Why no verdict of a base model rests on a test."""
    measured = _measured(rows)
    if not measured or any(row["basis"] == "permutation" for row in measured):
        return
    least = [row["p_least"] for row in measured if row["p_least"] is not None]
    if least:
        yield Sentence("effects-too_few", {"least": min(least)})
    else:
        yield Sentence("effects-descriptive", {"seeds": MIN_VALUES})


def _measured(rows: Rows) -> list[Row]:
    return [row for row in _of_factors(rows) if row["times"] is not None]
