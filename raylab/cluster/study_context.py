"""A study with its inputs and its plan: everything that the stages work on.

Model: `prepare` reads and checks everything that a study names, plans it, and then opens the
store. `StudyContext` holds the result, and says where the parameters of a finished model lie.
Invariant: an input error leaves no trace. The identities here hold everything that tables and
report depend on, so equal identities mean equal results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from raylab.errors import ModelError, OutError
from raylab.merge.study_checks import check_merges
from raylab.plan.cache import PlannedTrial, Questions, plan_states, questions_of
from raylab.plan.comparisons import Model, PlannedComparison, plan_comparisons, plan_models
from raylab.plan.connectivity import Line, line_answers, plan_lines
from raylab.plan.directions import check_directions
from raylab.plan.finished_parents import FinishedParent, plan_finished_parents
from raylab.plan.functions import compared_answers
from raylab.plan.merges import Asked, Planned, PlannedMerge, plan_merges
from raylab.plan.stored import StoredResults, find_results
from raylab.plan.trials import Inputs, Trial, plan_trials, read_inputs
from raylab.results.notes import notes_of
from raylab.results.quality_flags import flagged_models
from raylab.spec.identity import fingerprint
from raylab.spec.models import resolve
from raylab.spec.study import Study
from raylab.spec.study_file import study_text
from raylab.store.filesystem import STUDY, Store, study_scratch
from raylab.store.phase import Tell, silent
from raylab.store.records import ADAPTER, Record, trial_key
from raylab.store.references import MERGED, ModelLocation, location_of
from raylab.store.studies import make_room
from raylab.store.study_plan import NamedResult, StudyPlan, write_plan
from raylab.train.known_losses import check_losses
from raylab.train.known_targets import check_unknown_targets

# Ray unpacks the working directory of a job below this.
_JOB_DIRECTORY = "/working_dir_files/_ray_pkg_"


@dataclass(frozen=True)
class StudyContext:
    """A study whose inputs were found and whose store can be written.

    Its trials and merges know the folders that the store has for their ids.
    """

    study: Study
    inputs: Inputs
    trials: Sequence[Trial]
    merges: Sequence[PlannedMerge]
    store: Store
    finished_parents: Sequence[FinishedParent] = ()
    """The finished models that merges take, which are asked as the merges are."""

    def base_directory(self, name: str) -> Path | None:
        """The directory of a base model; a hub's may be there only since a trial fetched it."""
        return resolve(name, self.study.base_models[name]).directory

    @cached_property
    def questions(self) -> Questions:
        """The questions that models are asked."""
        return questions_of(self.study, self.inputs.rows)

    @property
    def evaluation(self) -> str:
        """Fingerprint of the questions that models are asked."""
        return self.questions.id

    @property
    def models(self) -> dict[str, Model]:
        """Everything that comparisons may name."""
        return plan_models(self.study, self.planned)

    @property
    def planned(self) -> list[Planned]:
        """Everything that has a row in the trials table: trials, then merges."""
        return [*self.trials, *self.merges]

    @property
    def asked(self) -> list[Asked]:
        """Everything that has a record: the same, then finished models of merges."""
        return [*self.planned, *self.finished_parents]

    @property
    def comparisons(self) -> list[PlannedComparison]:
        """All comparisons, in the order of the study."""
        return plan_comparisons(self.study, self.models)

    @property
    def lines(self) -> list[Line]:
        """All lines between models, in the order of the study."""
        return plan_lines(self.study, self.models)

    def stored(self) -> StoredResults:
        """What the store holds now."""
        return find_results(self.asked, self.store, self.questions)

    def states(self, stored: StoredResults) -> list[PlannedTrial]:
        """The state of everything that is asked, by what is stored."""
        questions = self.questions
        needed = questions.of_merges.needed(stored.planned)
        decoding = self.inputs.own_decoding
        return plan_states(stored.planned, stored.records, questions.id, decoding, needed)

    def records(self) -> Mapping[str, Record]:
        """The sound records of the store, by trial id."""
        return self.stored().records

    def located(self, planned: Iterable[Asked]) -> StudyContext:
        """The same study with all that is asked as `find_results` located it."""
        planned = list(planned)
        trials = [item for item in planned if isinstance(item, Trial)]
        merges = [item for item in planned if isinstance(item, PlannedMerge)]
        finished = [item for item in planned if isinstance(item, FinishedParent)]
        return replace(self, trials=trials, merges=merges, finished_parents=finished)

    def left_out(self, records: Mapping[str, Record]) -> dict[str, str]:
        """Models that no comparison takes, with the reason."""
        asked = self.study.evaluation
        return flagged_models(self.asked, records, asked.limits) if asked.leave_out_marked else {}

    def notes(self, records: Mapping[str, Record]) -> dict[str, str]:
        """The notes of models, by name; most have none."""
        return notes_of(self.asked, records, self.study.evaluation.limits)

    def places(self, records: Mapping[str, Record]) -> dict[str, ModelLocation | None]:
        """The places of the parameters of every model; None for a model that is not done."""
        planned = {item.name: item for item in self.planned}
        return {
            name: self._planned_place(model, planned, records)
            if name in planned
            else self._finished_place(model)
            for name, model in self.models.items()
        }

    def trial_places(self, records: Mapping[str, Record]) -> dict[str, ModelLocation]:
        """The places of the trials that are done, each with its lineage."""
        planned = {item.name: item for item in self.planned}
        trials = [model for model in self.models.values() if model.lineage]
        found = {model.name: self._planned_place(model, planned, records) for model in trials}
        return {name: place for name, place in found.items() if place}

    def _planned_place(
        self, model: Model, planned: Mapping[str, Planned], records: Mapping[str, Record]
    ) -> ModelLocation | None:
        """The place of a trial (its lineage's adapters) or of a merge; None if it is not done."""
        parts = [planned[name] for name in model.lineage or (model.name,)]
        if any(item.id not in records for item in parts):
            return None
        merge, scratch = planned[model.name], study_scratch(self.store)
        is_adapter = not isinstance(merge, PlannedMerge) or merge.is_adapter
        key = ADAPTER if is_adapter else MERGED
        paths = tuple(self.store.local(trial_key(item.folder, key), scratch) for item in parts)
        if is_adapter:
            return ModelLocation(adapters=paths)
        return ModelLocation(checkpoint=paths[0], base=self.base_directory(model.base_model))

    def _finished_place(self, model: Model) -> ModelLocation:
        """The place of a model of the study's `models`. Raises ModelError."""
        directory = self.inputs.models[model.name].directory
        if directory is None:
            raise ModelError(
                f"the model {model.name} is not on this machine",
                expected="a path, or a hub id that was downloaded",
                todo=f"download it: `hf download {self.study.models[model.name].hub}`",
            )
        return location_of(directory, self.base_directory(model.base_model))

    def results_identity(self) -> dict[str, Any]:
        """Everything that the tables and the report depend on, besides the trials' results."""
        return {
            "study": self.study.name,
            "trials": [item.row for item in self.planned],
            "models": {name: found.identity for name, found in self.inputs.models.items()},
            "comparisons": [c.name for c in self.comparisons],
            "evaluation": self.evaluation,
            "limits": self.study.evaluation.limits.model_dump(),
            "leave_out_marked": self.study.evaluation.leave_out_marked,
            "densities": list(self.study.densities),
            "tolerance": self.study.tolerance,
            "pairs": self.study.pairs,
            "subspaces": self.study.subspaces,
            "views": list(self.study.views),
            "directions": asked.model_dump() if (asked := self.study.base_directions) else None,
            "functions": bool(compared_answers(self.study, self.inputs.rows)),
            "connectivity": [(line.name, line.points) for line in self.lines],
        }

    def contents(self, records: Mapping[str, Record]) -> dict[str, str]:
        """A fingerprint of the parameters of every model that is done, by its name; a base model
        is not among them."""
        planned = {item.name: item for item in self.planned}
        found = {}
        for name, model in self.models.items():
            if name not in planned:
                found[name] = fingerprint(self.inputs.models[name].identity)
                continue
            parts = [records.get(planned[n].id) for n in model.lineage or (name,)]
            if all(parts):
                found[name] = fingerprint([_parameters(record) for record in parts if record])
        return found

    def write_study(self) -> None:
        """Write the study as resolved, OUT/study.yaml, and the names of its results.

        What a study of another name left there is moved before.
        """
        make_room(self.store, self.study.name)
        self.store.write(STUDY, study_text(self.study).encode())
        write_plan(self.store, self.plan)

    @property
    def plan(self) -> StudyPlan:
        """The names that the study gives to results."""
        results = tuple(
            NamedResult(
                name=item.name,
                id=item.id,
                base_model=item.base_model,
                data=dict(item.variant.data_sets)
                if isinstance(item, Trial)
                else {"data": "+".join(item.data)},
            )
            for item in self.asked
        )
        return StudyPlan(
            study=self.study.name, held_out=dict(self.questions.held_out), results=results
        )


