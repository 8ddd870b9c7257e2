"""The held-out loss along lines between models: the stage over pinned actors, and its table.

Model: the points of all lines over one base model that are not there are the tasks of one
`LineJob`. Each actor loads the base model once, and gets runs of tasks that follow one another on
a line, so that it keeps their adapters from point to point.
Invariant: the table does not depend on the number of actors, nor on what was there before, bit for
bit on one kind of device. Every point of every line has a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from raylab.cluster.actors import ActorPool
from raylab.cluster.functions import PASSES_A_SHARD
from raylab.cluster.line_parts import TABLE, WantedLines, wanted_lines
from raylab.cluster.study_context import StudyContext
from raylab.cluster.study_progress import Execute, counted
from raylab.number_format import plural
from raylab.reduce.job import Call
from raylab.reduce.shard_cache import CachingExecutor
from raylab.results.notes import with_notes
from raylab.spec.identity import fingerprint
from raylab.store.filesystem import REDUCE
from raylab.store.parts import Parts
from raylab.store.phase import Tell, silent
from raylab.store.tables import write_table
from raylab.train.evaluate.line_job import LineJob, LineTask

MOST_PASSES = 1 << 14
"""A shard of more would come near the deadline of an actor."""


def evaluate_lines(
    context: StudyContext, pool: ActorPool, say: Callable[[str], None], tell: Tell = silent
) -> None:
    """Evaluate what is missing on the actors of `pool`, and write the table."""
    cached = CachingExecutor.in_store(context.store, cast(Any, pool.packed), _key)
    write_connectivity(context, cast(Execute[LineJob], cached), say, tell, workers=pool.size)
    context.store.delete(REDUCE)


def _key(job: LineJob, call: Call) -> str:
    """The key of a result, which stays in the store until the table is written."""
    return fingerprint([job.id, call.method, call.arguments])


def write_connectivity(
    context: StudyContext,
    execute: Execute[LineJob],
    say: Callable[[str], None],
    tell: Tell = silent,
    workers: int = 1,
) -> int:
    """Evaluate what is missing, and write the table; returns the number of forward passes.

    workers: how many calls run side by side.
    """
    records = context.records()
    wanted, passes = list(wanted_lines(context, records)), 0
    parts = Parts.load(context.store) if wanted else Parts((), {})
    rows = []
    for of_base in wanted:
        failed: dict[str, str] = {}
        tasks = of_base.missing(parts)
        if tasks:
            asked = sum(len(of_base.held_out[task.data]) for task in tasks)
            passes += asked
            say(
                f"evaluating {plural(len(of_base.lines), 'line')} between models of "
                f"{of_base.base}: {asked:,} forward passes"
            )
            failed = _evaluate(context, of_base, tasks, parts, counted(execute, tell), workers)
            for why in dict.fromkeys(failed.values()):
                say(f"points of a line are not evaluated: {why}")
            parts.save(context.store)
        rows += list(of_base.rows(parts, failed))
    notes = context.notes(records)
    write_table(context.store, TABLE, with_notes(rows, {}, notes))
    return passes


def _evaluate(
    context: StudyContext,
    wanted: WantedLines,
    tasks: tuple[LineTask, ...],
    parts: Parts,
    execute: Execute[LineJob],
    workers: int,
) -> dict[str, str]:
    """Evaluate `tasks` and add their losses to `parts`; why others failed, by key."""
    job = LineJob(
        study=context.study,
        base=context.inputs.base_models[wanted.base],
        trials={trial.name: trial for trial in context.trials},
        merges={merge.name: merge for merge in context.merges},
        finished=context.inputs.models,
        answers=wanted.held_out,
        tasks=tasks,
        uri=context.store.uri,
        id=wanted.job_id(tasks),
    )
    shards = deal([len(wanted.held_out[task.data]) for task in tasks], workers)
    calls = [Call("losses", (shard,), number) for number, shard in enumerate(shards)]
    failed = {}
    for number, results in execute(job, calls):
        for place, found in zip(shards[number], results, strict=True):
            wanted.add(parts, tasks[place], found)
            if found["failed"]:
                lines = map(str.strip, found["failed"].splitlines())
                failed[wanted.key_of(tasks[place])] = "; ".join(lines)
    return failed


def deal(passes: Sequence[int], workers: int) -> list[list[int]]:
    """The places of tasks with so many forward passes each, as runs of about the same work."""
    total = sum(passes)
    count = max(1, min(workers, total // PASSES_A_SHARD), math.ceil(total / MOST_PASSES))
    shards: list[list[int]] = [[] for _ in range(count)]
    done = 0
    for place, amount in enumerate(passes):
        shards[min(count - 1, done * count // max(1, total))].append(place)
        done += amount
    return [shard for shard in shards if shard]
