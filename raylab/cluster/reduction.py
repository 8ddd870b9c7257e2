"""The reduction of a study: its comparisons over pinned actors, and the tables of them.

Model: all comparisons over one base model are one job for each view. The results of shards stay
in the store until all tables are written, so a reduction that was killed resumes there.
Invariant: every planned comparison has a row with its outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from raylab.cluster.actors import ActorPool
from raylab.cluster.study_context import StudyContext
from raylab.plan.comparisons import PlannedComparison
from raylab.reduce.job import Executor, Job
from raylab.reduce.passes import Tables, detail_models, reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.reduce.shard_cache import CachingExecutor
from raylab.results.notes import notes_of, with_notes
from raylab.results.table_rows import comparison_rows
from raylab.spec.identity import fingerprint
from raylab.store.filesystem import REDUCE, Store
from raylab.store.references import ModelLocation
from raylab.store.tables import write_table
from raylab.weights.views import DELTA, View

TABLES_OF_REDUCTION = ("norms", "densities", "curve", "pairs", "spectra", "chains", "audit")


def reduce_study(context: StudyContext, say: Callable[[str], None]) -> None:
    """Reduce every comparison whose two sides are there, and write its tables."""
    planned, records = context.comparisons, context.records()
    places = context.places(records)
    missing = [name for name, place in places.items() if place is None]
    outcomes = comparison_rows(planned, missing, context.left_out(records))
    ready = [c for c, row in zip(planned, outcomes, strict=True) if row["status"] == "done"]
    say(f"reducing {len(ready)} of {len(planned)} comparisons")
    rows = Tables()
    pool = ActorPool(cpus=1)
    cached = cached_in(context.store, pool.packed)
    try:
        for base in dict.fromkeys(model.base_model for model in context.models.values()):
            of_base = [c for c in ready if c.a.base_model == base]
            rows.extend(reduce_base(context, base, of_base, places, cached))
    finally:
        pool.close()
    notes = notes_of(context.planned, records, context.study.evaluation.limits)
    sides = {c.name: (c.a.name, c.b.name) for c in planned}
    tables = {name: getattr(rows, name) for name in TABLES_OF_REDUCTION}
    for name, found in {"comparisons": outcomes, **tables}.items():
        write_table(context.store, name, with_notes(found, sides, notes))
    context.store.delete(REDUCE)
    if pool.message_bytes:
        largest = max(pool.message_bytes)
        say(f"{len(pool.message_bytes)} messages of at most {largest:,} bytes")
    if rows.bytes_read:
        say(f"{rows.bytes_read:,} bytes of weights read, {rows.bytes_read_again:,} read again")
    if cached.found:
        say(f"{cached.found} parts were there from a reduction that did not end")


def cached_in(store: Store, execute: Executor) -> CachingExecutor:
    """`execute`, with its results kept in the store."""

    def load(key: str) -> bytes | None:
        return store.read_if_there(f"{REDUCE}/{key}.npz")

    return CachingExecutor(
        execute, load, lambda key, data: store.write(f"{REDUCE}/{key}.npz", data)
    )


def reduce_base(
    context: StudyContext,
    base: str,
    comparisons: Sequence[PlannedComparison],
    places: Mapping[str, ModelLocation | None],
    execute: Executor,
) -> Tables:
    """The tables of `comparisons`, all over the base model `base`; one job for each view."""
    study = context.study
    of_base = {
        name: place
        for name, model in context.models.items()
        if model.base_model == base and (place := places[name])
    }
    rows = Tables()
    for view in study.views:
        job = Job(
            places=of_base | {base: ModelLocation()},
            pairs=tuple(Pair(c.name, c.a.name, c.b.name) for c in comparisons),
            base=context.base_directory(base),
            view=View(view, study.quantization if view == "dequantized" else None),
            vectors=tuple(of_base),
            quantization=study.quantization,
            id=fingerprint(context.reduction_identity(base, view)),
            out=None if context.store.is_local else context.store.uri,
        )
        rows.extend(reduce_pairs(job, study.densities, execute))
        if view == DELTA.name:
            rows.extend(detail_models(job, execute))
    return rows
