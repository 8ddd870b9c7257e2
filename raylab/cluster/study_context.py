"""A study whose inputs were found: what is planned, and where the parameters of it lie.

Model: `prepare` reads and checks everything that a study names, plans it, and then opens the
store. `Prepared.place` says where the parameters of a model are, once it is done.
Invariant: an input error leaves no trace.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from raylab.cluster.callbacks.tracking import check_installed
from raylab.errors import ModelError, OutError
from raylab.plan.cache import evaluation_id
from raylab.plan.comparisons import Model, plan_models
from raylab.plan.merges import Planned, PlannedMerge, plan_merges
from raylab.plan.trials import Inputs, Trial, plan_trials, read_inputs
from raylab.results.quality_flags import flagged_models
from raylab.spec.models import resolve
from raylab.spec.study import Study
from raylab.store.filesystem import STUDY, Store, study_scratch
from raylab.store.records import ADAPTER, Record, trial_key
from raylab.store.references import MERGED, ModelLocation, location_of

# Where Ray unpacks the working directory of a job.
_JOBS_COPY = "/working_dir_files/_ray_pkg_"


@dataclass(frozen=True)
class Prepared:
    """A study whose inputs were found and whose store can be written."""

    study: Study
    inputs: Inputs
    trials: Sequence[Trial]
    merges: Sequence[PlannedMerge]
    store: Store

    def base_directory(self, name: str) -> Path | None:
        """Where a base model lies now, which may be since its first trial fetched it."""
        return resolve(name, self.study.base_models[name]).directory

    @property
    def evaluation(self) -> str:
        """Fingerprint of what models are asked."""
        return evaluation_id(self.study, self.inputs.rows)

    @property
    def models(self) -> dict[str, Model]:
        """Everything that comparisons may name."""
        return plan_models(self.study, self.planned)

    @property
    def planned(self) -> list[Planned]:
        """Everything that has a row in the trials table: trials, then merges."""
        return [*self.trials, *self.merges]

    def left_out(self, records: Mapping[str, Record]) -> dict[str, str]:
        """Models that no comparison takes, and what they are marked for."""
        asked = self.study.evaluation
        return flagged_models(self.planned, records, asked.limits) if asked.leave_out_marked else {}

    def places(self, records: Mapping[str, Record]) -> dict[str, ModelLocation | None]:
        """Where the parameters of every model lie; None for what is not done."""
        planned = {item.name: item for item in self.planned}
        return {
            name: self._made(model, planned, records) if name in planned else self._finished(model)
            for name, model in self.models.items()
        }

    def trial_places(self, records: Mapping[str, Record]) -> dict[str, ModelLocation]:
        """Where the trials that are done lie, with all of their lineage."""
        planned = {item.name: item for item in self.planned}
        found = {
            model.name: self._made(model, planned, records)
            for model in self.models.values()
            if model.lineage
        }
        return {name: place for name, place in found.items() if place}

    def _made(
        self, model: Model, planned: Mapping[str, Planned], records: Mapping[str, Record]
    ) -> ModelLocation | None:
        """The place of a trial, which is that of its lineage, or of a merge."""
        parts = [planned[name] for name in model.lineage or (model.name,)]
        if any(item.id not in records for item in parts):
            return None
        key, scratch = ADAPTER if model.lineage else MERGED, study_scratch(self.store)
        paths = tuple(self.store.local(trial_key(item.folder, key), scratch) for item in parts)
        if model.lineage:
            return ModelLocation(adapters=paths)
        return ModelLocation(checkpoint=paths[0], base=self.base_directory(model.base_model))

    def _finished(self, model: Model) -> ModelLocation:
        directory = self.inputs.models[model.name].directory
        if directory is None:
            raise ModelError(
                f"the model {model.name} is not on this machine",
                expected="a path, or a hub id that was downloaded",
                todo=f"download it: `hf download {self.study.models[model.name].hub}`",
            )
        return location_of(directory, self.base_directory(model.base_model))


def prepare(study: Study, out: str, *, online: bool = True) -> Prepared:
    """Check every input of `study`, then the store. Raises InputError; writes nothing before."""
    check_installed(study)
    inputs = read_inputs(study, online=online)
    trials = plan_trials(study, inputs)
    merges = plan_merges(study, inputs, trials)
    store = Store(out)
    _check_that_it_stays(store)
    store.prepare()
    return Prepared(study, inputs, trials, merges, store)


def _check_that_it_stays(store: Store) -> None:
    """Refuse an OUT inside a job's copy of its working directory, which goes when the job ends."""
    if store.is_local and _JOBS_COPY in store.root:
        raise OutError(
            "OUT would be lost with the job: it lies in the job's copy of the working directory",
            found=store.root,
            expected="a directory or a URI that every node sees",
            todo="give the job --out with an absolute path, or a URI",
        )


def write_study(prepared: Prepared) -> None:
    """Keep the study as resolved, OUT/study.yaml."""
    values = prepared.study.model_dump(mode="json", exclude_none=True)
    buffer = io.StringIO()
    YAML(typ="safe", pure=True).dump(values, buffer)
    prepared.store.write(STUDY, buffer.getvalue().encode())
