"""The rows of the tables that come from the store: trials, attempts, answers.

Model: `read_results` reads what the store holds for all that is planned, once; the other functions
make rows from it. Finished models that are asked have rows of what they were asked, and a row of a
status, but none of the trials table. A trial with a sound record is `done`. Otherwise its last
attempt may have `failed`, unless a later attempt has begun; recent progress means `running`; a
failed ancestor means `blocked`; everything else is `pending`. A merge is treated like a trial, and
the models that it merges like its parents.
Invariant: there is one row for every planned trial and merge, in the order of the plan, whatever
their status.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from raylab.plan.asked import NOTHING_BESIDE, MergePrompts
from raylab.plan.cache import Questions
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.merges import Asked, PlannedMerge, dependencies_of
from raylab.plan.resuming import checkpoint_texts
from raylab.plan.stored import find_results
from raylab.plan.trials import Trial
from raylab.results.notes import notes_of
from raylab.results.quality_flags import flag_columns
from raylab.spec.evaluation import LIMITS, Limits
from raylab.store.attempt_state import RunningAttempt, read_running
from raylab.store.columns import COLUMNS
from raylab.store.filesystem import Store
from raylab.store.lease import LEASE
from raylab.store.phase import NUMBERS, phase_of
from raylab.store.records import (
    ADAPTER,
    ASKED,
    BESIDE,
    LOG,
    PATHS,
    SAMPLES,
    Attempt,
    Record,
    read_attempts,
    read_progress,
    trial_key,
)

RECENT_SECONDS = 60
"""A trial without a driver counts as running for this long after its last sign of progress."""
KINDS = {Trial: "trial", PlannedMerge: "merge", FinishedParent: "finished model"}
_LIVE_COLUMNS = (
    "phase", "step", "loss", "seconds_left", "memory_bytes", "heard_seconds", "begun",
)  # fmt: skip

Row = dict[str, Any]


class TrialResult(NamedTuple):
    """What the store holds for one planned trial or merge, or finished model that is asked.

    `running`, `progress` and `goes_on` are read only if there is no sound record.
    """

    planned: Asked
    record: Record | None
    attempts: Sequence[Attempt]
    running: RunningAttempt | None = None
    progress: Mapping[str, Any] | None = None
    goes_on: str | None = None
    """Where the next attempt begins, if there is a checkpoint: goes on from step 12 of 90."""

    @property
    def last_update(self) -> float:
        """When the trial last reported progress or began, in seconds since 1970."""
        reported = self.progress["time"] if self.progress else 0.0
        return max(reported, self.running.started if self.running else 0.0)


@dataclass(frozen=True)
class StudyResults:
    """What the store holds for all that is planned, in the order of the plan."""

    store: Store
    trials: Sequence[TrialResult]
    of_merges: MergePrompts = NOTHING_BESIDE
    """What merges and their models are asked."""
    limits: Limits = LIMITS
    """Those that decide which models are marked."""

    @cached_property
    def notes(self) -> Mapping[str, str]:
        """The notes of models, by name; most have none."""
        records = {result.record.id: result.record for result in self.trials if result.record}
        return notes_of([result.planned for result in self.trials], records, self.limits)

    @property
    def with_row(self) -> list[TrialResult]:
        """Those that have a row in the trials table: all but finished models."""
        return [r for r in self.trials if not isinstance(r.planned, FinishedParent)]


def read_results(
    planned: Sequence[Asked],
    store: Store,
    questions: Questions | None = None,
    limits: Limits = LIMITS,
) -> StudyResults:
    """Read the records, attempts and progress of `planned`. Raises StoreError.

    questions, limits: of the study, by whose names of data sets the likelihoods are then called.
    """
    found = find_results(planned, store, questions)
    going_on = checkpoint_texts(found.planned, store)
    results = []
    for item in found.planned:
        record, attempts = found.records.get(item.id), read_attempts(store, item.folder)
        if record:
            results.append(TrialResult(item, record, attempts))
        else:
            running, progress = read_running(store, item.folder), read_progress(store, item.folder)
            goes_on = going_on.get(item.name)
            results.append(TrialResult(item, None, attempts, running, progress, goes_on))
    of_merges = questions.of_merges if questions else NOTHING_BESIDE
    return StudyResults(store, results, of_merges, limits)


def trial_rows(results: StudyResults) -> list[Row]:
    """The rows of the trials table."""
    return _trial_rows(results, results.with_row)


def _trial_rows(results: StudyResults, chosen: Sequence[TrialResult]) -> list[Row]:
    rows: dict[str, Row] = {}
    for result in chosen:
        trial, record = result.planned, result.record
        has_adapter = isinstance(trial, Trial) or (
            isinstance(trial, PlannedMerge) and trial.is_adapter
        )
        row = dict.fromkeys(COLUMNS["trials"]) | {
            **trial.row,
            "adapter": trial_key(trial.folder, ADAPTER) if has_adapter else None,
            "log": trial_key(trial.folder, LOG),
            **_status(result, rows),
        }
        if record:
            row |= {key: value for key, value in record.metrics.items() if key in row}
            row |= flag_columns(record.metrics, results.limits)
        row |= {"note": results.notes.get(trial.name), "attempts": len(result.attempts)}
        rows[trial.name] = row
    return list(rows.values())


def _status(result: TrialResult, rows_before: Mapping[str, Row]) -> Row:
    """`status`, and where there is something to say `cause` and `message`."""
    if result.record:
        return {"status": "done"}
    last = result.attempts[-1] if result.attempts else None
    is_retried = last and result.running and result.running.attempt > last.attempt
    if last and last.cause and last.final and not is_retried:
        return {"status": "failed", "cause": last.cause, "message": last.message}
    if time.time() - result.last_update < RECENT_SECONDS:
        phase = phase_of(result.progress)
        return {"status": "running", "message": phase.text if phase else "has begun"}
    for name in dependencies_of(result.planned):
        status = rows_before[name]["status"] if name in rows_before else None
        if status in ("failed", "blocked"):
            kind = "model" if isinstance(result.planned, PlannedMerge) else "parent"
            return {"status": "blocked", "message": f"its {kind} {name} is {status}"}
    return {"status": "pending", "message": result.goes_on}


def live_rows(results: StudyResults) -> list[Row]:
    """The rows of the trials table, and such rows of finished models that are asked, with the last
    progress of what runs.

    `kind` is what a row is of, a value of `KINDS`. `heard_seconds` is the time since that progress,
    `begun` when the attempt that runs began, in seconds since 1970. `attempt` is the number of the
    attempt that runs, or of the last one; `cause` tells why the attempt before it ended. While a
    driver is there, a trial that has begun and not ended is `running`, even if it reports no
    progress.
    """
    driven = is_driven(results.store)
    pairs = zip(results.trials, _trial_rows(results, results.trials), strict=True)
    return [
        {**row, "kind": KINDS[type(result.planned)], **_live_columns(result, row, driven)}
        for result, row in pairs
    ]


def is_driven(store: Store) -> bool:
    """Whether there is a lease: a driver works on the store, or was killed while it did."""
    return store.exists(LEASE)


def _live_columns(result: TrialResult, row: Row, driven: bool) -> Row:
    running, progress = result.running, result.progress
    columns: Row = {**dict.fromkeys(_LIVE_COLUMNS), "attempt": row["attempts"] or None}
    is_open = row["status"] in ("running", "pending")
    if not is_open or (running is None and progress is None):
        return columns
    columns |= {key: (progress or {}).get(key) for key in NUMBERS}
    phase = phase_of(progress)
    columns["phase"] = phase.text if phase else None
    columns["heard_seconds"] = max(0.0, time.time() - result.last_update)
    columns["begun"] = running.started if running else None
    columns["attempt"] = running.attempt if running else row["attempts"] + 1
    columns["status"] = "running" if running and driven else row["status"]
    if result.attempts:
        columns["cause"] = result.attempts[-1].cause
    return columns


def attempt_rows(results: StudyResults) -> Iterator[Row]:
    """The rows of the attempts table."""
    for result in results.trials:
        for attempt in result.attempts:
            row = attempt.model_dump()
            row["gpus"] = ",".join(attempt.gpus)
            yield _named(result, row)


def sample_rows(results: StudyResults) -> Iterator[Row]:
    """The rows of the samples table: the answers of the model of every finished trial, also those
    to the prompts of models that it is merged with."""
    files = [found for name in (SAMPLES, BESIDE) for found in _files(results, name)]
    places = {result.planned.name: place for place, result in enumerate(results.trials)}
    for result, key in sorted(files, key=lambda found: places[found[0].planned.name]):
        # A trial that is evaluated again by another driver may be at it.
        for line in (results.store.read_if_there(key) or b"").decode().splitlines():
            row = json.loads(line)
            for name in ("earlier", "chat", "tools"):
                row.pop(name, None)  # No column: it is there to ask the prompt again.
            yield _named(result, row)


def path_rows(results: StudyResults) -> Iterator[Row]:
    """The rows of the paths table: each layer of every finished trial at its recorded steps.

    A merge has no rows, nor has a trial that was finished before paths were recorded.
    """
    # A status has no such rows, and Arrow takes longer to load than a status takes.
    from raylab.store.tables import read_rows

    for result, key in _files(results, PATHS):
        for row in read_rows(results.store, key):
            yield _named(result, row)


def rate_rows(results: StudyResults) -> Iterator[Row]:
    """The rows of the rates table: greedy, sampled and expected answers of every model; those that
    are greedy say by which limits it is marked."""
    for result in results.trials:
        for kind, rates in _metric(result, "answers").items():
            row = _named(result, {"answers": kind, **rates})
            if result.record and kind == "greedy":
                row["marks"] = flag_columns(result.record.metrics, results.limits)["marks"]
            yield row


def rate_by_data_rows(results: StudyResults) -> Iterator[Row]:
    """The rows of the rates_by_data table: each model on the prompts of every data set that a model
    of a merge was trained on, of those that it was asked."""
    prompts = results.of_merges
    for result in results.trials:
        asked = dict(_metric(result, ASKED))
        own = prompts.own(result.planned)
        found = {kind: of for kind, of in _metric(result, "answers").items() if kind != "expected"}
        if own and found:
            asked[own] = found
        for data, id in prompts.ids.items():
            for kind, rates in asked.get(id, {}).items():
                yield _named(result, {"data": data, "answers": kind, **rates})


def likelihood_rows(results: StudyResults) -> Iterator[Row]:
    """The rows of the likelihoods table: every model on the held-out answers of every data set."""
    for result in results.trials:
        for data, found in _metric(result, "likelihoods").items():
            yield _named(result, {"data": data, **found})


def _named(result: TrialResult, row: Mapping[str, Any]) -> Row:
    return {"trial_id": result.planned.id, "name": result.planned.name, **row}


def _files(results: StudyResults, name: str) -> Iterator[tuple[TrialResult, str]]:
    """The finished trials whose records list the file `name`, each with its key."""
    for result in results.trials:
        if result.record and name in result.record.files:
            yield result, trial_key(result.planned.folder, name)


def _metric(result: TrialResult, key: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result.record.metrics.get(key, {}) if result.record else {}
    return found
