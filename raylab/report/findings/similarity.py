"""Which models moved alike? Signed cosines of all pairs, clustered.

Model: similarity is the cosine of two task vectors; the order of models is that of the leaves of
average linkage over 1 - cosine, turned by scipy's `optimal_ordering` so that neighbours are alike.
Whether models of one level of a factor lie together is told by the mean silhouette (Rousseeuw
1987) over those levels that have two models or more:

    s(i) = (b - a) / max(a, b)

with a the mean distance of i to its own level, b the least mean distance to another level.
Seeds stay together where a model's most similar one is its own recipe at another seed.
Invariant: a matrix is symmetric with ones on its diagonal; models of which a pair was not
measured are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from raylab.report.findings.caveats import caveats_of
from raylab.report.findings.finding import (
    FACTORS,
    Finding,
    Grade,
    Sentence,
    Tables,
    finite,
    mean,
    over,
)
from raylab.report.findings.seed_tables import VIEW, Row
from raylab.report.findings.trained_models import Model, by_base, labels_of, models_of

APART = 0.5
"""A mean silhouette from which on levels lie apart; below, structure is weak or none (Kaufman and
Rousseeuw 1990, section 2.2)."""


def similarity(tables: Tables) -> Finding:
    """The matrices of every base model, their order, and what lies together."""
    models = models_of(tables)
    frames: dict[str, list[dict[str, Any]]] = {"similarity": [], "neighbours": [], "silhouette": []}
    headline: list[Sentence] = []
    said: list[Sentence] = []
    rows = _least_density(tables.rows("pairs", view=VIEW, level="all"))
    for base, mine in by_base(models).items():
        complete = _complete(mine, rows)
        if len(complete) < 3:
            continue
        cosines = matrix_of(complete, rows)
        order = order_of(cosines)
        frames["similarity"] += _pair_rows(base, complete, order, rows)
        neighbours = list(_neighbour_rows(base, complete, cosines, order))
        shapes = list(_silhouette_rows(base, complete, cosines))
        frames["neighbours"] += neighbours
        frames["silhouette"] += shapes
        headline += _seeds_together(base, neighbours, complete, cosines)
        said += _sentences(base, shapes)
        if len(complete) < len(mine):
            values = {"model": base, "count": len(mine) - len(complete), "total": len(mine)}
            said.append(Sentence("similarity.left_out", values, "fair"))
    if not frames["similarity"]:
        said.append(Sentence("similarity.nothing", {}, "unknown"))
    return Finding("similarity", tuple(headline), tuple(said), caveats_of(models), frames)


def matrix_of(models: Sequence[Model], rows: Sequence[Row]) -> np.ndarray:
    """Cosines float64 (N, N) of models of which every pair has a row."""
    places = {model.name: place for place, model in enumerate(models)}
    found = np.eye(len(models))
    for row in rows:
        i, j = places.get(row["a"]), places.get(row["b"])
        if i is not None and j is not None:
            found[i, j] = found[j, i] = row["cosine"]
    return found


def order_of(cosines: np.ndarray) -> list[int]:
    """The models in the order of the leaves of their clustering."""
    distances = squareform(np.clip(1 - cosines, 0, 2), checks=False)
    tree = hierarchy.linkage(distances, "average", optimal_ordering=True)
    return [int(place) for place in hierarchy.leaves_list(tree)]


def silhouette(distances: np.ndarray, labels: Sequence[Any]) -> float | None:
    """The mean silhouette of all members of labels that have two or more; None below two labels."""
    names = [name for name in dict.fromkeys(labels) if list(labels).count(name) > 1]
    if len(names) < 2:
        return None
    found = np.asarray([names.index(name) if name in names else -1 for name in labels])
    values = []
    for i in np.flatnonzero(found >= 0):
        means = [distances[i, (found == g) & (np.arange(len(found)) != i)].mean()
                 for g in range(len(names))]  # fmt: skip
        own, other = means[found[i]], min(m for g, m in enumerate(means) if g != found[i])
        larger = max(own, other)
        values.append((other - own) / larger if larger > 0 else 0.0)
    return mean([float(value) for value in values])


def _least_density(rows: Sequence[Row]) -> list[Row]:
    """The rows of the smallest density, which every pair has once."""
    found = sorted({row["density"] for row in rows if row["density"] is not None})
    return [row for row in rows if not found or row["density"] in (found[0], None)]


def _complete(models: Sequence[Model], rows: Sequence[Row]) -> list[Model]:
    """The models of which every pair has a cosine; those with the fewest go first."""
    known = {frozenset((r["a"], r["b"])) for r in rows if finite(r["cosine"]) is not None}
    kept = list(models)

    def missing(model: Model) -> int:
        return sum(frozenset((model.name, o.name)) not in known for o in kept if o is not model)

    while kept:
        worst = max(kept, key=missing)
        if not missing(worst):
            break
        kept.remove(worst)
    return kept


def _pair_rows(
    base: str, models: Sequence[Model], order: Sequence[int], rows: Sequence[Row]
) -> list[dict[str, Any]]:
    places = {models[index].name: place for place, index in enumerate(order)}
    return [
        {
            "model": base,
            "a": row["a"],
            "b": row["b"],
            "place_a": places[row["a"]],
            "place_b": places[row["b"]],
            "cosine": row["cosine"],
            "sign_agreement": row["sign_agreement"],
            "density": row["density"],
            "overlap": row["overlap"],
            "overlap_by_chance": row["overlap_by_chance"],
            "over_chance": over(row["overlap"], row["overlap_by_chance"]),
        }
        for row in rows
        if row["a"] in places and row["b"] in places
    ]


def _neighbour_rows(
    base: str, models: Sequence[Model], cosines: np.ndarray, order: Sequence[int]
) -> Iterator[dict[str, Any]]:
    labels, others = labels_of(models), cosines - 3 * np.eye(len(models))
    for place, index in enumerate(order):
        model, nearest = models[index], models[int(others[index].argmax())]
        yield {
            "model": base,
            "name": model.name,
            "label": f"{labels[model.stem]}, {model.seed}",
            "place": place,
            **model.factors,
            "nearest": nearest.name,
            "cosine": float(others[index].max()),
            "same_recipe": nearest.stem == model.stem,
            "same_seed": nearest.seed == model.seed,
        }


def _silhouette_rows(
    base: str, models: Sequence[Model], cosines: np.ndarray
) -> Iterator[dict[str, Any]]:
    distances = np.clip(1 - cosines, 0, 2)
    for factor in FACTORS:
        labels = [model.factors[factor] for model in models]
        value = silhouette(distances, labels)
        if value is None:
            continue
        same, off = np.equal.outer(labels, labels), ~np.eye(len(models), dtype=bool)
        yield {
            "model": base,
            "factor": factor,
            "levels": len(set(labels)),
            "silhouette": value,
            "within": float(cosines[same & off].mean()),
            "between": float(cosines[~same].mean()),
        }


def _seeds_together(
    base: str, rows: Sequence[Mapping[str, Any]], models: Sequence[Model], cosines: np.ndarray
) -> Iterator[Sentence]:
    """Do seeds of a recipe stay together?"""
    stems = np.asarray([model.stem for model in models], object)
    seeds = np.asarray([model.seed for model in models])
    same_stem, same_seed = np.equal.outer(stems, stems), np.equal.outer(seeds, seeds)
    siblings, housemates = same_stem & ~same_seed, same_seed & ~same_stem
    with_sibling = siblings.any(axis=1)
    if not siblings.any() or not housemates.any():
        return
    together = sum(row["same_recipe"] for row in rows)
    values = {
        "model": base,
        "together": together,
        "total": int(with_sibling.sum()),
        "recipe": float(cosines[siblings].mean()),
        "seed": float(cosines[housemates].mean()),
    }
    most: Grade = "good" if together > values["total"] / 2 else "bad"
    key = "similarity.seeds_together" if most == "good" else "similarity.seeds_apart"
    yield Sentence(key, values, most)


def _sentences(base: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Sentence]:
    for row in rows:
        apart = row["silhouette"] >= APART
        key = "similarity.apart" if apart else "similarity.mixed"
        yield Sentence(key, dict(row), "good" if apart else "")
