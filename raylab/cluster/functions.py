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

from raylab.cluster.actors import DEADLINE, ActorPool
from raylab.cluster.function_parts import UsageKey, WantedFunctions, wanted_functions
from raylab.cluster.parent_cleanup import delete_parents
from raylab.cluster.study_context import StudyContext
from raylab.cluster.study_progress import Execute, counted
from raylab.number_format import plural
from raylab.reduce.job import Call, balanced
from raylab.reduce.shard_cache import CachingExecutor
from raylab.results.notes import with_notes
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
SHARD_SECONDS = DEADLINE / 4
"""A shard that is estimated to take longer would come near the deadline of an actor."""
KEPT_SHARE = 0.25
"""Of the cluster's main memory, for the predictions that all actors keep: the more an actor keeps,
the fewer times it loads each model."""
KEPT_BYTES = 4 << 30
"""The predictions that an actor keeps where the cluster does not tell its memory."""

_DELETE_SECONDS = 30.0
_SHARD_FORM = 2
"""To be raised when a call gives something else than it did for the same arguments."""


def compare_functions(
    context: StudyContext, pool: ActorPool, say: Callable[[str], None], tell: Tell = silent
) -> None:
    """Compare what is missing on the actors of `pool`, and write the tables."""
    cached = CachingExecutor.in_store(context.store, cast(Any, pool.packed), _key)
    built: set[str] = set()
    try:
        execute = cast(Execute[FunctionJob], cached)
        kept = int(ray.cluster_resources().get("memory", 0) * KEPT_SHARE / pool.size) or KEPT_BYTES
        write_functions(context, execute, say, tell, pool.size, kept, built)
        context.store.delete(REDUCE)
    except BaseException:
        # An actor that still works would build a parent again.
        pool.close()
        raise
    finally:
        if built:
            # The driver may end soon; a node that does not answer keeps them until it is asked.
            asked = delete_parents(context.store.uri, sorted(built))
            ray.wait(asked, num_returns=len(asked), timeout=_DELETE_SECONDS)


def _key(job: FunctionJob, call: Call) -> str:
    """The key of a result, which stays in the store until the tables are written."""
    return fingerprint([_SHARD_FORM, job.id, call.method, call.arguments])


def write_functions(
    context: StudyContext,
    execute: Execute[FunctionJob],
    say: Callable[[str], None],
    tell: Tell = silent,
    workers: int = 1,
    kept_bytes: int = KEPT_BYTES,
    built: set[str] | None = None,
) -> int:
    """Compare what is missing, and write the tables; returns the number of forward passes.

    workers: how many calls run side by side. kept_bytes: the predictions that each keeps at once.
    built: gets the ids of parents that are merged anew.
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
        count = max(1, min(workers, asked // PASSES_A_SHARD))
        found, failed = _compared(job, count, kept_bytes, counted(execute, tell))
        for name, why in failed.items():
            say(f"{name} is not compared by its predictions: {why}")
        of_base.add(parts, dict(zip(usages, found, strict=True)), failed)
        parts.save(context.store)
    notes = context.notes(records)
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
    job: FunctionJob, count: int, kept_bytes: int, execute: Execute[FunctionJob]
) -> tuple[list[UsageResult], dict[str, str]]:
    """What is found on each usage, by `count` actors, and why models could not be asked."""
    # Every actor frames the answers, and is then there for the comparison.
    framing = [Call("frame", (number,), number) for number in range(count)]
    framed = dict(execute(job, framing))[0]
    shards = deal(job, framed, count, kept_bytes)
    calls = [Call("compare", (shard,), count + number) for number, shard in enumerate(shards)]
    results = [result for _, result in execute(job, calls)]
    failed = {name: why for result in results for name, why in result["failed"].items()}
    blocks = [block for result in results for block in result["blocks"]]
    blocks.sort(key=lambda block: (block["usage"], block["first"]))
    found = [
        UsageResult(usage, [block for block in blocks if block["usage"] == number])
        for number, usage in enumerate(job.usages)
    ]
    return found, failed


def deal(
    job: FunctionJob, framed: Mapping[str, Any], count: int, kept_bytes: int
) -> list[list[tuple[int, int, int]]]:
    """The blocks of all usages as shards of about the same work, at least `count` if there are
    as many blocks. framed: what `FunctionShard.frame` gives."""
    blocks: list[tuple[int, Block]] = []
    seconds, kept = 0.0, 0
    for number, usage in enumerate(job.usages):
        token_bytes = framed["logits"] + (framed["states"] if usage.with_states else 0)
        tokens = framed["tokens"][number]
        for first, stop in cut(tokens, BLOCK_TOKENS):
            work = sum(tokens[first:stop]) * len(usage.models)
            seconds += sum(framed["seconds"][number][first:stop]) * len(usage.models)
            seconds += sum(tokens[first:stop]) * len(usage.pairs) * framed["pair_seconds"]
            kept += work * token_bytes
            blocks.append((work, Block(number, first, stop)))
    least = max(count, math.ceil(kept / kept_bytes), math.ceil(seconds / SHARD_SECONDS))
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
