"""A whole study: plan, train, merge, reduce, report, each stage reading what the store holds.

Model: `prepare` reads and checks everything a study names before anything is written; each
stage then does what is missing. Merges are made where trials are trained, as soon as all that
can be trained is. What is done already is found by its record, and is left alone.
Invariant: an input error leaves no trace; a trial that fails leaves a row; the tables always
hold every planned trial; a second run over a finished store trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from raylab.cluster.actors import ActorPool
from raylab.cluster.session import connected, has_gpus
from raylab.cluster.shared_storage import require_visible
from raylab.cluster.smallest_gpu import smallest_card
from raylab.cluster.stop import stoppable
from raylab.cluster.study_context import Prepared, write_study
from raylab.cluster.study_context import prepare as prepare
from raylab.number_format import plural
from raylab.plan.cache import PlannedTrial, plan_states
from raylab.plan.comparisons import PlannedComparison, plan_comparisons
from raylab.plan.merges import PlannedMerge
from raylab.plan.resources import too_large
from raylab.plan.trials import Trial
from raylab.reduce.passes import Executor, Job, Tables, detail_models, reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.reduce.shard_cache import Kept
from raylab.results.notes import notes_of, with_notes
from raylab.results.table_rows import (
    attempt_rows,
    comparison_rows,
    likelihood_rows,
    path_rows,
    rate_rows,
    read_results,
    sample_rows,
    trial_rows,
)
from raylab.spec.identity import fingerprint
from raylab.store.filesystem import REDUCE, REPORT, TABLES, Store
from raylab.store.lease import HeldLease, hold_lease
from raylab.store.records import RECORD, Record, damaged_files, read_records, trial_key
from raylab.store.references import ModelLocation
from raylab.store.tables import write_table
from raylab.weights.views import DELTA, View

Say = Callable[[str], None]

# Written last: the tables and the report are complete for what it stands for.
ASKED = f"{REPORT}/asked.txt"
TABLES_OF_REDUCE = ("norms", "densities", "curve", "pairs", "spectra", "chains", "audit")
_OF_REDUCTION = ("trials", "models", "comparisons", "limits", "leave_out_marked")
_OF_MODELS = {
    "attempts": attempt_rows,
    "samples": sample_rows,
    "rates": rate_rows,
    "likelihoods": likelihood_rows,
    "paths": path_rows,
}
_TABLES_OF_STAGES = ("trials", *_OF_MODELS, "comparisons", *TABLES_OF_REDUCE)


@contextmanager
def driving(prepared: Prepared, address: str | None) -> Iterator[HeldLease]:
    """Within, Ray is there, every node sees OUT, and no other driver works on it.

    Raises LeaseError where another one does, ClusterError, and OutError, before anything of the
    study is written.
    """
    with hold_lease(prepared.store) as lease, connected(address):
        require_visible(prepared.store)
        write_study(prepared)
        yield lease


def run(prepared: Prepared, address: str | None, say: Say) -> bool:
    """Every stage that has something to do; whether every trial is done.

    Raises KeyboardInterrupt where the user stopped it, when what is finished is in the store.
    """
    states = trial_states(prepared, say)
    if all(item.state == "cached" for item in states) and _is_reported(prepared):
        say(_nothing_to_train(states))
        return True
    with driving(prepared, address) as lease:
        complete = _train(prepared, lease, say, states)
        _reduce(prepared, say)
        report(prepared)
    return complete


def _is_reported(prepared: Prepared) -> bool:
    """Whether the tables and the report are of the trials and comparisons that are asked."""
    store = prepared.store
    if not all(store.exists(f"{TABLES}/{name}.parquet") for name in _TABLES_OF_STAGES):
        return False
    asked = fingerprint(_asked(prepared))
    return store.exists(ASKED) and store.read(ASKED).decode() == asked


def _asked(prepared: Prepared) -> dict[str, Any]:
    """What the tables and the report depend on, besides the trials' own results."""
    return {
        "trials": [item.id for item in prepared.planned],
        "models": {name: found.identity for name, found in prepared.inputs.models.items()},
        "comparisons": [c.name for c in plan_comparisons(prepared.study, prepared.models)],
        "evaluation": prepared.evaluation,
        "limits": prepared.study.evaluation.limits.model_dump(),
        "leave_out_marked": prepared.study.evaluation.leave_out_marked,
        "densities": list(prepared.study.densities),
        "views": list(prepared.study.views),
    }


