"""Which models are close to each other? A map in two dimensions for each distance.

Model: N models of which every distance d was measured are placed by classical scaling (Torgerson
1952; Borg and Groenen 2005, chapter 12): of

    B = -1/2 J D J,    J = I - 1/N,    D the squared distances,

the two eigenvectors of the largest eigenvalues, each times the root of its eigenvalue, are x and
y. What a map cannot show is its stress (Kruskal 1964, stress-1), over all pairs with e their
distance in the map:

    stress = sqrt(sum (d - e)^2 / sum d^2)

Distances are rows of DISTANCES, out of the spaces of `raylab.report.findings.spaces`:

    delta     L2 of the difference of both task vectors
    where     sqrt(1 - overlap) of the output sides: the root mean squared sine of the principal
              angles, and for spaces of equal dimensions k |P - Q|_F / sqrt(2 k) of their projectors
    function  sqrt of the KL divergence of the predictions, the mean of both directions

Invariant: the same tables give the same map: the entry of the largest magnitude of each axis is
positive. A model of which some distance was not measured is left out of that map, and counted.
Silhouettes are those of the distances, not of the map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.similarity import APART, MIN_MODELS, complete_models, silhouette
from raylab.report.findings.spaces import SPACES
from raylab.report.findings.statistics import mean, ratio_of
from raylab.report.findings.trained_models import (
    Model,
    at_other_seeds,
    by_base_model,
    by_recipe,
    factors_of,
    labels_of,
    models_of,
)
from raylab.report.study_tables import Tables

DISTANCES: Mapping[str, Callable[[float], float]] = {
    "delta": lambda distance: distance,
    "where": lambda overlap: math.sqrt(max(1 - overlap, 0.0)),
    "function": lambda divergence: math.sqrt(max(divergence, 0.0)),
}
"""By space: the distance that its value gives."""
ROUGH = 0.2
"""The stress from which on a map is poor (Kruskal 1964)."""
_DIGITS = 9
"""Of magnitudes within an axis: what differs by less is a tie."""


@dataclass(frozen=True)
class Map:
    """The distances float64 (N, N) of models in one space, and their places float64 (N, 2)."""

    space: str
    models: Sequence[Model]
    distances: np.ndarray
    places: np.ndarray

    @property
    def stress(self) -> float | None:
        """Kruskal's stress-1; None where all models are in one place."""
        return stress(self.distances, self.places)


def find(tables: Tables) -> Finding:
    """The maps of every base model, and what lies together in them."""
    frames: dict[str, list[dict[str, Any]]] = {"map": [], "map_distances": [], "map_factors": []}
    sentences: list[Sentence] = []
    for base, models in by_base_model(models_of(tables)).items():
        maps = list(_maps(tables, models))
        distances = [_distance_row(base, found) for found in maps]
        factors = [row for found in maps for row in _factor_rows(base, found)]
        frames["map"] += [row for found in maps for row in _model_rows(base, found)]
        frames["map_distances"] += distances
        frames["map_factors"] += factors
        closest = [row for row in factors if row["is_most"]]
        if closest:
            parts = tuple(
                Sentence("map-by" if row["is_apart"] else "map-by_none", dict(row))
                for row in closest
            )
            sentences.append(Sentence("map-groups", {"model": base, "parts": parts}))
        of_seeds = [row for row in distances if row["seed_share"] is not None]
        if of_seeds:
            parts = tuple(Sentence("map-seed", dict(row)) for row in of_seeds)
            sentences.append(Sentence("map-seeds", {"model": base, "parts": parts}))
        shown = [row for row in distances if row["stress"] is not None]
        if shown:
            parts = tuple(Sentence("map-stress_of", dict(row)) for row in shown)
            is_rough = any(row["stress"] >= ROUGH for row in shown)
            values = {"model": base, "parts": parts}
            sentences.append(Sentence("map-stress", values, "fair" if is_rough else ""))
        for row in distances:
            if row["models"] < len(models):
                left_out = {"count": len(models) - row["models"], "total": len(models)}
                sentences.append(Sentence("map-left_out", {**row, **left_out}, "fair"))
    if not frames["map"]:
        sentences.append(Sentence("map-nothing", {}, "unknown"))
    return Finding.of("map", sentences, frames)


