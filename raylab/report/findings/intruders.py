"""Do models keep to the base model's own directions? Intruders and principal shares by recipe.

Model: the table `intruders` has, for each trained model as a whole, the share of the top left
singular vectors of W + delta that have no counterpart among W's (`intruder_share`), and how much of
the delta's energy lies in W's top left and right singular vectors, beside what chance gives. A
recipe has the mean over its seeds; its seed baseline is the spread over them, the largest value
less the smallest. `left_times` and `right_times` are a mean share over its mean chance.
Invariant: every recipe of the table has a row. The spread of one seed is null, as are the shares of
deltas of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.statistics import mean, ratio_of
from raylab.report.findings.trained_models import (
    Model,
    by_recipe,
    labels_of,
    models_of,
)
from raylab.report.study_tables import Row, Rows, Tables, finite, grouped

_SIDES = ("left", "right")


def find(tables: Tables) -> Finding:
    """Intruders and principal shares of every recipe, with their spread over seeds."""
    measured = {row["model"]: row for row in tables.rows("intruders", level="all")}
    models = [model for model in models_of(tables) if model.name in measured]
    labels = labels_of(models)
    rows = [
        _row(seeds, labels[recipe], [measured[model.name] for model in seeds])
        for recipe, seeds in by_recipe(models).items()
    ]
    answer = [*_answer_sentences(rows)] or [Sentence("intruders-nothing")]
    return Finding("intruders", tuple(answer), tuple(_sentences(rows)), frames={"intruders": rows})


def _row(seeds: Sequence[Model], label: str, found: Rows) -> dict[str, Any]:
    """One recipe: `found` are the rows of its models."""
    shares = _known(found, "intruder_share")
    return {
        "model": seeds[0].base_model,
        "recipe": seeds[0].recipe,
        "label": label,
        "seeds": len(seeds),
        "top": found[0]["top"],
        "epsilon": found[0]["epsilon"],
        "intruders": mean([float(row["intruders"]) for row in found]),
        "directions": found[0]["directions"],
        "intruder_share": mean(shares),
        "intruder_spread": _spread(shares),
        **{key: value for side in _SIDES for key, value in _side(found, side).items()},
    }


def _side(found: Rows, side: str) -> dict[str, Any]:
    shares, chances = _known(found, f"share_{side}"), _known(found, f"chance_{side}")
    return {
        f"share_{side}": mean(shares),
        f"{side}_spread": _spread(shares),
        f"chance_{side}": mean(chances),
        f"{side}_times": ratio_of(mean(shares), mean(chances)),
    }


def _known(found: Rows, column: str) -> list[float]:
    return [value for row in found if (value := finite(row[column])) is not None]


def _spread(values: Sequence[float]) -> float | None:
    return max(values) - min(values) if len(values) > 1 else None


def _answer_sentences(rows: Sequence[Row]) -> Iterator[Sentence]:
    """For each base model the most intruders of a recipe, and how much of deltas lies in the base
    model's top directions over both sides."""
    for model, own in grouped(rows, lambda row: str(row["model"])).items():
        common = {"model": model, "top": own[0]["top"]}
        known = [row for row in own if row["intruder_share"] is not None]
        if known:
            most = max(known, key=lambda row: float(row["intruder_share"]))
            values = {"high": most["intruder_share"], "last": most["label"]}
            yield Sentence("intruders-most", {**common, **values})
        times = [value for side in _SIDES for value in _known(own, f"{side}_times")]
        if times:
            values = {"low": min(times), "high": max(times)}
            yield Sentence("intruders-principal", {**common, **values})


def _sentences(rows: Sequence[Row]) -> Iterator[Sentence]:
    for model, own in grouped(rows, lambda row: str(row["model"])).items():
        common = {"model": model, "top": own[0]["top"], "epsilon": own[0]["epsilon"]}
        yield from _compared(own, "intruder_share", "intruder_spread", "intruders-count", common)
        for side in _SIDES:
            times = _known(own, f"{side}_times")
            values = {**common, "times_low": min(times), "times_high": max(times)} if times else {}
            if values:
                key = f"intruders-{side}"
                yield from _compared(own, f"share_{side}", f"{side}_spread", key, values)


def _compared(
    rows: Rows, column: str, spread: str, key: str, values: dict[str, Any]
) -> Iterator[Sentence]:
    """The recipes with the least and the most of a share, and the most that two seeds differ."""
    known = sorted(
        (row for row in rows if row[column] is not None), key=lambda row: float(row[column])
    )
    if not known:
        return
    first, last = known[0], known[-1]
    ends = {"low": first[column], "first": first["label"]}
    ends |= {"high": last[column], "last": last["label"]}
    spreads = _known(known, spread)
    seeds = Sentence("intruders-spread", {"spread": max(spreads)}) if spreads else ""
    yield Sentence(key, {**values, **ends, "seeds": seeds})
