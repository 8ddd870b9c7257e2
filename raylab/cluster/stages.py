"""A whole study: plan, train, reduce, report, each stage reading what the store holds.

Model: `prepare` reads and checks everything a study names before anything is written; each
stage then does what is missing. What is done already is found by its record, and is left alone.
Invariant: an input error leaves no trace; a trial that fails leaves a row; the tables always
hold every planned trial; a second run over a finished store trains nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from raylab.cluster.actors import ActorPool
from raylab.cluster.session import connected
from raylab.errors import ModelError
from raylab.plan.cache import PlannedTrial, evaluation_id, plan_states
from raylab.plan.comparisons import Model, PlannedComparison, plan_comparisons, plan_models
from raylab.plan.status import attempt_rows, sample_rows, trial_rows
from raylab.plan.trials import Inputs, Trial, plan_trials, read_inputs
from raylab.reduce.shard import Pair, Place
from raylab.reduce.study import Job, Tables, reduce_pairs
from raylab.spec.base import resolve
from raylab.spec.identity import fingerprint
from raylab.spec.study import Study
from raylab.store.paths import REPORT, STUDY, TABLES, Store
from raylab.store.records import (
    ADAPTER,
    RECORD,
    Record,
    damaged_files,
    read_records,
    trial_key,
)
from raylab.store.tables import write_table

Say = Callable[[str], None]

# Written last: the tables and the report are complete for what it stands for.
ASKED = f"{REPORT}/asked.txt"
_TABLES_OF_STAGES = ("trials", "attempts", "samples", "norms", "densities", "curve")


@dataclass(frozen=True)
class Prepared:
    """A study whose inputs were found and whose store can be written."""

    study: Study
    inputs: Inputs
    trials: Sequence[Trial]
    store: Store

    def base_directory(self, name: str) -> Path | None:
        """Where a base model lies now, which may be since its first trial fetched it."""
        return resolve(name, self.study.base_models[name]).directory

    @property
    def models(self) -> dict[str, Model]:
        """Everything that comparisons may name."""
        return plan_models(self.study, self.trials)


def prepare(study: Study, out: str, *, online: bool = True) -> Prepared:
    """Check every input of `study`, then the store. Raises InputError; writes nothing before."""
    inputs = read_inputs(study, online=online)
    trials = plan_trials(study, inputs)
    store = Store(out)
    store.prepare()
    _write_study(store, study)
    return Prepared(study, inputs, trials, store)


def _write_study(store: Store, study: Study) -> None:
    buffer = io.StringIO()
    YAML(typ="safe", pure=True).dump(study.model_dump(mode="json", exclude_none=True), buffer)
    store.write(STUDY, buffer.getvalue().encode())


def run(prepared: Prepared, address: str | None, say: Say) -> bool:
    """Every stage that has something to do; whether every trial is done.

    Raises KeyboardInterrupt where the user stopped it, when what is finished is in the store.
    """
    states = trial_states(prepared, say)
    if all(item.state == "cached" for item in states) and _is_reported(prepared):
        say(_nothing_to_train(states))
        return True
    with connected(address):
        complete = train(prepared, address, say, states)
        reduce(prepared, address, say)
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
        "trials": [trial.id for trial in prepared.trials],
        "models": {name: found.identity for name, found in prepared.inputs.models.items()},
        "comparisons": [c.name for c in plan_comparisons(prepared.study, prepared.models)],
        "evaluation": evaluation_id(prepared.study),
        "densities": list(prepared.study.densities),
    }


def train(
    prepared: Prepared,
    address: str | None,
    say: Say,
    states: Sequence[PlannedTrial] | None = None,
) -> bool:
    """Train what is missing, and write the tables of trials; whether every trial is done."""
    states = trial_states(prepared, say) if states is None else states
    to_run = [item.trial for item in states if item.state != "cached"]
    if to_run:
        from raylab.cluster.tune import train_trials

        say(f"{len(to_run)} of {len(states)} trials to train")
        with connected(address):
            train_trials(prepared.study, prepared.inputs, prepared.trials, to_run, prepared.store)
    else:
        say(_nothing_to_train(states))
    return write_trial_tables(prepared)


def _nothing_to_train(states: Sequence[PlannedTrial]) -> str:
    return f"nothing to train: all {len(states)} trials are in the store"


def trial_states(prepared: Prepared, say: Say) -> list[PlannedTrial]:
    """What is done and what is to run, held against every byte that the records name."""
    records = sound_records(prepared, say)
    return plan_states(prepared.trials, records, evaluation_id(prepared.study))


def sound_records(prepared: Prepared, say: Say) -> Mapping[str, Record]:
    """The records whose files are whole; damaged trials are named and forgotten."""
    records, damaged = read_records(prepared.store)
    for problem in damaged:
        say(f"damaged, and trained again: {problem}")
    for trial in prepared.trials:
        record = records.get(trial.id)
        wrong = damaged_files(prepared.store, trial.folder, record) if record else []
        if wrong:
            say(f"damaged, and trained again: {trial.name}: {', '.join(wrong)}")
            prepared.store.delete(trial_key(trial.folder, RECORD))
            del records[trial.id]
    return records


def write_trial_tables(prepared: Prepared) -> bool:
    """Write trials, attempts and samples out of the store; whether every trial is done."""
    store, trials = prepared.store, prepared.trials
    rows = trial_rows(trials, store)
    write_table(store, "trials", rows)
    write_table(store, "attempts", attempt_rows(trials, store))
    write_table(store, "samples", sample_rows(trials, store))
    return all(row["status"] == "done" for row in rows)


def reduce(prepared: Prepared, address: str | None, say: Say) -> None:
    """Reduce every comparison whose two sides are there, and write the tables of norms."""
    wanted = plan_comparisons(prepared.study, prepared.models)
    records, _ = read_records(prepared.store)
    places = {name: _place(prepared, model, records) for name, model in prepared.models.items()}
    ready = [c for c in wanted if _there(c.a, places) and _there(c.b, places)]
    say(f"reducing {len(ready)} of {len(wanted)} comparisons")
    rows = Tables()
    with connected(address):
        pool = ActorPool(cpus=1)
        try:
            for base in dict.fromkeys(c.a.base_model for c in ready):
                mine = [c for c in ready if c.a.base_model == base]
                rows.extend(_reduce_base(prepared, base, mine, places, pool))
        finally:
            pool.close()
    for name in ("norms", "densities", "curve"):
        write_table(prepared.store, name, getattr(rows, name))


def _reduce_base(
    prepared: Prepared,
    base: str,
    comparisons: Sequence[PlannedComparison],
    places: Mapping[str, Place | None],
    pool: ActorPool,
) -> Tables:
    """All comparisons over one base model, in one job."""
    used = {side.name for c in comparisons for side in (c.a, c.b)}
    found = {name: place for name in sorted(used) if (place := places.get(name, Place()))}
    pairs = tuple(Pair(c.name, c.a.name, c.b.name) for c in comparisons)
    job = Job(found, pairs, prepared.base_directory(base))
    return reduce_pairs(job, prepared.study.densities, pool)


def _there(side: Model, places: Mapping[str, Place | None]) -> bool:
    return places.get(side.name, Place()) is not None


def _place(prepared: Prepared, model: Model, records: Mapping[str, Record]) -> Place | None:
    """Where the parameters of a model lie; None for a trial that is not done."""
    if model.name in prepared.study.models:
        return _finished_place(prepared, model)
    trials = {trial.name: trial for trial in prepared.trials}
    lineage = [trials[name] for name in model.lineage]
    if any(trial.id not in records for trial in lineage):
        return None
    scratch = Path(prepared.store.root)
    paths = [prepared.store.local(trial_key(t.folder, ADAPTER), scratch) for t in lineage]
    return Place(adapters=tuple(paths))


def _finished_place(prepared: Prepared, model: Model) -> Place:
    directory = prepared.inputs.models[model.name].directory
    if directory is None:
        raise ModelError(
            f"the model {model.name} is not on this machine",
            expected="a path, or a hub id that was downloaded",
            todo=f"download it: `hf download {prepared.study.models[model.name].hub}`",
        )
    if (directory / "adapter_config.json").is_file():
        return Place(adapters=(directory,))
    return Place(checkpoint=directory, base=prepared.base_directory(model.base_model))


def report(prepared: Prepared) -> str:
    """Write the report out of the tables; its address."""
    from raylab.report.render import build_report

    address = build_report(prepared.study, prepared.store)
    prepared.store.write(ASKED, fingerprint(_asked(prepared)).encode())
    return address
