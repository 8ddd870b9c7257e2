"""Where in the network models part, and the tokens at which they part most.

Model: the likeness of two models at a layer is the CKA of their hidden states (table cka), the
mean over data sets by their tokens. For each factor it is the mean over pairs of models whose
recipes differ in the factor alone, at different seeds; beside it stands that of two seeds of one
recipe (`raylab.report.findings.effects` has the same pairs). Of each comparison of two trained
models, tokens are the rows of differing_tokens.
Invariant: a layer has a row for each factor of which a pair was measured there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.spaces import Pair
from raylab.report.findings.statistics import mean
from raylab.report.findings.trained_models import (
    Model,
    by_base_model,
    by_recipe,
    differ_in,
    labels_of,
    models_of,
    one_factor_pairs,
    recipes_of,
    varied_parts,
)
from raylab.report.study_tables import Row, Rows, Tables, finite, grouped

_TOKENS = ("data", "answers", "prompt", "position", "token", "kl", "p_a", "p_b", "top_a", "top_b")


def find(tables: Tables) -> Finding:
    """The likeness of every layer for every factor, and the tokens that differ most."""
    models = models_of(tables)
    layers: list[dict[str, Any]] = []
    tokens: list[dict[str, Any]] = []
    answer: list[Sentence] = []
    details: list[Sentence] = []
    for base, of_base in by_base_model(models).items():
        found = list(_layer_rows(base, of_base, _likeness(tables, of_base)))
        of_tokens = list(_token_rows(base, of_base, tables["differing_tokens"]))
        layers, tokens = layers + found, tokens + of_tokens
        sentences = list(_layer_sentences(base, found))
        answer += [*sentences[:1], *_token_sentences(of_tokens)]
        details += sentences[1:]
    if not answer:
        answer.append(Sentence("functions-nothing", {}, "unknown"))
    frames = {"cka_by_layer": layers, "tokens": tokens}
    return Finding("functions", tuple(answer), tuple(details), frames=frames)


def _likeness(tables: Tables, models: Sequence[Model]) -> dict[int, dict[Pair, float]]:
    """By layer and pair: the mean CKA over data sets, by tokens."""
    names = {model.name for model in models}
    rows = [r for r in tables["cka"] if {r["a"], r["b"]} <= names and finite(r["cka"]) is not None]
    groups = grouped(rows, lambda row: (int(row["layer"]), frozenset((row["a"], row["b"]))))
    found: dict[int, dict[Pair, float]] = {}
    for (layer, pair), of_pair in groups.items():
        tokens = sum(row["tokens"] for row in of_pair)
        value = math.fsum(row["tokens"] * row["cka"] for row in of_pair) / tokens
        found.setdefault(layer, {})[pair] = value
    return dict(sorted(found.items()))


def _layer_rows(
    base: str, models: Sequence[Model], likeness: Mapping[int, Mapping[Pair, float]]
) -> Iterator[dict[str, Any]]:
    are_unlike = differ_in(varied_parts(models))

    def unlike(pairs: Iterator[tuple[Model, Model]]) -> list[Pair]:
        return [frozenset((x.name, y.name)) for x, y in pairs if are_unlike(x, y)]

    of_factor = {
        factor: (
            unlike((x, y) for pair in pairs for x in pair.a for y in pair.b),
            recipes_of(pairs),
        )
        for factor, pairs in grouped(one_factor_pairs(models), lambda pair: pair.factor).items()
    }
    seeds = by_recipe(models)
    within = {r: unlike(itertools.combinations(found, 2)) for r, found in seeds.items()}
    for layer, values in likeness.items():
        for factor, (pairs, recipes) in of_factor.items():
            between = [values[pair] for pair in pairs if pair in values]
            of_seeds = [values[p] for recipe in recipes for p in within[recipe] if p in values]
            if between:
                yield {
                    "model": base,
                    "factor": factor,
                    "layer": layer,
                    "cka": mean(between),
                    "seeds_cka": mean(of_seeds),
                    "pairs": len(between),
                    "seed_pairs": len(of_seeds),
                }


def _layer_sentences(base: str, rows: Rows) -> Iterator[Sentence]:
    """For each factor the layer at which models are least alike, the least alike first."""
    of_factors = grouped(rows, lambda row: str(row["factor"])).values()
    found = [min(of_factor, key=lambda row: row["cka"]) for of_factor in of_factors]
    for least in sorted(found, key=lambda row: row["cka"]):
        values = {key: least[key] for key in ("factor", "layer", "cka", "seeds_cka")}
        last = max(row["layer"] for row in rows)
        yield Sentence("functions-layer", {"model": base, "last": last, **values})


def _token_sentences(rows: Rows) -> Iterator[Sentence]:
    """The token at which two models' predictions differ most."""
    known = [row for row in rows if finite(row["kl"]) is not None]
    if known:
        most = max(known, key=lambda row: float(row["kl"]))
        yield Sentence("functions-token", {key: most[key] for key in ("model", "label", "kl")})


def _token_rows(base: str, models: Sequence[Model], rows: Rows) -> Iterator[dict[str, Any]]:
    """The tokens of every comparison of two trained models, with a short name for it."""
    labels, by_name = labels_of(models), {model.name: model for model in models}

    def title(row: Row) -> str:
        sides = [by_name[row["a"]], by_name[row["b"]]]
        return " vs ".join(f"{labels[side.recipe]}, {side.seed.level}" for side in sides)

    for row in rows:
        if row["a"] in by_name and row["b"] in by_name:
            yield {"model": base, "label": title(row), **{key: row[key] for key in _TOKENS}}
