"""Which models moved alike? Signed cosines of all pairs, clustered.

Model: similarity is the cosine of two task vectors; the order of models is that of the leaves of
average linkage over 1 - cosine, turned by scipy's `optimal_ordering` so that neighbours are alike.
Whether models of one level of a factor lie together is measured by the mean silhouette (Rousseeuw
1987) over those levels that have two models or more:

    s(i) = (b - a) / max(a, b)

with a the mean distance of i to its own level, b the least mean distance to another level.
The other likenesses of the same pairs (signs, masks, output sides, predictions) stand beside it.
Seeds stay together where a model's most similar one is its own recipe at another seed.
Invariant: a matrix is symmetric with ones on its diagonal; models of which a pair was not
measured are left out, and counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.spaces import SPACES, Pair
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
from raylab.report.study_tables import VIEW, Rows, Tables, finite

MIN_MODELS = 3
APART = 0.5
"""A mean silhouette from which on levels lie apart; below, structure is weak or none (Kaufman and
Rousseeuw 1990, section 2.2)."""


def find(tables: Tables) -> Finding:
    """The matrices of every base model, their order, and which models lie together."""
    models = models_of(tables)
    frames: dict[str, list[dict[str, Any]]] = {"similarity": [], "neighbours": [], "silhouette": []}
    answer: list[Sentence] = []
    details: list[Sentence] = []
    rows = tables.rows("pairs", view=VIEW, level="all")
    densities = sorted({row["density"] for row in rows if row["density"] is not None})
    # Every pair has one row at the smallest density.
    rows = [r for r in rows if not densities or r["density"] in (densities[0], None)]
    rows = [row for row in rows if finite(row["cosine"]) is not None]
    for base, of_base in by_base_model(models).items():
        complete = complete_models(of_base, {frozenset((r["a"], r["b"])) for r in rows})
        if len(complete) < MIN_MODELS:
            continue
        cosines = cosine_matrix(complete, rows)
        order = leaf_order(cosines)
        neighbours = list(_neighbour_rows(base, complete, cosines, order))
        silhouettes = list(_silhouette_rows(base, complete, cosines))
        frames["similarity"] += _pair_rows(tables, [complete[i] for i in order], rows)
        frames["neighbours"] += neighbours
        frames["silhouette"] += silhouettes
        groups = list(_group_sentences(silhouettes))
        answer += [*_seeds_together(neighbours, complete, cosines), *groups[:1]]
        details += [*_side_sentences(tables, complete), *groups[1:]]
        if len(complete) < len(of_base):
            left_out = len(of_base) - len(complete)
            values = {"model": base, "count": left_out, "total": len(of_base)}
            details.append(Sentence("similarity-left_out", values, "fair"))
    if not frames["similarity"]:
        answer.append(Sentence("similarity-nothing", {}, "unknown"))
    return Finding("similarity", tuple(answer), tuple(details), frames=frames)


def complete_models(models: Sequence[Model], known: Collection[Pair]) -> list[Model]:
    """The models of which every pair is known; those with the fewest are left out first."""
    kept = list(models)

    def missing(model: Model) -> int:
        return sum(frozenset((model.name, o.name)) not in known for o in kept if o is not model)

    while kept:
        worst = max(kept, key=missing)
        if not missing(worst):
            break
        kept.remove(worst)
    return kept


def cosine_matrix(models: Sequence[Model], rows: Rows) -> np.ndarray:
    """Cosines float64 (N, N) of models of which every pair has a row."""
    index = {model.name: i for i, model in enumerate(models)}
    cosines = np.eye(len(models))
    for row in rows:
        i, j = index.get(row["a"]), index.get(row["b"])
        if i is not None and j is not None:
            cosines[i, j] = cosines[j, i] = row["cosine"]
    return cosines


def leaf_order(cosines: np.ndarray) -> list[int]:
    """The models in the order of the leaves of their clustering."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    distances = squareform(np.clip(1 - cosines, 0, 2), checks=False)
    tree = hierarchy.linkage(distances, "average", optimal_ordering=True)
    return [int(leaf) for leaf in hierarchy.leaves_list(tree)]


def silhouette(distances: np.ndarray, labels: Sequence[Any]) -> float | None:
    """The mean silhouette of all members of labels that have two or more; None below two labels."""
    names = [name for name in dict.fromkeys(labels) if list(labels).count(name) > 1]
    if len(names) < 2:
        return None
    label = np.asarray([names.index(name) if name in names else -1 for name in labels])
    values = []
    for i in np.flatnonzero(label >= 0):
        others = np.arange(len(label)) != i
        means = [distances[i, (label == g) & others].mean() for g in range(len(names))]
        a, b = means[label[i]], min(m for g, m in enumerate(means) if g != label[i])
        values.append(float((b - a) / max(a, b)) if max(a, b) > 0 else 0.0)
    return mean(values)


