"""The parts of its tables that a study asks for, and which of them are missing.

Model: a study asks for parts (`raylab.cluster.part_keys`). All parts over one base model and view
that are missing are one job.
Invariant: two studies that ask for the same of the same parameters have the same key, whatever
their models are called.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raylab.cluster.kept_relations import covering, thresholds_of
from raylab.cluster.part_keys import PartKeys
from raylab.cluster.study_context import StudyContext
from raylab.plan.comparisons import PlannedComparison
from raylab.plan.model_groups import ModelGroup
from raylab.reduce.intruder_rows import relate_to_base
from raylab.reduce.job import Executor, Job, Thresholds
from raylab.reduce.passes import detail_models, reduce_pairs
from raylab.reduce.phi_rows import turned
from raylab.reduce.row_block import Pair
from raylab.reduce.tables import Tables, rows_by
from raylab.spec.identity import fingerprint
from raylab.store.parts import Parts
from raylab.store.references import ModelLocation
from raylab.weights.views import DELTA, View

_OF_COMPARISON = ("norms", "densities", "curve")
_OF_MODELS = ("pairs", "subspaces", "phi")
_OF_GROUP, _OF_KIN = ("kept_by",), ("kept_of",)
_OF_MODEL = ("spectra", "chains", "audit")
_AGAINST_BASE = "intruders"
TABLES_OF_REDUCTION = (
    *_OF_COMPARISON,
    *_OF_MODELS,
    *_OF_GROUP,
    *_OF_KIN,
    *_OF_MODEL,
    _AGAINST_BASE,
)


@dataclass(frozen=True)
class WantedParts:
    """The parts that a study asks for over one base model in one view, with their `keys`.

    kin: merges, each with one of the models that it is made of.
    """

    base: str
    view: View
    comparisons: Sequence[PlannedComparison]
    groups: Sequence[ModelGroup]
    kin: Sequence[tuple[str, str]]
    keys: PartKeys

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are related to each other: all but the base model."""
        return tuple(name for name in self.keys.contents if name != self.base)

    def missing_comparisons(self, parts: Parts) -> list[PlannedComparison]:
        """The comparisons that are not in `parts`."""
        return [c for c in self.comparisons if self.keys.of_comparison(c) not in parts]

    def missing_pairs(self, parts: Parts) -> list[tuple[str, str]]:
        """The pairs of models that are not in `parts`."""
        pairs = itertools.combinations(self.models, 2)
        return [pair for pair in pairs if self.keys.of_models(*pair) not in parts]

    def known_models(self, parts: Parts) -> list[str]:
        """The models whose norms and thresholds are in `parts`."""
        return [name for name in self.models if self.keys.of_task_vector(name) in parts]

    def missing_models(self, parts: Parts) -> list[str]:
        """The models that a part that is not in `parts` is of."""
        sides = [side.name for c in self.missing_comparisons(parts) for side in (c.a, c.b)]
        fresh = self.models if self._fresh(parts) else ()
        details = [name for name in self._detailed if self.keys.of_model(name) not in parts]
        against = self._missing_against_base(parts)
        together = self._together(self._missing_groups(parts), self._missing_kin(parts))
        asked = (*sides, *fresh, *details, *together, *against)
        return [name for name in asked if name != self.base]

    def reduce(
        self,
        context: StudyContext,
        parts: Parts,
        places: Mapping[str, ModelLocation | None],
        execute: Executor,
    ) -> Tables:
        """Reduce what is missing, and add it to `parts`; returns what was computed."""
        found = Tables()
        missing = self.missing_comparisons(parts)
        fresh, kin = self._fresh(parts), self._missing_kin(parts)
        groups = self._missing_groups(parts)
        if missing or fresh or groups or kin:
            together = self._together(groups, kin)
            vectors = tuple(name for name in self.models if fresh or name in together)
            known = self._known(parts, vectors, context.study.densities)
            compared = {c.a.name for c in missing if c.b.name == self.base}
            alone = {n: f"{n}~{self.base}" for n in vectors if n not in known and n not in compared}
            job = self._job(context, places, missing, vectors)
            job = replace(
                job,
                pairs=(*job.pairs, *(Pair(pair, n, self.base) for n, pair in alone.items())),
                known=known,
                fresh=frozenset(fresh),
                groups=tuple(group.models for group in groups),
                kin=tuple(kin),
            )
            by_tensor, phi = "pairs" in self.keys.options, "subspaces" in self.keys.options
            made = reduce_pairs(
                job, context.study.densities, execute, subspaces=True, by_tensor=by_tensor, phi=phi
            )
            names = {self.keys.of_comparison(c): (c.name,) for c in missing}
            names |= {self.keys.of_task_vector(n): (pair,) for n, pair in alone.items()}
            _add(parts, made, _OF_COMPARISON, ["comparison"], names)
            self._add_relations(parts, fresh, made)
            self._add_groups(parts, groups, made)
            of_kin = {self.keys.of_kin(*pair): pair for pair in kin}
            _add(parts, made, _OF_KIN, ["merge", "parent"], of_kin)
            found.extend(made)
        details = [m for m in self._detailed if self.keys.of_model(m) not in parts]
        if details:
            job = self._job(context, places, (), tuple(details))
            made = detail_models(job, execute)
            models = {self.keys.of_model(model): (model,) for model in details}
            _add(parts, made, _OF_MODEL, ["model"], models)
            found.extend(made)
        self._hold_against_base(context, parts, places, execute)
        return found

    def _hold_against_base(
        self,
        context: StudyContext,
        parts: Parts,
        places: Mapping[str, ModelLocation | None],
        execute: Executor,
    ) -> None:
        """Hold the models that were not yet against the base model's directions."""
        missing = self._missing_against_base(parts)
        if not missing or self.keys.directions is None:
            return
        job = self._job(context, places, (), tuple(missing))
        content = self.keys.contents[self.base]
        rows = relate_to_base(job, execute, self.keys.directions, context.store, content)
        by_model = rows_by(rows, "model")
        for name in missing:
            parts.add(self.keys.of_directions(name), {_AGAINST_BASE: by_model.get((name,), [])})

    def _missing_against_base(self, parts: Parts) -> list[str]:
        asked = self._detailed if self.keys.directions else ()
        return [name for name in asked if self.keys.of_directions(name) not in parts]

    def rows(self, parts: Parts, table: str) -> Iterator[dict[str, Any]]:
        """The rows of a table, out of `parts`, in the order of the study."""
        if table in _OF_COMPARISON:
            for c in self.comparisons:
                sides = {"comparison": c.name}
                if table == "norms":
                    sides |= {"a": c.a.name, "b": c.b.name}
                yield from parts.rows(self.keys.of_comparison(c), table, **sides)
        elif table == _AGAINST_BASE:
            for name in self._detailed if self.keys.directions else ():
                yield from parts.rows(self.keys.of_directions(name), table, model=name)
        elif table in _OF_MODEL:
            for name in self._detailed:
                yield from parts.rows(self.keys.of_model(name), table, model=name)
        elif table in _OF_GROUP:
            for group in self.groups:
                names = {"model": self.base, "group": group.kind, "name": group.name}
                key = self.keys.of_group(group)
                yield from parts.rows(key, table, **names, models=list(group.models))
        elif table in _OF_KIN:
            for merge, parent in self.kin:
                key = self.keys.of_kin(merge, parent)
                yield from parts.rows(key, table, merge=merge, parent=parent)
        else:
            for a, b in itertools.combinations(self.models, 2):
                found = parts.rows(self.keys.of_models(a, b), table, a=a, b=b)
                yield from map(turned, found) if self._is_turned(table, a, b) else found

    @property
    def _detailed(self) -> tuple[str, ...]:
        """Details do not depend on the view, and are asked for once."""
        return self.models if self.view.name == DELTA.name else ()

    def _missing_groups(self, parts: Parts) -> list[ModelGroup]:
        return [group for group in self.groups if self.keys.of_group(group) not in parts]

    def _missing_kin(self, parts: Parts) -> list[tuple[str, str]]:
        return [pair for pair in self.kin if self.keys.of_kin(*pair) not in parts]

    @staticmethod
    def _together(groups: Iterable[ModelGroup], kin: Iterable[tuple[str, str]]) -> set[str]:
        """The models of groups, and of merges with their own."""
        return {name for names in (*(group.models for group in groups), *kin) for name in names}

    def _fresh(self, parts: Parts) -> list[str]:
        """A few models, one of which is in every pair that is missing."""
        return covering(self.models, self.missing_pairs(parts))

    def _known(
        self, parts: Parts, names: Iterable[str], densities: Sequence[float]
    ) -> dict[str, Thresholds]:
        """The thresholds of the models of `names` that are in `parts`."""
        keys = {name: self.keys.of_task_vector(name) for name in names}
        found = {name: thresholds_of(parts, key, densities) for name, key in keys.items()}
        return {name: at for name, at in found.items() if at is not None}

    def _job(
        self,
        context: StudyContext,
        places: Mapping[str, ModelLocation | None],
        comparisons: Sequence[PlannedComparison],
        vectors: tuple[str, ...],
    ) -> Job:
        named = {side.name for c in comparisons for side in (c.a, c.b)} | set(vectors)
        of_base = {name: place for name in self.models if name in named and (place := places[name])}
        pairs = tuple(Pair(c.name, c.a.name, c.b.name) for c in comparisons)
        asked = {
            "contents": {name: self.keys.contents[name] for name in of_base},
            "pairs": [pair.name for pair in pairs],
            "common": self.keys.common,
        }
        return Job(
            places=of_base | {self.base: ModelLocation()},
            pairs=pairs,
            base=context.base_directory(self.base),
            view=self.view,
            vectors=vectors,
            quantization=context.study.quantization,
            tolerance=self.keys.tolerance,
            id=fingerprint(asked),
            out=None if context.store.is_local else context.store.uri,
        )

    def _add_relations(self, parts: Parts, fresh: Sequence[str], made: Tables) -> None:
        tables = {name: rows_by(getattr(made, name), "a", "b") for name in _OF_MODELS}
        for a, b in itertools.combinations(self.models, 2):
            if a in fresh or b in fresh:
                rows = {name: found.get((a, b), []) for name, found in tables.items()}
                if self._is_turned("phi", a, b):
                    rows["phi"] = list(map(turned, rows["phi"]))
                parts.add(self.keys.of_models(a, b), rows)

    def _is_turned(self, table: str, a: str, b: str) -> bool:
        """Whether the part of two models, which any order may ask for, has the other order."""
        return table == "phi" and self.keys.contents[a] > self.keys.contents[b]

    def _add_groups(self, parts: Parts, groups: Sequence[ModelGroup], made: Tables) -> None:
        rows = {group.models: list[dict[str, Any]]() for group in groups}
        for row in made.kept_by:
            rows[tuple(row["models"])].append(row)
        for group in groups:
            parts.add(self.keys.of_group(group), {"kept_by": rows[group.models]})


def _add(
    parts: Parts,
    made: Tables,
    tables: Sequence[str],
    columns: Sequence[str],
    keys: Mapping[str, tuple[str, ...]],
) -> None:
    """Add the parts of `keys`: of each the rows that have its values in `columns`."""
    found = {name: rows_by(getattr(made, name), *columns) for name in tables}
    for key, values in keys.items():
        parts.add(key, {name: rows.get(values, []) for name, rows in found.items()})
