"""Rows of tables made of real vectors, so that every number of them has a geometry."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylab.report.study_tables import Tables
from raylab.spec.seeds import Seeds, parse_seed

BASE = "base"
Vectors = Mapping[tuple[str, Seeds | int], np.ndarray]
"""By recipe and seed: a task vector."""


def name_of(recipe: str, seed: Seeds | int, model: str = BASE) -> str:
    return f"{model}.{recipe}.s{seed}"


def trial(
    recipe: str, seed: Seeds | int = 1, l2: float | None = 1.0, **changes: Any
) -> dict[str, Any]:
    """A trial that is done: SFT on D0 at 1e-5 without a parent, unless `changes` differ."""
    model = changes.get("model", BASE)
    row = {
        "name": name_of(recipe, seed, model),
        "model": model,
        "recipe": recipe,
        "label": recipe.upper(),
        "method": "sft",
        "data": "D0",
        **parse_seed(seed).columns,
        "learning_rate": 1e-5,
        "parent": None,
        "status": "done",
        "l2": l2,
        "marked": False,
    }
    return row | changes


def norm(a: str, b: str, l2: float | None, **changes: Any) -> dict[str, Any]:
    """The L2 of a comparison, as a whole unless `changes` differ."""
    head = {"comparison": f"{a}~{b}", "a": a, "b": b, "view": "delta", "universe": "compared"}
    return head | {"level": "all", "key": "all", "numel": 100, "l1": 1.0, "l2": l2} | changes


def pair(a: str, b: str, cosine: float | None, **changes: Any) -> dict[str, Any]:
    """The cosine of two task vectors, at one density unless `changes` differ."""
    head = {"a": a, "b": b, "view": "delta", "universe": "compared", "level": "all", "key": "all"}
    return head | {"cosine": cosine, "density": 0.1} | changes


def cosine_of(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def pairs_of(vectors: Vectors) -> list[dict[str, Any]]:
    """The pairs table of all vectors."""
    return [
        pair(name_of(*one), name_of(*other), cosine_of(vectors[one], vectors[other]))
        for one, other in itertools.combinations(vectors, 2)
    ]


def trials_of(vectors: Vectors, recipes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The trials table of all vectors; `recipes` says how each differs from the usual."""
    return [
        trial(recipe, seed, float(np.sqrt(np.sum(vector**2))), **recipes[recipe])
        for (recipe, seed), vector in vectors.items()
    ]


def study_of(vectors: Vectors, recipes: Mapping[str, Mapping[str, Any]]) -> Tables:
    """Tables of which every distance comes from a cosine."""
    return Tables.of({"trials": trials_of(vectors, recipes), "pairs": pairs_of(vectors)})


def values_of(sentences: Sequence[Any], key: str) -> list[Mapping[str, Any]]:
    """The values of every sentence with this key."""
    return [sentence.values for sentence in sentences if sentence.key == key]
