"""The trained models that findings are about: their factors, their distances.

Model: a model is a row of the trials table that is done and has a norm; a merge is none, for it
has no method of training. Its stem is its name without the seed, its parent the stem of that.

    distance(a, b) = L2 of the difference of two task vectors,

taken from the norms table where the pair was compared, else out of the pairs table by

    distance^2 = |a|^2 + |b|^2 - 2 cos(a, b) |a| |b|                 (law of cosines)

whose error is that of the cosine: about |a| |b| e / distance for a cosine that is off by e.
Invariant: a pair has one distance, whichever side is named first.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from raylab.number_format import setting
from raylab.report.findings.finding import FACTORS, Tables, finite
from raylab.report.findings.seed_tables import VIEW, Row, is_merge, stem
from raylab.report.findings.settings import Settings


@dataclass(frozen=True)
class Model:
    """One trained model. `l2` is that of its task vector; `settings` is what else it was trained
    with, empty where the study is not at hand."""

    name: str
    base_model: str
    stem: str
    label: str
    factors: Mapping[str, Any]
    l2: float
    marked: bool
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.factors["seed"])


@dataclass(frozen=True)
class Distance:
    """How far two models are apart, and the table it comes from."""

    value: float
    source: str


def models_of(tables: Tables) -> list[Model]:
    """Every trained model with a norm, in the order of the trials table."""
    return [_model(row, tables.settings) for row in tables["trials"] if _is_measured(row)]


def by_base(models: Sequence[Model]) -> dict[str, list[Model]]:
    """The models of each base model."""
    found: dict[str, list[Model]] = {}
    for model in models:
        found.setdefault(model.base_model, []).append(model)
    return found


def _is_measured(row: Row) -> bool:
    value = finite(row["l2"])
    return row["status"] == "done" and not is_merge(row) and value is not None and value > 0


def _model(row: Row, settings: Settings) -> Model:
    parent = row["parent"]
    factors = {name: row[name] for name in FACTORS}
    factors["parent"] = parent.removesuffix(f".s{row['seed']}") if parent else None
    label = str(row["label"] or row["recipe"])
    variant = stem(row).removeprefix(f"{row['model']}.")
    return Model(
        row["name"],
        row["model"],
        stem(row),
        label,
        factors,
        row["l2"],
        bool(row["marked"]),
        settings.get(variant, {}),
    )


@dataclass(frozen=True)
class Distances:
    """The distances between models of a study."""

    tables: Tables

    @cached_property
    def _measured(self) -> dict[frozenset[str], float]:
        rows = self.tables.norms()
        return {frozenset((r["a"], r["b"])): r["l2"] for r in rows if finite(r["l2"]) is not None}

    @cached_property
    def _cosines(self) -> dict[frozenset[str], float]:
        rows = self.tables.rows("pairs", view=VIEW, level="all")
        return {
            frozenset((r["a"], r["b"])): r["cosine"]
            for r in rows
            if finite(r["cosine"]) is not None
        }

    def between(self, a: Model, b: Model) -> Distance | None:
        """How far `a` and `b` are apart; None where no table says."""
        key = frozenset((a.name, b.name))
        if key in self._measured:
            return Distance(self._measured[key], "norms")
        if key not in self._cosines:
            return None
        # In one order of the two, so that a pair has one distance to the last bit.
        one, other = sorted((a.l2, b.l2))
        square = one**2 + other**2 - 2 * self._cosines[key] * one * other
        return Distance(math.sqrt(max(square, 0.0)), "pairs")


def recipes_of(models: Sequence[Model]) -> dict[str, list[Model]]:
    """The models of each recipe: one for each seed."""
    found: dict[str, list[Model]] = {}
    for model in models:
        found.setdefault(model.stem, []).append(model)
    return found


@dataclass(frozen=True)
class Difference:
    """Two recipes that differ in one factor; `also` names the settings that differ as well."""

    factor: str
    a: Sequence[Model]
    b: Sequence[Model]
    also: tuple[str, ...]


def differing(models: Sequence[Model]) -> list[Difference]:
    """Every two recipes of one base model that differ in one factor, or else in one setting.

    Those that differ in settings as well are there only where no two differ in the factor alone.
    """
    found = []
    for a, b in itertools.combinations(recipes_of(models).values(), 2):
        factors, also = _unlike(a[0], b[0])
        if len(factors) == 1:
            found.append(Difference(factors[0], a, b, also))
        elif not factors and len(also) == 1:
            found.append(Difference(also[0], a, b, ()))
    clean = {difference.factor for difference in found if not difference.also}
    return [item for item in found if not item.also or item.factor not in clean]


def _unlike(a: Model, b: Model) -> tuple[list[str], tuple[str, ...]]:
    """The factors and the settings in which two models differ; one without use is no difference."""
    factors = [n for n in FACTORS if n != "seed" and a.factors[n] != b.factors[n]]
    pairs = {name: (value, b.settings.get(name)) for name, value in a.settings.items()}
    also = [name for name, (x, y) in pairs.items() if None not in (x, y) and x != y]
    return factors, tuple(also)


def varied_settings(models: Sequence[Model]) -> list[str]:
    """The settings that are not the same in all models that have use for them."""
    names = dict.fromkeys(name for model in models for name in model.settings)
    values = {name: {repr(m.settings.get(name)) for m in models} - {"None"} for name in names}
    return [name for name in names if len(values[name]) > 1]


def labels_of(models: Sequence[Model]) -> dict[str, str]:
    """A short name for each recipe: its label, with its learning rate or stem where labels of one
    base model meet."""
    firsts = {key: found[0] for key, found in recipes_of(models).items()}
    names = {key: model.label for key, model in firsts.items()}
    forms: tuple[Callable[[Model], str], ...] = (
        lambda model: f"{model.label} {setting(model.factors['learning_rate'])}",
        lambda model: model.stem,
    )
    for form in forms:
        counts = Counter((firsts[key].base_model, name) for key, name in names.items())
        names = {
            key: form(firsts[key]) if counts[firsts[key].base_model, name] > 1 else name
            for key, name in names.items()
        }
    return names