def train(prepared: Prepared, address: str | None, say: Say) -> bool:
    """Train and merge what is missing, and write the tables of trials; whether all are done."""
    states = trial_states(prepared, say)
    with driving(prepared, address) as lease:
        return _train(prepared, lease, say, states)


def _train(prepared: Prepared, lease: HeldLease, say: Say, states: Sequence[PlannedTrial]) -> bool:
    missing = [item.trial for item in states if item.state != "cached"]
    to_train = [item for item in missing if isinstance(item, Trial)]
    if not missing:
        say(_nothing_to_train(states))
        return write_trial_tables(prepared)
    try:
        if to_train:
            _train_trials(prepared, lease, to_train, say)
        if len(missing) > len(to_train):
            _merge(prepared, say)
    finally:
        # Another driver may be at work once the lease is lost: then the tables are its own.
        complete = not lease.lost.is_set() and write_trial_tables(prepared)
    return complete


def _train_trials(prepared: Prepared, lease: HeldLease, trials: Sequence[Trial], say: Say) -> None:
    from raylab.cluster.callbacks.preview import Early
    from raylab.cluster.tune import train_trials

    say(f"{len(trials)} of {len(prepared.trials)} trials to train")
    if not has_gpus():
        say("no GPU in the cluster: they run on its CPUs")
    study, store = prepared.study, prepared.store
    card = smallest_card()
    if card is not None:
        for warning in too_large(study, prepared.inputs, trials, card):
            say(warning)
    # On an object store every node would fetch what a foretaste is made of.
    early = [Early(prepared, say)] if store.is_local else []
    with stoppable(store, lease, say) as stop:
        train_trials(study, prepared.inputs, prepared.trials, trials, store, stop, early)


def _merge(prepared: Prepared, say: Say) -> None:
    """Make the merges whose trials are done by now."""
    from raylab.cluster.merge_tasks import make_merges

    records, _ = read_records(prepared.store)
    states = plan_states(prepared.planned, records, prepared.evaluation)
    found = [item.trial for item in states if item.state == "to run"]
    ready = [item for item in found if isinstance(item, PlannedMerge)]
    say(f"{len(ready)} of {plural(len(prepared.merges), 'merge')} to make")
    make_merges(prepared.study, prepared.inputs, prepared.trials, ready, prepared.store, say)


def _nothing_to_train(states: Sequence[PlannedTrial]) -> str:
    merges = sum(isinstance(item.trial, PlannedMerge) for item in states)
    and_merges = f" and {plural(merges, 'merge')}" if merges else ""
    return f"nothing to train: all {len(states) - merges} trials{and_merges} are in the store"


def trial_states(prepared: Prepared, say: Say) -> list[PlannedTrial]:
    """What is done and what is to run, held against every byte that the records name."""
    records = sound_records(prepared, say)
    return plan_states(prepared.planned, records, prepared.evaluation)


def sound_records(prepared: Prepared, say: Say) -> Mapping[str, Record]:
    """The records whose files are whole; what is damaged is named and forgotten."""
    records, damaged = read_records(prepared.store)
    for problem in damaged:
        say(f"damaged, and made again: {problem}")
    for trial in prepared.planned:
        record = records.get(trial.id)
        wrong = damaged_files(prepared.store, trial.folder, record) if record else []
        if wrong:
            say(f"damaged, and made again: {trial.name}: {', '.join(wrong)}")
            prepared.store.delete(trial_key(trial.folder, RECORD))
            del records[trial.id]
    return records


def write_trial_tables(prepared: Prepared) -> bool:
    """Write trials, attempts and samples out of the store; whether every trial is done."""
    store, limits = prepared.store, prepared.study.evaluation.limits
    results = read_results(prepared.planned, store)
    rows = trial_rows(results, limits)
    write_table(store, "trials", rows)
    notes = {row["name"]: row["note"] for row in rows if row["note"]}
    for name, make in _OF_MODELS.items():
        write_table(store, name, with_notes(make(results), {}, notes))
    return all(row["status"] == "done" for row in rows)


