"""The tables of a study as a report reads them.

Model: a table is a sequence of rows, each a mapping of columns to values, or an Arrow table where
few columns of many rows are needed. A trial's recipe, here, is its name without the seed: the
part that trials of all seeds share.
Invariant: nothing is written; a table that is missing has no rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from raylab.report.study_merges import StudyMerge, merges_of
from raylab.spec.recipes import expand_recipes
from raylab.spec.seeds import seeds_of
from raylab.spec.study import Study
from raylab.spec.swept_names import by_value
from raylab.store.arrow_values import rows_where
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import rows_of, to_table

Row = Mapping[str, Any]
Rows = Sequence[Row]
Settings = Mapping[str, Mapping[str, Any]]
"""By variant: its settings by name, those of the adapter as lora.r."""

Item = TypeVar("Item")
Key = TypeVar("Key")

VIEW = "delta"
"""The view that a report is about."""


class Tables(Mapping[str, Rows]):
    """The tables of a study: rows by name, or a selection of them.

    Rows are selected in Arrow before Python objects are made of them, so that a table of a
    million rows costs no more than the selection.
    """

    def __init__(
        self,
        arrow: Mapping[str, pa.Table],
        settings: Settings | None = None,
        merges: Sequence[StudyMerge] = (),
    ) -> None:
        """Hold Arrow tables by name, and the settings of the study's variants and its merges, where
        known."""
        self._arrow, self.settings, self.merges = dict(arrow), dict(settings or {}), merges
        self._rows: dict[tuple[Any, ...], Rows] = {}

    @classmethod
    def of(
        cls,
        rows: Mapping[str, Iterable[Row]],
        settings: Settings | None = None,
        merges: Sequence[StudyMerge] = (),
    ) -> Tables:
        """The tables that hold these rows, by name."""
        return cls({name: to_table(name, found) for name, found in rows.items()}, settings, merges)

    @classmethod
    def of_study(cls, study: Study, arrow: Mapping[str, pa.Table]) -> Tables:
        """The tables of `study`, with what it says of its variants and merges."""
        return cls(arrow, settings_of(study), merges_of(study))

    def __getitem__(self, name: str) -> Rows:
        return self.rows(name)

    def __iter__(self) -> Iterator[str]:
        return iter(SCHEMAS)

    def __len__(self) -> int:
        return len(SCHEMAS)

    def arrow(self, name: str, **equal: str) -> pa.Table:
        """The Arrow table `name`: the rows whose columns equal the values given."""
        table = self._arrow.get(name)
        if table is None:
            return to_table(name, [])
        for column, value in equal.items():
            table = rows_where(table, column, value)
        return table

    def rows(self, name: str, **equal: str) -> Rows:
        """The same as rows."""
        key = (name, *sorted(equal.items()))
        if key not in self._rows:
            self._rows[key] = rows_of(self.arrow(name, **equal))
        return self._rows[key]

    def settings_of_variant(self, name: str) -> Mapping[str, Any]:
        """The settings of a variant, whose values may be spelled otherwise; empty if unknown."""
        wanted = by_value(name)
        return next((s for n, s in self.settings.items() if by_value(n) == wanted), {})

    def norms(self, level: str = "all") -> Rows:
        """The norms of deltas at `level`."""
        return self.rows("norms", view=VIEW, level=level)


def marked_models(tables: Mapping[str, Rows]) -> dict[str, str]:
    """By which limits each marked model is marked: trials and merges, then finished models that are
    asked, which have rows of their answers alone."""
    found = {row["name"]: row["marks"] for row in tables["trials"] if row["marked"]}
    known = {row["name"] for row in tables["trials"]}
    asked = (row for row in tables["rates"] if row["name"] not in known)
    return found | {row["name"]: row["marks"] for row in asked if row.get("marks")}


def finite(value: Any) -> float | None:
    """The value; None where it is None, NaN or infinite."""
    return float(value) if value is not None and math.isfinite(value) else None


def base_models_of(tables: Mapping[str, Rows]) -> list[str]:
    """The base models of all trials and merges, each once."""
    return list(dict.fromkeys(str(row["model"]) for row in tables["trials"]))


def recipe_of(trial: Row) -> str:
    """The trial's name without its seed: base model and recipe."""
    return _without_seed(str(trial["name"]), trial)


def parent_recipe_of(trial: Row) -> str | None:
    """The name of the trial's parent without the seed, which both share; None without a parent."""
    parent = trial["parent"]
    return _without_seed(str(parent), trial) if parent else None


def _without_seed(name: str, trial: Row) -> str:
    seed = seeds_of(trial)
    return name.removesuffix(seed.suffix) if seed else name


def settings_of(study: Study) -> Settings:
    """How every variant of `study` is trained, beside the factors that are columns of trials.

    A setting that the variant's method has no use for is None. Two trials whose recipes differ in
    anything but method, data, learning rate and parent differ in a setting.
    """
    settings = {}
    for name, variant in expand_recipes(study).items():
        # The learning rate is a column of its own; the other field changes no result.
        found = variant.training.model_dump(exclude={"learning_rate", "gradient_checkpointing"})
        found |= {f"lora.{key}": value for key, value in variant.lora.model_dump().items()}
        found["beta"] = variant.training.beta if variant.method == "dpo" else None
        found["chain"] = variant.chain if variant.parent else None
        settings[name] = found
    return settings


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items of each key; keys and items keep their order."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
