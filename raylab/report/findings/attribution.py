"""Is it the method, the data, the seed or the learning rate? Shares of variance.

Model: responses, each over the models of one base model:
    log_l2           log L2 of the task vector                       one observation a model
    log_relative_l2  log of L2 over that of the base's weights       one observation a model
    cosine           cosine of two task vectors                      one observation a pair
The first two have the factors method, data, learning rate, parent and seed (the seeds of A, order
and dropout where they are not one number), and the settings that the study's recipes vary. A pair
has, for each group of factors that can be separated, whether its two models agree in it. Each
response is analysed as a whole, by layer and by module kind
(`raylab.report.findings.variance`). Pairs share models, so that cosines have shares and no
intervals.
Invariant: factors that the design cannot tell apart are one row under both names; a factor that
was not varied has no row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.report.findings.design import Levels, design_of
from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.trained_models import (
    SEPARATOR,
    Model,
    by_base_model,
    factors_of,
    models_of,
)
from raylab.report.findings.variance import Analysis, analyse
from raylab.report.study_tables import VIEW, Tables, finite, grouped

LEVELS = ("all", "layer", "module")
MEASURES = {"log_l2": "l2", "log_relative_l2": "relative_l2"}


@dataclass(frozen=True)
class Response:
    """The observations of one response at one level and key of the norms or the pairs table."""

    name: str
    level: str
    key: str
    levels: Levels
    values: Sequence[float]


def find(tables: Tables) -> Finding:
    """Shares of variance of every response, over every base model."""
    models = models_of(tables)
    rows: list[dict[str, Any]] = []
    answer: list[Sentence] = []
    details: list[Sentence] = []
    for base, of_base in by_base_model(models).items():
        for response in (*_norm_responses(tables, of_base), *_cosine_responses(tables, of_base)):
            independent = response.name != "cosine"
            analysis = analyse(response.levels, response.values, independent=independent)
            if analysis is None:
                continue
            rows += _rows(base, response, analysis)
            if response.level == "all":
                answers = response.name == "log_l2"
                sentence = _sentence(base, response, analysis)
                (answer if answers else details).append(sentence)
        design = design_of(factor_levels(of_base))
        if design.constant:
            values = {"model": base, "factors": design.constant}
            details.append(Sentence("attribution-constant", values))
    if not rows:
        answer.append(Sentence("attribution-nothing", {}, "unknown"))
    frames = {"attribution": rows}
    cautions = tuple(caution_sentences(models))
    return Finding("attribution", tuple(answer), tuple(details), cautions, frames)


def caution_sentences(models: Sequence[Model]) -> Iterator[Sentence]:
    """The factors of each base model that the design does not separate."""
    for base, of_base in by_base_model(models).items():
        for group in design_of(factor_levels(of_base)).inseparable:
            values = {"model": base, "factors": group}
            yield Sentence("attribution-inseparable", values, "fair")


def factor_levels(models: Sequence[Model]) -> Levels:
    """By factor, and by setting that is varied: its level in each model.

    A setting is varied where the models that have use for it do not agree in it.
    """
    levels = {name: [model.factors[name] for model in models] for name in factors_of(models)}
    for name in dict.fromkeys(name for model in models for name in model.settings):
        values = [repr(model.settings.get(name)) for model in models]
        if len(set(values) - {"None"}) > 1:
            levels[name] = values
    return levels


def _norm_responses(tables: Tables, models: Sequence[Model]) -> Iterator[Response]:
    """The norm of the whole task vector from the trials table, the others from the norms table.

    A response in which one of the models was not measured is left out.
    """
    base = models[0].base_model
    by_name = {model.name: model for model in models}
    log_l2 = [math.log(model.l2) for model in models]
    yield Response("log_l2", "all", "all", factor_levels(models), log_l2)
    for level in LEVELS:
        rows = (r for r in tables.norms(level) if r["a"] in by_name and r["b"] == base)
        groups = grouped(rows, lambda row: str(row["key"]))
        for (key, of_key), name in itertools.product(groups.items(), MEASURES):
            values = [finite(row[MEASURES[name]]) for row in of_key]
            is_first = (name, level) == ("log_l2", "all")
            if not is_first and len(values) == len(models) and all(values):
                levels = factor_levels([by_name[row["a"]] for row in of_key])
                logs = [math.log(value) for value in values if value]
                yield Response(name, level, key, levels, logs)


def _cosine_responses(tables: Tables, models: Sequence[Model]) -> Iterator[Response]:
    """Cosines of pairs of models; a factor of a pair is whether both have the same level of it.

    The factors of a pair are the groups that the models' own design can tell apart.
    """
    levels = factor_levels(models)
    groups = design_of(levels).groups
    index = {model.name: place for place, model in enumerate(models)}
    for level in LEVELS:
        table = tables.arrow("pairs", view=VIEW, level=level).select(["a", "b", "key", "cosine"])
        # A pair has a row for each density, and one cosine.
        cosines: dict[str, dict[tuple[int, int], float]] = {}
        for a, b, key, value in zip(*(c.to_pylist() for c in table.columns), strict=True):
            if a in index and b in index and finite(value) is not None:
                cosines.setdefault(key, {})[index[a], index[b]] = value
        for key, pairs in cosines.items():
            same = {
                SEPARATOR.join(group): [
                    all(levels[name][a] == levels[name][b] for name in group) for a, b in pairs
                ]
                for group in groups
            }
            yield Response("cosine", level, key, same, list(pairs.values()))


def _rows(base: str, response: Response, analysis: Analysis) -> Iterator[dict[str, Any]]:
    head = {"model": base, "response": response.name, "level": response.level, "key": response.key}
    tail = {"observations": analysis.observations, "residual_df": analysis.residual_df}
    for part in analysis.parts:
        yield {
            **head,
            "factor": SEPARATOR.join(part.group),
            "df": part.df,
            "sum_squares": part.sum_squares,
            "share": part.share,
            "partial_share": part.partial_share,
            "low": part.low,
            "high": part.high,
            **tail,
        }
    yield {**head, "factor": "residual", "share": analysis.residual_share, **tail}
    yield {**head, "factor": "unassigned", "share": analysis.unassigned, **tail}


def _sentence(base: str, response: Response, analysis: Analysis) -> Sentence:
    parts = sorted(analysis.parts, key=lambda part: -part.share)
    values = {
        "model": base,
        "response": response.name,
        "parts": tuple((SEPARATOR.join(part.group), part.share) for part in parts),
        "residual": analysis.residual_share,
        "unassigned": analysis.unassigned,
        "observations": analysis.observations,
    }
    key = "attribution-shares" if analysis.residual_df > 0 else "attribution-saturated"
    return Sentence(key, values)
