"""What has to be said beside a number: how a model that it rests on came about.

Model: a trial whose memory ran out was trained in smaller micro-batches, which changes bits; one
that is marked answers as no model should. What descends from either, or is merged of it, rests on
that as well. A note names every such trial or merge.
Invariant: a number has a note exactly where a trial that it rests on has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raylab.plan.merges import Planned, dependencies_of
from raylab.plan.trials import Trial
from raylab.results.quality_flags import flagged_models
from raylab.spec.evaluation import LIMITS, Limits
from raylab.store.records import Record


def notes_of(
    planned: Sequence[Planned], records: Mapping[str, Record], limits: Limits = LIMITS
) -> dict[str, str]:
    """What is to be said of trials and merges, by name; most have nothing."""
    marked = flagged_models(planned, records, limits)
    found: dict[str, dict[str, str]] = {}
    for item in planned:
        found[item.name] = {
            k: v for need in dependencies_of(item) for k, v in found.get(need, {}).items()
        }
        small = _small(item, records.get(item.id))
        marks = f"{item.name} is marked: {marked[item.name]}" if item.name in marked else None
        own = "; ".join(part for part in (small, marks) if part)
        if own:
            found[item.name][item.name] = own
    return {name: "; ".join(notes.values()) for name, notes in found.items() if notes}


def _small(item: Planned, record: Record | None) -> str | None:
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
    """`rows` with the column `note`; `sides` are the models of each comparison."""
    noted = []
    for row in rows:
        parts = dict.fromkeys(notes[name] for name in _models(row, sides) if name in notes)
        noted.append({**row, "note": "; ".join(parts) or None})
    return noted


def _models(row: Mapping[str, Any], sides: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """The models that a row of one of these tables is about."""
    if "a" in row:
        return row["a"], row["b"]
    if "comparison" in row:
        return sides[row["comparison"]]
    return (row["model"] if "model" in row else row["name"],)
