"""Is it the method, the data, the seed or the learning rate? Shares of variance.

Model: responses, each over the models of one base model:
    log_l2           log L2 of the task vector                       one observation a model
    log_relative_l2  log of L2 over that of the base's weights       one observation a model
    cosine           cosine of two task vectors                      one observation a pair
The first two have the factors method, data, learning rate, parent and seed, and what else the
study's recipes vary; a pair has, for each group of them that can be told apart, whether its two
models agree in it. Each is analysed as a whole, by layer and by module kind
(`raylab.report.findings.variance`). Pairs share models, so that cosines have shares and no
intervals.
Invariant: factors that the design cannot tell apart are one row under both names; a factor that
was not varied has no row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.report.findings.caveats import caveats_of
from raylab.report.findings.design import Levels, design_of
from raylab.report.findings.finding import FACTORS, Finding, Sentence, Tables, finite
from raylab.report.findings.seed_tables import VIEW
from raylab.report.findings.trained_models import Model, by_base, models_of, varied_settings
from raylab.report.findings.variance import Analysis, analyse

LEVELS = ("all", "layer", "module")
MEASURES = {"log_l2": "l2", "log_relative_l2": "relative_l2"}
FACTOR_MARK = "+"


@dataclass(frozen=True)
class Response:
    """What varies: observations of one response at one place."""

    name: str
    level: str
    key: str
    levels: Levels
    values: Sequence[float]


def attribution(tables: Tables) -> Finding:
    """Shares of variance of every response, over every base model."""
    models = models_of(tables)
    rows: list[dict[str, Any]] = []
    headline: list[Sentence] = []
    said: list[Sentence] = []
    for base, mine in by_base(models).items():
        for response in (*_norm_responses(tables, mine), *_cosine_responses(tables, mine)):
            found = analyse(response.levels, response.values, independent=response.name != "cosine")
            if found is None:
                continue
            rows += _rows(base, response, found)
            if response.level == "all":
                sentence = _sentence(base, response, found)
                answers = response.name == "log_l2" and found.residual_df > 0
                (headline if answers else said).append(sentence)
        said += _design_sentences(base, mine)
    if not rows:
        said.append(Sentence("attribution.nothing", {}, "unknown"))
    frames = {"attribution": rows}
    return Finding("attribution", tuple(headline), tuple(said), caveats_of(models), frames)


def factor_levels(models: Sequence[Model]) -> Levels:
    """By factor, and by setting that is varied: its level in each model."""
    factors = {name: [model.factors[name] for model in models] for name in FACTORS}
    settings = {n: [repr(m.settings.get(n)) for m in models] for n in varied_settings(models)}
    return {**factors, **settings}


def _norm_responses(tables: Tables, models: Sequence[Model]) -> Iterator[Response]:
    if models:
        levels = factor_levels(models)
        yield Response("log_l2", "all", "all", levels, [math.log(model.l2) for model in models])
    base = models[0].base_model
    names = {model.name: model for model in models}
    for level in LEVELS:
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for row in tables.norms(level):
            if row["a"] in names and row["b"] == base:
                groups.setdefault(row["key"], []).append(row)
        for (key, found), (name, column) in itertools.product(groups.items(), MEASURES.items()):
            if (name, level) != ("log_l2", "all"):
                yield from _measured(name, column, level, key, found, names)


def _measured(
    name: str,
    column: str,
    level: str,
    key: str,
    rows: Sequence[Mapping[str, Any]],
    names: Mapping[str, Model],
) -> Iterator[Response]:
    """The response of all models at one place; none where one of them was not measured."""
    values = [finite(row[column]) for row in rows]
    if len(rows) == len(names) and all(values):
        levels = factor_levels([names[row["a"]] for row in rows])
        yield Response(name, level, key, levels, [math.log(value) for value in values if value])


def _cosine_responses(tables: Tables, models: Sequence[Model]) -> Iterator[Response]:
    names = {model.name: model for model in models}
    for level in LEVELS:
        table = tables.arrow("pairs", view=VIEW, level=level).select(["a", "b", "key", "cosine"])
        # A pair has a row for each density, and one cosine.
        groups: dict[str, dict[tuple[str, str], float]] = {}
        for a, b, key, value in zip(*(c.to_pylist() for c in table.columns), strict=True):
            if a in names and b in names and finite(value) is not None:
                groups.setdefault(key, {})[a, b] = value
        for key, found in groups.items():
            shared = _shared(names, found)
            yield Response("cosine", level, key, shared, list(found.values()))


def _shared(names: Mapping[str, Model], pairs: Iterable[tuple[str, str]]) -> Levels:
    """By group of factors that the models' design cannot tell apart: whether two models agree."""
    models = list(names.values())
    places = {name: place for place, name in enumerate(names)}
    levels = factor_levels(models)
    return {
        FACTOR_MARK.join(group): [
            all(levels[name][places[a]] == levels[name][places[b]] for name in group)
            for a, b in pairs
        ]
        for group in design_of(levels).groups
    }


def _rows(base: str, response: Response, found: Analysis) -> Iterator[dict[str, Any]]:
    head = {"model": base, "response": response.name, "level": response.level, "key": response.key}
    tail = {"observations": found.observations, "residual_df": found.residual_df}
    for part in found.parts:
        yield {
            **head,
            "factor": FACTOR_MARK.join(part.group),
            "df": part.df,
            "sum_squares": part.sum_squares,
            "share": part.share,
            "partial_share": part.partial_share,
            "low": part.low,
            "high": part.high,
            **tail,
        }
    for name, share in (("residual", found.residual_share), ("unassigned", found.unassigned)):
        yield {**head, "factor": name, "share": share, **tail}


def _sentence(base: str, response: Response, found: Analysis) -> Sentence:
    parts = sorted(found.parts, key=lambda part: -part.share)
    values = {
        "model": base,
        "response": response.name,
        "parts": tuple((FACTOR_MARK.join(part.group), part.share) for part in parts),
        "residual": found.residual_share,
        "unassigned": found.unassigned,
        "observations": found.observations,
    }
    key = "attribution.shares" if found.residual_df > 0 else "attribution.saturated"
    return Sentence(key, values)


def _design_sentences(base: str, models: Sequence[Model]) -> Iterator[Sentence]:
    design = design_of(factor_levels(models))
    for group in design.inseparable:
        yield Sentence("attribution.inseparable", {"model": base, "factors": group}, "fair")
    if design.constant:
        yield Sentence("attribution.constant", {"model": base, "factors": design.constant})
