"""What became of every planned trial, read from the store alone.

Model: a trial with a sound record is done; else its last attempt says why it failed, unless a
later one has begun; else a fresh sign of life means that it runs; else it is blocked by a failed
ancestor, or pending. So is a merge, and its models are as its parents.
Invariant: one row for every planned trial and merge, in the order of the plan, whatever became
of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from raylab.plan.comparisons import PlannedComparison
from raylab.plan.merges import Planned, PlannedMerge, dependencies_of
from raylab.results.notes import notes_of
from raylab.results.quality_flags import flag_columns
from raylab.spec.evaluation import LIMITS, Limits
from raylab.store.attempt_state import RunningAttempt, read_running
from raylab.store.filesystem import Store
from raylab.store.lease import LEASE
from raylab.store.records import (
    ADAPTER,
    LOG,
    PATHS,
    SAMPLES,
    Record,
    read_attempts,
    read_progress,
    read_records,
    trial_key,
)
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import read_rows

_FRESH_SECONDS = 60
# What a running trial tells of its training.
_SIGHT = ("step", "steps", "loss", "tokens_per_second", "seconds_left", "memory_bytes")


def trial_rows(
    trials: Sequence[Planned], store: Store, limits: Limits = LIMITS
) -> list[dict[str, Any]]:
    """The rows of the trials table; `limits` say which models are marked."""
    records, _ = read_records(store)
    notes = notes_of(trials, records, limits)
    rows: dict[str, dict[str, Any]] = {}
    for trial in trials:
        record = records.get(trial.id)
        rows[trial.name] = dict.fromkeys(SCHEMAS["trials"].names) | {
            **trial.row,
            "adapter": None if _is_merge(trial) else trial_key(trial.folder, ADAPTER),
            "log": trial_key(trial.folder, LOG),
            **_outcome(trial, record, rows, store),
            **_metrics(record, limits),
            "note": notes.get(trial.name),
            "attempts": len(read_attempts(store, trial.folder)),
        }
    return list(rows.values())


def live_rows(
    trials: Sequence[Planned], store: Store, limits: Limits = LIMITS
) -> list[dict[str, Any]]:
    """The rows of the trials table with what running trials told last.

    `heard_seconds` is how long ago that was; `attempt` counts the attempts with the one that
    runs, and `cause` says why there was one before. A trial that has begun, and of which no end
    is known, runs while a driver is there, however silent it is.
    """
    driven = is_driven(store)
    rows = trial_rows(trials, store, limits)
    return [
        {**row, **_sight(trial, row, store, driven)}
        for trial, row in zip(trials, rows, strict=True)
    ]


def is_driven(store: Store) -> bool:
    """Whether a driver holds the store, or one that was killed has held it last."""
    return store.exists(LEASE)


def _sight(trial: Planned, row: Mapping[str, Any], store: Store, driven: bool) -> dict[str, Any]:
    nothing = dict.fromkeys(("step", "loss", "seconds_left", "memory_bytes", "heard_seconds"))
    sight: dict[str, Any] = {**nothing, "attempt": row["attempts"] or None}
    if row["status"] not in ("running", "pending"):
        return sight
    running, progress = read_running(store, trial.folder), read_progress(store, trial.folder)
    if running is None and progress is None:
        return sight
    known = progress or {}
    sight |= {key: known.get(key) for key in _SIGHT}
    sight["heard_seconds"] = max(0.0, time.time() - _heard(progress, running))
    sight["attempt"] = running.attempt if running else row["attempts"] + 1
    sight["status"] = "running" if running and driven else row["status"]
    if row["attempts"]:
        sight["cause"] = read_attempts(store, trial.folder)[-1].cause
    return sight


def _heard(progress: Mapping[str, Any] | None, running: RunningAttempt | None) -> float:
    """When a trial gave its last sign of life."""
    return max(progress["time"] if progress else 0.0, running.started if running else 0.0)


def _outcome(
    trial: Planned, record: Record | None, before: Mapping[str, Mapping[str, Any]], store: Store
) -> dict[str, Any]:
    if record:
        return {"status": "done"}
    last = next(reversed(read_attempts(store, trial.folder)), None)
    running = read_running(store, trial.folder)
    again = running is not None and last is not None and running.attempt > last.attempt
    if last and last.cause and last.final and not again:
        return {"status": "failed", "cause": last.cause, "message": last.message}
    progress = read_progress(store, trial.folder)
    if time.time() - _heard(progress, running) < _FRESH_SECONDS:
        known = progress or {}
        step = f"step {known['step']}/{known.get('steps')}" if "step" in known else "has begun"
        return {"status": "running", "message": step}
    for need in dependencies_of(trial):
        status = before[need]["status"] if need in before else None
        if status in ("failed", "blocked"):
            kind = "model" if _is_merge(trial) else "parent"
            return {"status": "blocked", "message": f"its {kind} {need} is {status}"}
    return {"status": "pending"}


def _is_merge(trial: Planned) -> bool:
    return isinstance(trial, PlannedMerge)


def _metrics(record: Record | None, limits: Limits) -> dict[str, Any]:
    if record is None:
        return {}
    known = SCHEMAS["trials"].names
    found = {key: value for key, value in record.metrics.items() if key in known}
    return found | flag_columns(record.metrics, limits)


def attempt_rows(trials: Sequence[Planned], store: Store) -> Iterator[dict[str, Any]]:
    """The rows of the attempts table."""
    for trial in trials:
        for attempt in read_attempts(store, trial.folder):
            row = attempt.model_dump()
            row["gpus"] = ",".join(attempt.gpus)
            yield {"trial_id": trial.id, "name": trial.name, **row}


def sample_rows(trials: Sequence[Planned], store: Store) -> Iterator[dict[str, Any]]:
    """The rows of the samples table: what every finished trial's model said."""
    for trial, key in _sealed(trials, store, SAMPLES):
        for line in store.read(key).decode().splitlines():
            yield {"trial_id": trial.id, "name": trial.name, **json.loads(line)}


