"""What became of every planned trial, read from the store alone.

Model: a trial with a sound record is done; else its last attempt says why it failed, unless a
later one tells of its progress; else fresh progress means that it runs; else it is blocked by a
failed ancestor, or pending. So is a merge, and its models are as its parents.
Invariant: one row for every planned trial and merge, in the order of the plan, whatever became
of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.errors import StoreError
from raylab.plan.merges import Planned, PlannedMerge, needs_of
from raylab.store.paths import Store
from raylab.store.records import (
    ADAPTER,
    LOG,
    PROGRESS,
    SAMPLES,
    Record,
    read_attempts,
    read_progress,
    read_records,
    trial_key,
)
from raylab.store.tables import SCHEMAS

_FRESH_SECONDS = 60
# What a running trial tells of its training.
_SIGHT = ("step", "steps", "loss", "tokens_per_second", "seconds_left", "memory_bytes")


def trial_rows(trials: Sequence[Planned], store: Store) -> list[dict[str, Any]]:
    """The rows of the trials table."""
    records, _ = read_records(store)
    rows: dict[str, dict[str, Any]] = {}
    for trial in trials:
        record = records.get(trial.id)
        rows[trial.name] = dict.fromkeys(SCHEMAS["trials"].names) | {
            **trial.row,
            "adapter": None if _is_merge(trial) else trial_key(trial.folder, ADAPTER),
            "log": trial_key(trial.folder, LOG),
            **_outcome(trial, record, rows, store),
            **_metrics(record),
            "attempts": len(read_attempts(store, trial.folder)),
        }
    return list(rows.values())


def live_rows(trials: Sequence[Planned], store: Store) -> list[dict[str, Any]]:
    """The rows of the trials table with what running trials told last.

    `heard_seconds` is how long ago that was, also of a trial that stopped without an end;
    `attempt` counts the running attempt, and `cause` says why there was one before.
    """
    rows = trial_rows(trials, store)
    return [
        {**row, "step": None, "loss": None, "seconds_left": None, **_sight(trial, row, store)}
        for trial, row in zip(trials, rows, strict=True)
    ]


def _sight(trial: Planned, row: Mapping[str, Any], store: Store) -> dict[str, Any]:
    nothing = {"memory_bytes": None, "heard_seconds": None, "attempt": row["attempts"] or None}
    unended = row["status"] in ("running", "pending")
    progress = _progress(trial, store) if unended else None
    if progress is None:
        return nothing
    sight: dict[str, Any] = {key: progress.get(key) for key in _SIGHT}
    sight["heard_seconds"] = max(0.0, time.time() - progress["time"])
    sight["attempt"] = row["attempts"] + 1
    if row["attempts"]:
        sight["cause"] = read_attempts(store, trial.folder)[-1].cause
    return sight


def _progress(trial: Planned, store: Store) -> dict[str, Any] | None:
    try:
        return read_progress(store, trial.folder)
    except StoreError:
        # A trial that ends takes its progress away, maybe while it is being read.
        if store.exists(trial_key(trial.folder, PROGRESS)):
            raise
        return None


def _outcome(
    trial: Planned, record: Record | None, before: Mapping[str, Mapping[str, Any]], store: Store
) -> dict[str, Any]:
    if record:
        return {"status": "done"}
    attempts = read_attempts(store, trial.folder)
    failed = attempts[-1] if attempts and attempts[-1].cause else None
    progress = _progress(trial, store)
    fresh = progress and time.time() - progress["time"] < _FRESH_SECONDS
    if progress and fresh and (failed is None or progress.get("attempt", 0) > len(attempts)):
        return {"status": "running", "message": f"step {progress['step']}/{progress['steps']}"}
    if failed:
        return {"status": "failed", "cause": failed.cause, "message": failed.message}
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
    for trial in trials:
        key = trial_key(trial.folder, SAMPLES)
        if not store.exists(key):
            continue
        for line in store.read(key).decode().splitlines():
            yield {"trial_id": trial.id, "name": trial.name, **json.loads(line)}
