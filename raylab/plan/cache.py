"""The state of everything that is planned: cached, to run or blocked; and why.

Model: a trial is `cached` if the store holds its record, `blocked` while its parent is not cached,
and otherwise `to run`. If its record is of another evaluation, it is `to run`, but its model is
only evaluated again. For a trial without a record, the reason names the fields of its identity
that differ from the most similar record of the same name; for a value of a sweep that has none,
from the record of another value of that sweep that the study no longer asks for. A merge is
treated like a trial, and the models that it merges like its parents. A finished model that is asked
waits for nothing. If two names have one id, the second waits for the first: they are one training.
Invariant: the states depend on the plan and on the records only, never on a clock, a host or a
library.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.plan.asked import NOTHING_BESIDE, MergePrompts, merge_prompts
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.merges import Asked, Planned, PlannedMerge, dependencies_of
from raylab.plan.trials import Trial
from raylab.spec.data.held_out import held_out_answers
from raylab.spec.data.rows import Row, rows_fingerprint
from raylab.spec.decoding import SET_ASIDE
from raylab.spec.evaluation import JUDGED_LATER
from raylab.spec.identity import changed_fields, fingerprint
from raylab.spec.proposals import nearest_first
from raylab.spec.seeds import COLUMNS, seeds_of_identity
from raylab.spec.study import Study
from raylab.spec.swept_names import by_value, without_point
from raylab.store.records import ASKED, Record, named_likelihoods

EVALUATE_AGAIN = "other questions: asked again, not trained"
EVALUATE_MERGE_AGAIN = "other questions: asked again, not merged"
ASK_FINISHED = "a finished model of a merge: to be asked what the merge is asked"
ASK_FINISHED_AGAIN = "other questions: asked again"
DECODE_AGAIN = "its answers followed the base model's decoding settings: asked again, not made"


@dataclass(frozen=True)
class PlannedTrial:
    """A trial, a merge or a finished model that is asked, its state (cached, to run, blocked), and
    why."""

    trial: Asked
    state: str
    why: str

    @property
    def document(self) -> dict[str, Any]:
        """The same as JSON has it."""
        seeds = {key: self.trial.row.get(key) for key in ("seed", *COLUMNS)}
        named = {"name": self.trial.name, "trial_id": self.trial.id}
        return {**named, "state": self.state, "why": self.why, **seeds}


@dataclass(frozen=True)
class Questions:
    """What trained models are asked; no part of a trial's identity.

    held_out: fingerprints of the held-out rows whose likelihood is measured, by data set.
    of_merges: the prompts that merges and their models answer.
    """

    settings: Mapping[str, Any]
    held_out: Mapping[str, str]
    of_merges: MergePrompts = NOTHING_BESIDE

    @property
    def id(self) -> str:
        """Their fingerprint, as records have it."""
        return self._id_with(self.held_out)

    def named(self, record: Record) -> Record:
        """`record`; if only the names of data sets differ from its questions, with these names."""
        former = record.held_out
        is_renamed = former != dict(self.held_out)
        has_same_rows = set(former.values()) == set(self.held_out.values())
        if not (is_renamed and has_same_rows and record.evaluation == self._id_with(former)):
            return record
        named = {
            "held_out": dict(self.held_out),
            "metrics": named_likelihoods(record, self.held_out),
        }
        return record.model_copy(update={"evaluation": self.id, **named})

    def _id_with(self, held_out: Mapping[str, str]) -> str:
        return fingerprint({**self.settings, "held_out": dict(held_out)})


def questions_of(study: Study, rows: Mapping[str, Sequence[Row]]) -> Questions:
    """The questions of `study`, whose data sets have `rows`."""
    answers = held_out_answers(study, rows)
    held_out = {name: rows_fingerprint(found) for name, found in answers.items()}
    settings = study.evaluation.model_dump(exclude=set(JUDGED_LATER))
    return Questions(settings, held_out, merge_prompts(study, rows))


def evaluation_id(study: Study, rows: Mapping[str, Sequence[Row]]) -> str:
    """Fingerprint of the questions of `study`."""
    return questions_of(study, rows).id


def plan_states(
    trials: Sequence[Asked],
    records: Mapping[str, Record],
    evaluation: str | None = None,
    own_decoding: Collection[str] = (),
    needed: Mapping[str, Collection[str]] | None = None,
) -> list[PlannedTrial]:
    """The state of everything that is asked. records: of the store, by trial id.

    With `evaluation`, a record of another evaluation counts as not done. own_decoding: base
    models with decoding settings of their own, which older evaluations followed. needed: the
    prompts that are asked beside, by the name of a trial or a merge (`MergePrompts.needed`).
    """
    states: dict[str, PlannedTrial] = {}
    first: dict[str, str] = {}
    asked = {trial.id for trial in trials}
    replaced = [record for record in records.values() if record.id not in asked]
    for trial in trials:
        record = records.get(trial.id)
        same = first.setdefault(trial.id, trial.name)
        beside = (needed or {}).get(trial.name, ())
        is_asked = (
            record is not None
            and (not evaluation or record.evaluation == evaluation)
            and set(beside) <= set(record.metrics.get(ASKED, ()))
        )
        # No finished model was asked then, and one may have no such settings.
        is_decoded = trial.base_model not in own_decoding or isinstance(trial, FinishedParent)
        is_decoded = is_decoded or (record is not None and SET_ASIDE in record.metrics)
        is_done = is_asked and is_decoded
        if same != trial.name and not is_done:
            state, why = "blocked", f"waits for {same}: it is the same {_KINDS[type(trial)][0]}"
        elif record and not is_done:
            state, why = "to run", DECODE_AGAIN if is_asked else _KINDS[type(trial)][1]
        elif record:
            state, why = "cached", ""
        elif isinstance(trial, FinishedParent):
            state, why = "to run", ASK_FINISHED
        else:
            state, why = "to run", _reason_new(trial, records, replaced)
            parents = [states[name] for name in dependencies_of(trial)]
            # A model that is only evaluated again is in the store.
            missing = [parent.trial.name for parent in parents if parent.trial.id not in records]
            if missing:
                state, why = "blocked", f"waits for {' and '.join(missing)}; {why}"
        states[trial.name] = PlannedTrial(trial, state, why)
    return list(states.values())


_KINDS: Mapping[type[Asked], tuple[str, str]] = {
    Trial: ("training", EVALUATE_AGAIN),
    PlannedMerge: ("merge", EVALUATE_MERGE_AGAIN),
    FinishedParent: ("model", ASK_FINISHED_AGAIN),
}
"""What two names of one id are, and why a record is asked again."""


def _reason_new(trial: Planned, records: Mapping[str, Record], replaced: Sequence[Record]) -> str:
    """Why `trial` has no record; `replaced`: the records that the plan does not ask for."""
    same = [r for r in records.values() if by_value(r.name) == by_value(trial.name)]
    if same:
        # The most similar record differs in the fewest fields.
        return "new: " + "; ".join(sorted(_changes(trial, same), key=len)[0])
    former = [record for record in replaced if _is_other_point(record, trial)]
    if former:
        names = nearest_first(trial.name, [record.name for record in former])
        former.sort(key=lambda record: names.index(record.name))
        changes = _changes(trial, former)
        best = min(range(len(changes)), key=lambda place: len(changes[place]))
        return f"new in place of {former[best].name}: {'; '.join(changes[best])}"
    kind = "merge" if isinstance(trial, PlannedMerge) else "trial"
    return f"new: no {kind} of this name in the store"


def _changes(trial: Planned, records: Sequence[Record]) -> list[list[str]]:
    return [list(changed_fields(record.identity, trial.identity)) for record in records]


def _is_other_point(record: Record, trial: Planned) -> bool:
    """Whether both are trainings of one recipe, base model and seed, and one at least is swept."""
    if isinstance(trial, PlannedMerge) or seeds_of_identity(record.identity) != trial.seed:
        return False
    stem = f"{trial.base_model}.{trial.variant.recipe}"
    return (without_point(record.name) or record.name.removesuffix(trial.seed.suffix)) == stem