def _parameters(record: Record) -> dict[str, str]:
    """The SHA-256 of every file of an adapter or a merged checkpoint."""
    of_model = (f"{ADAPTER}/", f"{MERGED}/")
    return {n: file.sha256 for n, file in record.files.items() if n.startswith(of_model)}


def prepare(study: Study, out: str, *, online: bool = True, tell: Tell = silent) -> StudyContext:
    """Check every input of `study`, then the store. Raises InputError; writes nothing before."""
    if study.tracking:
        from raylab.cluster.callbacks.tracking import check_installed

        check_installed(study)
    inputs = read_inputs(study, online=online, tell=tell)
    compared_answers(study, inputs.rows)
    line_answers(study, inputs.rows)
    check_losses(study, inputs)
    trials = plan_trials(study, inputs)
    merges = plan_merges(study, inputs, trials)
    check_merges(study, inputs, trials, merges)
    check_unknown_targets(study, inputs, trials)
    plan_lines(study, plan_models(study, [*trials, *merges]))
    check_directions(study, inputs, trials)
    store = Store(out)
    if store.is_local and _JOB_DIRECTORY in store.root:
        raise OutError(
            "OUT would be lost with the job: it lies in the job's copy of the working directory",
            found=store.root,
            expected="a directory or a URI that every node sees",
            todo="give the job --out with an absolute path, or a URI",
        )
    store.prepare()
    finished = plan_finished_parents(study, inputs)
    context = StudyContext(study, inputs, trials, merges, store, finished)
    return context.located(context.stored().planned)
