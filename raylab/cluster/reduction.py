"""The reduction of a study: its comparisons over pinned actors, and the tables of them.

Model: what a reduction says of a comparison, of two models beside each other or of one model is a
part, kept in the store by what determines it (`raylab.store.parts`). All parts over one base model
and view that are missing are one job. The results of its shards stay in the store until its parts
are written, so a reduction that was killed resumes there. The tables are made of parts.
Invariant: every planned comparison has a row with its outcome, also where a model cannot be
reduced (see `raylab.cluster.unreadable`). The tables are those of a reduction from nothing, bit
for bit, whatever was there before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from raylab.cluster.actors import ActorPool
from raylab.cluster.study_context import StudyContext
from raylab.cluster.study_parts import wanted_parts
from raylab.cluster.study_progress import counted
from raylab.cluster.unreadable import failed, tell_in_trials, unreadable
from raylab.cluster.wanted_parts import TABLES_OF_REDUCTION, WantedParts
from raylab.number_format import plural
from raylab.reduce.job import Executor
from raylab.reduce.shard_cache import CachingExecutor
from raylab.reduce.tables import Tables
from raylab.results.comparison_rows import comparison_rows
from raylab.results.notes import with_notes
from raylab.store.filesystem import REDUCE
from raylab.store.parts import Parts
from raylab.store.phase import Tell, silent
from raylab.store.tables import write_table


def reduce_study(
    context: StudyContext, pool: ActorPool, say: Callable[[str], None], tell: Tell = silent
) -> bool:
    """Reduce what is missing on the actors of `pool`, and write the tables.

    `tell` hears of every shard that is done. Returns whether every model could be reduced.
    """
    cached = CachingExecutor.in_store(context.store, pool.packed)
    sent = len(pool.message_bytes)
    read, causes = write_reduction(context, counted(cached, tell), say)
    context.store.delete(REDUCE)
    messages = pool.message_bytes[sent:]
    if messages:
        say(f"{len(messages)} messages of at most {max(messages):,} bytes")
    if read.bytes_read:
        say(f"{read.bytes_read:,} bytes of weights read, {read.bytes_read_again:,} read again")
    if cached.found:
        say(f"{cached.found} parts were there from a reduction that did not end")
    return not causes


def write_reduction(
    context: StudyContext, execute: Executor, say: Callable[[str], None]
) -> tuple[Tables, Mapping[str, str]]:
    """Reduce what is missing of the comparisons whose two sides are there, and write the tables.

    Returns what was computed, and why models could not be reduced, by their names, but for those of
    which that was known.
    """
    planned, records = context.comparisons, context.records()
    places = context.places(records)
    missing = [name for name, place in places.items() if place is None]
    outcomes = comparison_rows(planned, missing, context.left_out(records))
    ready = [c for c, row in zip(planned, outcomes, strict=True) if row["status"] == "done"]
    parts, wanted = Parts.load(context.store), list(wanted_parts(context, records, ready, places))
    asked = (name for of_base in wanted for name in of_base.missing_models(parts))
    causes = unreadable(context, places, asked)
    if causes:
        for name, cause in causes.items():
            say(f"{name} cannot be reduced: {cause}")
        outcomes = failed(outcomes, planned, causes)
        places = {name: None if name in causes else place for name, place in places.items()}
        ready = [c for c, row in zip(planned, outcomes, strict=True) if row["status"] == "done"]
        wanted = list(wanted_parts(context, records, ready, places))
    _say_what_is_missing(wanted, parts, len(planned) - len(ready), say)
    computed = Tables()
    for of_base in wanted:
        computed.extend(of_base.reduce(context, parts, places, execute))
        parts.save(context.store)
    notes = context.notes(records)
    sides = {c.name: (c.a.name, c.b.name) for c in planned}
    tables = {
        name: [row for of_base in wanted for row in of_base.rows(parts, name)]
        for name in TABLES_OF_REDUCTION
    }
    for name, found in {"comparisons": outcomes, **tables}.items():
        write_table(context.store, name, with_notes(found, sides, notes))
    tell_in_trials(context.store, causes)
    foreseen = _with_other_rows(context)
    return computed, {name: cause for name, cause in causes.items() if name not in foreseen}


def _with_other_rows(context: StudyContext) -> set[str]:
    """The merges that name a tokenizer, and the finished models that they take: that these may have
    other rows than the base model was known before anything was made."""
    merges = [merge for merge in context.merges if merge.request.tokenizer]
    taken = {item.model for merge in merges for item in merge.request.inputs}
    return {*(merge.name for merge in merges), *(taken & context.inputs.models.keys())}


def _say_what_is_missing(
    wanted: Sequence[WantedParts], parts: Parts, apart: int, say: Callable[[str], None]
) -> None:
    """How many comparisons are reduced; those of several views are counted once."""
    names = {c.name for w in wanted for c in w.comparisons}
    missing = {c.name for w in wanted for c in w.missing_comparisons(parts)}
    kept = len(names) - len(missing)
    there = f"; {kept} {'was' if kept == 1 else 'were'} there already" if kept else ""
    say(f"reducing {len(missing)} of {plural(len(names) + apart, 'comparison')}{there}")
    pairs = sum(len(list(itertools.combinations(w.models, 2))) for w in wanted)
    old_pairs = pairs - sum(len(w.missing_pairs(parts)) for w in wanted)
    old_models = sum(len(w.known_models(parts)) for w in wanted)
    if old_pairs < pairs and old_models:
        models = plural(sum(len(w.models) for w in wanted), "model")
        say(
            f"norms and thresholds of {old_models} of {models} and {old_pairs} of "
            f"{plural(pairs, 'pair')} are taken from the store"
        )
