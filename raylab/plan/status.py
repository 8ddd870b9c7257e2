"""What became of every planned trial, read from the store alone.

Model: a trial with a sound record is done; else its last attempt says why it failed; else fresh
progress means that it runs; else it is blocked by a failed ancestor, or pending. So is a merge,
and its models are as its parents.
Invariant: one row for every planned trial and merge, in the order of the plan, whatever became
of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.plan.merges import Planned, PlannedMerge, needs_of
from raylab.plan.notes import notes_of
from raylab.store.paths import Store
from raylab.store.records import (
    ADAPTER,
    LOG,
    SAMPLES,
    Record,
    read_attempts,
    read_progress,
    read_records,
    trial_key,
)
from raylab.store.tables import SCHEMAS

_FRESH_SECONDS = 60


def trial_rows(trials: Sequence[Planned], store: Store) -> list[dict[str, Any]]:
    """The rows of the trials table."""
    records, _ = read_records(store)
    notes = notes_of(trials, records)
    rows: dict[str, dict[str, Any]] = {}
    for trial in trials:
        record = records.get(trial.id)
        rows[trial.name] = dict.fromkeys(SCHEMAS["trials"].names) | {
            **trial.row,
            "adapter": None if _is_merge(trial) else trial_key(trial.folder, ADAPTER),
            "log": trial_key(trial.folder, LOG),
            **_outcome(trial, record, rows, store),
            **_metrics(record),
            "note": notes.get(trial.name),
            "attempts": len(read_attempts(store, trial.folder)),
        }
    return list(rows.values())


def _outcome(
    trial: Planned, record: Record | None, before: Mapping[str, Mapping[str, Any]], store: Store
) -> dict[str, Any]:
    if record:
        return {"status": "done"}
    last = next(reversed(read_attempts(store, trial.folder)), None)
    if last and last.cause and last.final:
        return {"status": "failed", "cause": last.cause, "message": last.message}
    progress = read_progress(store, trial.folder)
    if progress and time.time() - progress["time"] < _FRESH_SECONDS:
        step, steps = progress.get("step"), progress.get("steps")
        return {"status": "running", "message": f"step {step}/{steps}"}
    for need in needs_of(trial):
        status = before[need]["status"] if need in before else None
        if status in ("failed", "blocked"):
            kind = "model" if _is_merge(trial) else "parent"
            return {"status": "blocked", "message": f"its {kind} {need} is {status}"}
    return {"status": "pending"}


def _is_merge(trial: Planned) -> bool:
    return isinstance(trial, PlannedMerge)


def _metrics(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {}
    known = SCHEMAS["trials"].names
    return {key: value for key, value in record.metrics.items() if key in known}


def attempt_rows(trials: Sequence[Planned], store: Store) -> Iterator[dict[str, Any]]:
    """The rows of the attempts table."""
    for trial in trials:
        for attempt in read_attempts(store, trial.folder):
            row = attempt.model_dump()
            row["gpus"] = ",".join(attempt.gpus)
            yield {"trial_id": trial.id, "name": trial.name, **row}


def sample_rows(trials: Sequence[Planned], store: Store) -> Iterator[dict[str, Any]]:
    """The rows of the samples table: what every finished trial's model said."""
    records, _ = read_records(store)
    for trial in trials:
        if trial.id not in records or SAMPLES not in records[trial.id].files:
            continue
        for line in store.read(trial_key(trial.folder, SAMPLES)).decode().splitlines():
            yield {"trial_id": trial.id, "name": trial.name, **json.loads(line)}
