"""The column `note` of the tables: how a model behind a number was made.

Model: three things are noted of a trial, a merge or a finished model that is asked: memory ran out,
so it was trained in smaller micro-batches, which changes the bits of its weights; it is marked,
because its answers break a limit; or it is the same as another, whose name stands before it. A note
passes on to every trial and merge that is made from it. Finished models are noted before all that
may be made from them.
Invariant: a row has a note if and only if one of its models, or one of their ancestors, has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raylab.plan.finished_parents import FinishedParent
from raylab.plan.merges import Asked, PlannedMerge, dependencies_of
from raylab.plan.trials import Trial
from raylab.results.quality_flags import flagged_models
from raylab.spec.evaluation import LIMITS, Limits
from raylab.store.records import Record


def notes_of(
    planned: Sequence[Asked], records: Mapping[str, Record], limits: Limits = LIMITS
) -> dict[str, str]:
    """The notes of models, by name; most have none. records: by trial id."""
    flagged = flagged_models(planned, records, limits)
    found: dict[str, dict[str, str]] = {}
    first: dict[str, str] = {}
    for item in sorted(planned, key=lambda item: not isinstance(item, FinishedParent)):
        inherited = [found.get(name, {}) for name in _made_from(item)]
        found[item.name] = {name: note for notes in inherited for name, note in notes.items()}
        parts = [_smaller_micro_batch(item, records.get(item.id))]
        if first.setdefault(item.id, item.name) != item.name:
            parts.append(f"{item.name} is the same as {first[item.id]}")
        if item.name in flagged:
            parts.append(f"{item.name} is marked: {flagged[item.name]}")
        if own := "; ".join(part for part in parts if part):
            found[item.name][item.name] = own
    return {name: "; ".join(notes.values()) for name, notes in found.items() if notes}


def _made_from(item: Asked) -> Iterable[str]:
    """The names of the models that `item` is made from."""
    finished = (i.model for i in item.request.inputs) if isinstance(item, PlannedMerge) else ()
    return dict.fromkeys((*dependencies_of(item), *finished))


def _smaller_micro_batch(item: Asked, record: Record | None) -> str | None:
    if record is None or not isinstance(item, Trial):
        return None
    asked, used = item.variant.training.batch_size, record.metrics.get("micro_batch", 0)
    if used in (0, asked):
        return None
    return f"{item.name}: micro-batch {used} instead of {asked}, for want of memory"


def with_notes(
    rows: Iterable[Mapping[str, Any]],
    sides: Mapping[str, tuple[str, str]],
    notes: Mapping[str, str],
) -> list[dict[str, Any]]:
    """`rows` with the column `note`.

    sides: the two models of each comparison; notes: by the name of a trial or merge.
    """
    noted = []
    for row in rows:
        if "a" in row:
            models: tuple[str, ...] = (row["a"], row["b"])
        elif "comparison" in row:
            models = sides[row["comparison"]]
        elif "merge" in row:
            models = (row["merge"], row["parent"])
        elif "models" in row:
            models = tuple(row["models"])
        else:
            models = (row["model"] if "model" in row else row["name"],)
        parts = dict.fromkeys(notes[name] for name in models if name in notes)
        noted.append({**row, "note": "; ".join(parts) or None})
    return noted
