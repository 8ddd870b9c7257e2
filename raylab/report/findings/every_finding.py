"""The questions that a report answers: each is a row of FINDINGS and a function `find`."""

from __future__ import annotations

from collections.abc import Callable

from raylab.report.findings import (
    attribution,
    by_layer,
    chains,
    concentration,
    connectivity,
    effects,
    entries,
    intruders,
    merges,
    model_map,
    over_seeds,
    predictions,
    reliability,
    seed_baseline,
    similarity,
    trajectories,
)
from raylab.report.findings.finding import Finding
from raylab.report.study_tables import Tables, base_models_of

FINDINGS: dict[str, Callable[[Tables], Finding]] = {
    "effects": effects.find,
    "floor": seed_baseline.find,
    "seeds": over_seeds.find,
    "attribution": attribution.find,
    "similarity": similarity.find,
    "map": model_map.find,
    "where": by_layer.find,
    "functions": predictions.find,
    "concentration": concentration.find,
    "entries": entries.find,
    "intruders": intruders.find,
    "chains": chains.find,
    "paths": trajectories.find,
    "connectivity": connectivity.find,
    "merges": merges.find,
    "trust": reliability.find,
}
"""By key, in the order of the report: the function from tables to the finding.

Keys are names of tables and of words, and stay."""


def find_all(tables: Tables) -> dict[str, Finding]:
    """Every finding of a study, by key; its sentences name the base model where there are two."""
    found = {key: find(tables) for key, find in FINDINGS.items()}
    if len(base_models_of(tables)) > 1:
        return found
    return {key: finding.without_base_model() for key, finding in found.items()}