def _maps(tables: Tables, models: Sequence[Model]) -> Iterator[Map]:
    """A map for each distance that three models or more have measured completely."""
    for key, distance_of in DISTANCES.items():
        space = SPACES[key](tables, models)
        kept = complete_models(models, space.values.keys())
        if len(kept) < MIN_MODELS:
            continue
        distances = np.zeros((len(kept), len(kept)))
        for (i, a), (j, b) in itertools.combinations(enumerate(kept), 2):
            value = space.values[frozenset((a.name, b.name))]
            distances[i, j] = distances[j, i] = distance_of(value)
        yield Map(key, kept, distances, classical_scaling(distances))


def classical_scaling(distances: np.ndarray) -> np.ndarray:
    """Places float64 (N, 2) of N things with symmetric distances float64 (N, N), N >= 2."""
    squares = distances**2
    centred = squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    # In the order of eigh the largest come last.
    axes = vectors[:, [-1, -2]] * np.sqrt(np.clip(values[[-1, -2]], 0, None))
    for axis in axes.T:
        largest = np.abs(axis).max()
        if largest > 0:
            leading = np.round(np.abs(axis) / largest, _DIGITS).argmax()
            axis *= np.sign(axis[leading])
    return np.asarray(axes)


def stress(distances: np.ndarray, places: np.ndarray) -> float | None:
    """Kruskal's stress-1 of places (N, 2) against distances (N, N); None where these are zero."""
    shown = np.linalg.norm(places[:, None] - places, axis=2)
    pairs = np.triu_indices(len(distances), 1)
    total = float((distances[pairs] ** 2).sum())
    missed = float(((distances - shown)[pairs] ** 2).sum())
    return math.sqrt(missed / total) if total else None


def _model_rows(base: str, found: Map) -> Iterator[dict[str, Any]]:
    labels, how_rough = labels_of(found.models), found.stress
    for model, (x, y) in zip(found.models, found.places, strict=True):
        yield {
            "model": base,
            "name": model.name,
            "recipe": model.recipe,
            "label": f"{labels[model.recipe]}, {model.seed}",
            **model.factors,
            "space": found.space,
            "x": float(x),
            "y": float(y),
            "stress": how_rough,
        }


def _distance_row(base: str, found: Map) -> dict[str, Any]:
    """One map: its stress, and how far two models, and two seeds of a recipe, are apart."""
    index = {model.name: place for place, model in enumerate(found.models)}
    of_seeds = [
        float(found.distances[index[a.name], index[b.name]])
        for seeds in by_recipe(found.models).values()
        for a, b in at_other_seeds(list(itertools.combinations(seeds, 2)))
    ]
    pairs = found.distances[np.triu_indices(len(index), 1)]
    whole, between_seeds = mean(pairs.tolist()), mean(of_seeds)
    return {
        "model": base,
        "space": found.space,
        "models": len(found.models),
        "stress": found.stress,
        "mean_distance": whole,
        "seed_distance": between_seeds,
        "seed_pairs": len(of_seeds),
        "seed_share": ratio_of(between_seeds, whole),
    }


def _factor_rows(base: str, found: Map) -> list[dict[str, Any]]:
    """The silhouette of every factor; `is_most` marks the first that has the largest."""
    silhouettes: dict[str, tuple[int, float]] = {}
    for factor in factors_of(found.models):
        levels = [model.factors[factor] for model in found.models]
        value = silhouette(found.distances, levels)
        if value is not None:
            silhouettes[factor] = (len(set(levels)), value)
    most = max(silhouettes, key=lambda factor: silhouettes[factor][1], default="")
    return [
        {
            "model": base,
            "space": found.space,
            "factor": factor,
            "levels": levels,
            "silhouette": value,
            "is_most": factor == most,
            "is_apart": value >= APART,
        }
        for factor, (levels, value) in silhouettes.items()
    ]
