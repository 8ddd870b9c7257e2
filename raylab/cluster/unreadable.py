"""The models of a study that cannot be reduced: rows with the cause.

Model: `raylab.weights.unreadable` finds them, over one base model after another.
Invariant: one model that cannot be read keeps no other from being reduced; its comparisons are
rows with the status `failed` and this cause, which stands in the trials table as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raylab.cluster.study_context import StudyContext
from raylab.plan.comparisons import PlannedComparison
from raylab.store.filesystem import TABLES, Store
from raylab.store.references import ModelLocation
from raylab.store.tables import read_rows, write_table
from raylab.weights import unreadable as weights_unreadable

Places = Mapping[str, ModelLocation | None]


def unreadable(context: StudyContext, places: Places, names: Iterable[str]) -> dict[str, str]:
    """Why each model of `names` cannot be reduced, by its name; most are not among them."""
    of_bases: dict[str, dict[str, ModelLocation]] = {}
    for name in dict.fromkeys(names):
        if place := places[name]:
            of_bases.setdefault(context.models[name].base_model, {})[name] = place
    found: dict[str, str] = {}
    for base, models in of_bases.items():
        found |= weights_unreadable.unreadable(context.study, context.base_directory(base), models)
    return found


def tell_in_trials(store: Store, causes: Mapping[str, str]) -> None:
    """Write the causes into the column `message` of the trials table, if that is there."""
    key = f"{TABLES}/trials.parquet"
    if not causes or not store.exists(key):
        return
    rows = read_rows(store, key)
    for row in rows:
        if row["status"] == "done" and row["name"] in causes:
            row["message"] = f"cannot be reduced: {causes[row['name']]}"
    write_table(store, "trials", rows)


def failed(
    rows: Sequence[Mapping[str, Any]],
    comparisons: Sequence[PlannedComparison],
    causes: Mapping[str, str],
) -> list[dict[str, Any]]:
    """`rows` of the comparisons table, with those that have a side in `causes` as failed."""
    made = []
    for row, item in zip(rows, comparisons, strict=True):
        reasons = [
            f"{side.name} cannot be reduced: {causes[side.name]}"
            for side in (item.a, item.b)
            if side.name in causes
        ]
        is_failed = bool(reasons) and row["status"] == "done"
        outcome = {"status": "failed", "message": "; ".join(dict.fromkeys(reasons))}
        made.append({**row, **(outcome if is_failed else {})})
    return made