def path_rows(trials: Sequence[Planned], store: Store) -> Iterator[dict[str, Any]]:
    """The rows of the paths table: each layer of every finished trial at its recorded steps.

    None of a merge, nor of a trial that was finished before paths were recorded.
    """
    for trial, key in _sealed(trials, store, PATHS):
        for row in read_rows(store, key):
            yield {"trial_id": trial.id, "name": trial.name, **row}


def _sealed(trials: Sequence[Planned], store: Store, name: str) -> Iterator[tuple[Planned, str]]:
    """The finished trials whose records name the file `name`, each with its key."""
    records, _ = read_records(store)
    for trial in trials:
        if trial.id in records and name in records[trial.id].files:
            yield trial, trial_key(trial.folder, name)


def rate_rows(trials: Sequence[Planned], store: Store) -> Iterator[dict[str, Any]]:
    """The rows of the rates table: of greedy, sampled and expected answers of every model."""
    for trial, kind, found in _kept(trials, store, "answers"):
        yield {"trial_id": trial.id, "name": trial.name, "answers": kind, **found}


def likelihood_rows(trials: Sequence[Planned], store: Store) -> Iterator[dict[str, Any]]:
    """The rows of the likelihoods table: every model on every data set's held-out answers."""
    for trial, data, found in _kept(trials, store, "likelihoods"):
        yield {"trial_id": trial.id, "name": trial.name, "data": data, **found}


def _kept(
    trials: Sequence[Planned], store: Store, key: str
) -> Iterator[tuple[Planned, str, dict[str, Any]]]:
    records, _ = read_records(store)
    for trial in trials:
        record = records.get(trial.id)
        for name, found in (record.metrics.get(key, {}) if record else {}).items():
            yield trial, name, found


def comparison_rows(
    comparisons: Sequence[PlannedComparison],
    missing: Collection[str],
    left_out: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The rows of the comparisons table. missing: models that are not done; left_out: what
    models are marked for that the study leaves out."""
    return [
        {
            "comparison": item.name,
            "a": item.a.name,
            "b": item.b.name,
            "form": item.form,
            **_comparison_status(item, missing, left_out),
        }
        for item in comparisons
    ]


def _comparison_status(
    item: PlannedComparison, missing: Collection[str], left_out: Mapping[str, str]
) -> dict[str, str | None]:
    sides = (item.a.name, item.b.name)
    undone = [f"{name} is not done" for name in sides if name in missing]
    marked = [
        f"left out: {name} is marked ({left_out[name]})" for name in sides if name in left_out
    ]
    why = "; ".join([*undone, *marked])
    return {"status": "blocked" if why else "done", "message": why or None}