def reduce(prepared: Prepared, address: str | None, say: Say) -> None:
    """Reduce every comparison whose two sides are there, and write the tables of it.

    Results of shards are kept in the store until all tables are written, so that a reduction
    that was killed goes on where it was.
    """
    with driving(prepared, address):
        _reduce(prepared, say)


def _reduce(prepared: Prepared, say: Say) -> None:
    wanted = plan_comparisons(prepared.study, prepared.models)
    records, _ = read_records(prepared.store)
    places = prepared.places(records)
    missing = [name for name, place in places.items() if place is None]
    outcomes = comparison_rows(wanted, missing, prepared.left_out(records))
    ready = [c for c, row in zip(wanted, outcomes, strict=True) if row["status"] == "done"]
    say(f"reducing {len(ready)} of {len(wanted)} comparisons")
    rows = Tables()
    pool = ActorPool(cpus=1)
    kept = kept_in(prepared.store, pool)
    try:
        for base in dict.fromkeys(model.base_model for model in prepared.models.values()):
            mine = [c for c in ready if c.a.base_model == base]
            rows.extend(_reduce_base(prepared, base, mine, places, kept))
    finally:
        pool.close()
    notes = notes_of(prepared.planned, records, prepared.study.evaluation.limits)
    sides = {c.name: (c.a.name, c.b.name) for c in wanted}
    tables = {name: getattr(rows, name) for name in TABLES_OF_REDUCE}
    for name, found in {"comparisons": outcomes, **tables}.items():
        write_table(prepared.store, name, with_notes(found, sides, notes))
    prepared.store.delete(REDUCE)
    if pool.sent:
        say(f"{len(pool.sent)} messages of at most {max(pool.sent):,} bytes")
    if rows.bytes_read:
        say(f"{rows.bytes_read:,} bytes of weights read, {rows.bytes_read_again:,} read again")
    if kept.found:
        say(f"{kept.found} parts were there from a reduction that did not end")


def kept_in(store: Store, execute: Executor) -> Kept:
    """`execute`, with what it gave kept in the store."""

    def load(key: str) -> bytes | None:
        place = f"{REDUCE}/{key}.npz"
        return store.read(place) if store.exists(place) else None

    return Kept(execute, load, lambda key, data: store.write(f"{REDUCE}/{key}.npz", data))


def _reduce_base(
    prepared: Prepared,
    base: str,
    comparisons: Sequence[PlannedComparison],
    places: Mapping[str, ModelLocation | None],
    execute: Executor,
) -> Tables:
    """All comparisons over one base model, in one job for each view."""
    there = {
        name: place
        for name, model in prepared.models.items()
        if model.base_model == base and (place := places[name])
    }
    rows = Tables()
    for view in prepared.study.views:
        job = Job(
            places=there | {base: ModelLocation()},
            pairs=tuple(Pair(c.name, c.a.name, c.b.name) for c in comparisons),
            base=prepared.base_directory(base),
            view=View(view, prepared.study.quantization if view == "dequantized" else None),
            vectors=tuple(there),
            quantization=prepared.study.quantization,
            id=fingerprint(_reduced(prepared, base, view)),
            out=None if prepared.store.is_local else prepared.store.uri,
        )
        rows.extend(reduce_pairs(job, prepared.study.densities, execute))
        if view == DELTA.name:
            rows.extend(detail_models(job, execute))
    return rows


def _reduced(prepared: Prepared, base: str, view: str) -> dict[str, Any]:
    """What the results of a reduction depend on."""
    asked = _asked(prepared)
    return {
        "base": prepared.inputs.base_models[base].identity,
        "view": view,
        **{key: asked[key] for key in _OF_REDUCTION},
    }


def report(prepared: Prepared) -> str:
    """Write the report out of the tables; its address."""
    from raylab.report.page.render import build_report

    address = build_report(prepared.study, prepared.store)
    prepared.store.write(ASKED, fingerprint(_asked(prepared)).encode())
    return address
