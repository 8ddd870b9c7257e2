"""How models differ in what they predict: the stage over pinned actors, and its three tables.

Model: over one base model, every two of its trials, merges and finished models, and the base model
itself, are compared on the held-out answers of each data set and on their own greedy answers. What
is found of a pair on some answers is a part, kept in the store by what determines it
(`raylab.store.parts`). All that is missing is one `FunctionJob`; its answers are cut into blocks,
and the blocks are dealt to the actors. A model that is new goes through all answers with the
others, and the pairs that are there are left alone.
Invariant: the tables do not depend on the number of actors, nor on what was there before, bit for
bit on one kind of device. A model that is not there, or cannot be asked, has no rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import ray

from raylab.cluster.actors import ActorPool
from raylab.cluster.function_parts import UsageKey, WantedFunctions, wanted_functions
from raylab.cluster.parent_cleanup import delete_parents
from raylab.cluster.study_context import StudyContext
from raylab.cluster.study_progress import Execute, counted
from raylab.number_format import plural
from raylab.reduce.job import Call, balanced
from raylab.reduce.shard_cache import CachingExecutor
from raylab.results.notes import notes_of, with_notes
from raylab.spec.identity import fingerprint
from raylab.store.filesystem import REDUCE
from raylab.store.parts import Parts
from raylab.store.phase import Tell, silent
from raylab.store.tables import write_table
from raylab.train.evaluate.function_job import Block, FunctionJob, Usage
from raylab.train.evaluate.function_rows import UsageResult

TABLES_OF_FUNCTIONS = ("functions", "cka", "differing_tokens")
BLOCK_TOKENS = 512
"""About the answer tokens of a block, over which CKA is taken: a Gram matrix of 2 MB a model."""
PASSES_A_SHARD = 512
"""Fewer forward passes are not worth the start of one more actor."""
MOST_PASSES = 1 << 14
"""A shard of more would come near the deadline of an actor."""
KEPT_BYTES = 8 << 30
"""The predictions that an actor keeps in main memory."""

_DELETE_SECONDS = 30.0


def compare_functions(
    context: StudyContext, pool: ActorPool, say: Callable[[str], None], tell: Tell = silent
) -> None:
    """Compare what is missing on the actors of `pool`, and write the tables."""
    cached = CachingExecutor.in_store(context.store, cast(Any, pool.packed), _key)
    built: set[str] = set()
    try:
        execute = cast(Execute[FunctionJob], cached)
        write_functions(context, execute, say, tell, workers=pool.size, built=built)
        context.store.delete(REDUCE)
    finally:
        if built:
            # The driver may end soon; a node that does not answer keeps them until it is asked.
            asked = delete_parents(context.store.uri, sorted(built))
            ray.wait(asked, num_returns=len(asked), timeout=_DELETE_SECONDS)


def _key(job: FunctionJob, call: Call) -> str:
    """The key of a result, which stays in the store until the tables are written."""
    return fingerprint([job.id, call.method, call.arguments])


def write_functions(
    context: StudyContext,
    execute: Execute[FunctionJob],
    say: Callable[[str], None],
    tell: Tell = silent,
    workers: int = 1,
    built: set[str] | None = None,
) -> int:
    """Compare what is missing, and write the tables; returns the number of forward passes.

    workers: how many calls run side by side. built: gets the ids of parents that are merged anew.
    """
    records = context.records()
    wanted, passes = list(wanted_functions(context, records)), 0
    parts = Parts.load(context.store) if wanted else Parts((), {})
    for of_base in wanted:
        usages = of_base.missing(parts)
        if not usages:
            continue
        job = _job(context, of_base, usages)
        if built is not None:
            built |= _merged_parents(job)
        asked = sum(len(usage.models) * len(usage.answers) for usage in job.usages)
        passes += asked
        say(
            f"comparing what {plural(len(job.models), 'model')} of {of_base.base} predict: "
            f"{asked:,} forward passes"
        )
        found, failed = _compared(job, asked, execute, tell, workers)
        for name, why in failed.items():
            say(f"{name} is not compared by its predictions: {why}")
        of_base.add(parts, dict(zip(usages, found, strict=True)), failed)
        parts.save(context.store)
    notes = notes_of(context.planned, records, context.study.evaluation.limits)
    for name in TABLES_OF_FUNCTIONS:
        rows = [row for of_base in wanted for row in of_base.rows(parts, name)]
        write_table(context.store, name, with_notes(rows, {}, notes))
    return passes


def _job(
    context: StudyContext, wanted: WantedFunctions, usages: Mapping[UsageKey, Usage]
) -> FunctionJob:
    return FunctionJob(
        study=context.study,
        base=context.inputs.base_models[wanted.base],
        trials={trial.name: trial for trial in context.trials},
        merges={merge.name: merge for merge in context.merges},
        finished=context.inputs.models,
        usages=tuple(usages.values()),
        uri=context.store.uri,
        id=wanted.job_id(usages),
    )


def _merged_parents(job: FunctionJob) -> set[str]:
    """The ids of the trials that a node merges to load the models of `job`."""
    asked = [job.trials[name] for name in job.models if name in job.trials]
    lineages = [(*(job.trials[name] for name in trial.lineage), trial) for trial in asked]
    return {
        job.trials[trial.parent].id
        for trial in itertools.chain(*lineages)
        if trial.parent and trial.variant.chain == "merge"
    }


def _compared(
    job: FunctionJob, passes: int, execute: Execute[FunctionJob], tell: Tell, workers: int
) -> tuple[list[UsageResult], dict[str, str]]:
    """What is found on each usage, and why models could not be asked."""
    count = max(1, min(workers, passes // PASSES_A_SHARD))
    # Every actor frames the answers, and is then there for the comparison.
    framing = [Call("frame", (number,), number) for number in range(count)]
    told = counted(execute, tell)
    framed = dict(told(job, framing))[0]
    shards = deal(job, framed["tokens"], framed["bytes"], count)
    calls = [Call("compare", (shard,), count + number) for number, shard in enumerate(shards)]
    results = [result for _, result in told(job, calls)]
    failed = {name: why for result in results for name, why in result["failed"].items()}
    blocks = [block for result in results for block in result["blocks"]]
    blocks.sort(key=lambda block: (block["usage"], block["first"]))
    found = [
        UsageResult(usage, [block for block in blocks if block["usage"] == number])
        for number, usage in enumerate(job.usages)
    ]
    return found, failed


def deal(
    job: FunctionJob, tokens: Sequence[Sequence[int]], token_bytes: int, count: int
) -> list[list[tuple[int, int, int]]]:
    """The blocks of all usages as shards of about the same work, at least `count` if there are
    as many blocks. tokens: of every answer of every usage."""
    blocks: list[tuple[int, Block]] = []
    passes = 0
    for number, usage in enumerate(job.usages):
        for first, stop in cut(tokens[number], BLOCK_TOKENS):
            work = sum(tokens[number][first:stop]) * len(usage.models)
            passes += (stop - first) * len(usage.models)
            blocks.append((work, Block(number, first, stop)))
    kept = sum(work for work, _ in blocks) * token_bytes
    least = max(count, math.ceil(kept / KEPT_BYTES), math.ceil(passes / MOST_PASSES))
    dealt = balanced([work for work, _ in blocks], min(least, len(blocks)))
    chosen = [[blocks[place][1] for place in sorted(places)] for places in dealt]
    return [[(block.usage, block.first, block.stop) for block in shard] for shard in chosen]


def cut(tokens: Sequence[int], most: int) -> list[tuple[int, int]]:
    """(first, stop) of runs of answers with about equal numbers of tokens, about `most` or less."""
    total = sum(tokens)
    count = max(1, math.ceil(total / most))
    cuts, so_far = [0], 0
    for place, number in enumerate(tokens, 1):
        so_far += number
        if so_far * count >= total * len(cuts) and len(cuts) < count:
            cuts.append(place)
    bounds = itertools.pairwise(dict.fromkeys([*cuts, len(tokens)]))
    return [(first, stop) for first, stop in bounds if first < stop]