def _pair_rows(tables: Tables, order: Sequence[Model], rows: Rows) -> list[dict[str, Any]]:
    """The pairs of the models that the matrix is of, with their places in the order."""
    places = {model.name: place for place, model in enumerate(order)}
    where, function = (SPACES[key](tables, order) for key in ("where", "function"))
    return [
        {
            "model": order[0].base_model,
            "a": row["a"],
            "b": row["b"],
            "place_a": places[row["a"]],
            "place_b": places[row["b"]],
            "cosine": row["cosine"],
            "sign_agreement": row["sign_agreement"],
            "density": row["density"],
            "overlap": row["overlap"],
            "overlap_by_chance": row["overlap_by_chance"],
            "over_chance": ratio_of(row["overlap"], row["overlap_by_chance"]),
            "output_overlap": where.values.get(pair),
            "output_by_chance": where.chance.get(pair),
            "divergence": function.values.get(pair),
        }
        for row in rows
        for pair in [frozenset((row["a"], row["b"]))]
        if row["a"] in places and row["b"] in places
    ]


def _neighbour_rows(
    base: str, models: Sequence[Model], cosines: np.ndarray, order: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Every model with the one that is most similar to it, in the order of the clustering."""
    # Below -1, so that no model is its own neighbour.
    labels, others = labels_of(models), cosines - 3 * np.eye(len(models))
    for place, i in enumerate(order):
        model, nearest = models[i], models[int(others[i].argmax())]
        yield {
            "model": base,
            "name": model.name,
            "label": f"{labels[model.recipe]}, {model.seed}",
            "place": place,
            **model.factors,
            "nearest": nearest.name,
            "cosine": float(others[i].max()),
            "same_recipe": nearest.recipe == model.recipe,
            "same_seed": nearest.seed == model.seed,
        }


def _silhouette_rows(
    base: str, models: Sequence[Model], cosines: np.ndarray
) -> Iterator[dict[str, Any]]:
    distances, off_diagonal = np.clip(1 - cosines, 0, 2), ~np.eye(len(models), dtype=bool)
    for factor in factors_of(models):
        levels = [model.factors[factor] for model in models]
        value = silhouette(distances, levels)
        if value is None:
            continue
        same = np.equal.outer(levels, levels)
        yield {
            "model": base,
            "factor": factor,
            "levels": len(set(levels)),
            "silhouette": value,
            "within": float(cosines[same & off_diagonal].mean()),
            "between": float(cosines[~same].mean()),
        }


def _group_sentences(silhouettes: Rows) -> Iterator[Sentence]:
    """By which factors models lie in groups, the clearest first."""
    for place, row in enumerate(sorted(silhouettes, key=lambda row: -row["silhouette"])):
        if row["silhouette"] >= APART:
            yield Sentence("similarity-apart", dict(row), "good")
        else:
            # The first says that there is no better one.
            yield Sentence("similarity-mixed" if place else "similarity-no_groups", dict(row))


def _seeds_together(
    neighbours: Rows, models: Sequence[Model], cosines: np.ndarray
) -> Iterator[Sentence]:
    """Whether the seeds of a recipe stay together, where there are two recipes and two seeds."""
    between_seeds, between_recipes = _between_seeds(models), _between_recipes(models)
    if not between_seeds.any() or not between_recipes.any():
        return
    together = sum(row["same_recipe"] for row in neighbours)
    base = models[0].base_model
    values = {
        "model": base,
        "together": together,
        "total": int(between_seeds.any(axis=1).sum()),
        "recipe": float(cosines[between_seeds].mean()),
        "seed": float(cosines[between_recipes].mean()),
    }
    is_together = together > values["total"] / 2
    key = "similarity-seeds_together" if is_together else "similarity-seeds_apart"
    yield Sentence(key, values, "good" if is_together else "")


def _between_seeds(models: Sequence[Model]) -> np.ndarray:
    """Which models are two seeds of one recipe, bool (N, N)."""
    index = {model.name: place for place, model in enumerate(models)}
    found = np.zeros((len(models), len(models)), dtype=bool)
    for seeds in by_recipe(models).values():
        for a, b in at_other_seeds(list(itertools.combinations(seeds, 2))):
            i, j = index[a.name], index[b.name]
            found[i, j] = found[j, i] = True
    return found


def _between_recipes(models: Sequence[Model]) -> np.ndarray:
    """Which models are two recipes at one seed, bool (N, N)."""
    recipes = np.asarray([model.recipe for model in models], object)
    seeds = np.asarray([model.seed.level for model in models], object)
    return np.equal.outer(seeds, seeds) & ~np.equal.outer(recipes, recipes)


def _side_sentences(tables: Tables, models: Sequence[Model]) -> Iterator[Sentence]:
    """How much the input and output sides of seeds and of recipes overlap; nothing where that was
    not measured."""
    groups = {"seeds": _between_seeds(models), "recipes": _between_recipes(models)}
    index = {model.name: place for place, model in enumerate(models)}
    means: dict[str, float | None] = {}
    for side in ("input", "output"):
        rows = tables.rows("subspaces", view=VIEW, level="all", side=side)
        whole = [r for r in rows if r["energy"] == 1 and {r["a"], r["b"]} <= index.keys()]
        known = [r for r in whole if None not in (finite(r["overlap"]), finite(r["chance"]))]
        means[f"{side}_chance"] = mean([row["chance"] for row in known])
        for name, group in groups.items():
            found = [r["overlap"] for r in known if group[index[r["a"]], index[r["b"]]]]
            means[f"{side}_{name}"] = mean(found)
    if None not in means.values():
        yield Sentence("similarity-sides", {"model": models[0].base_model, **means})
