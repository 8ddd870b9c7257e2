"""A model as the command line names it -> the location of its parameters.

Model: a reference is a directory (a checkpoint or a PEFT adapter), a Hugging Face id that was
downloaded (of @REVISION, else of main), or `OUT#name`: a trial or merge (by name or id), a finished
model or a base model of the study in the store at OUT. Names are those of the study that ran last
(its plan.json), then those of other studies in OUT; else a result is called as its record is.
Invariant: a reference names exactly one model; otherwise it raises ModelError with the models
that were found. The location of a chained trial lists the adapters of its whole lineage, the
oldest first, each of which has a sound record. The location of a merge is the checkpoint in its
folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylab.errors import ModelError
from raylab.spec.models import resolve
from raylab.spec.proposals import listed
from raylab.spec.study import Located, Quantization, Study
from raylab.spec.study_file import parse_study
from raylab.spec.swept_names import by_value
from raylab.store.filesystem import STUDY, Store, study_scratch
from raylab.store.records import (
    ADAPTER,
    SAMPLES,
    Record,
    StoredRecords,
    read_attempts,
    read_records,
    trial_key,
)
from raylab.store.studies import other_studies
from raylab.store.study_plan import StudyPlan, read_plan
from raylab.store.uri import reject_credentials

MERGED = "merged"
"""The checkpoint in the folder of a merge."""


@dataclass(frozen=True)
class ModelLocation:
    """The files of a model's parameters: adapters over a base (oldest first), or a checkpoint.

    Without either it is the base model itself, whose task vector is zero. is_whole: the adapters
    belong to this base alone, and make one whole model with it, whatever it is compared with.
    """

    adapters: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    base: Path | None = None
    is_whole: bool = False


@dataclass(frozen=True)
class FoundModel:
    """A model, its location, and the quantization of its base model in the study that made it."""

    name: str
    location: ModelLocation
    quantization: Quantization | None = None


@dataclass(frozen=True)
class FinishedTrial:
    """A trial or merge of a study, its location, and the records of its lineage, its own last."""

    study: Study
    base_model: str
    lineage: tuple[Record, ...]
    location: ModelLocation
    greedy_answers: tuple[Mapping[str, Any], ...] = ()
    """The rows of its samples.jsonl that were answered greedily, in the order asked."""
    on_gpu: bool = False
    """Whether its last attempt had a GPU."""

    @property
    def record(self) -> Record:
        """Its own record."""
        return self.lineage[-1]

    @property
    def quantization(self) -> Quantization:
        """How its training held the base model; of a merge, what its study says now."""
        identity = self.record.identity
        settings = {
            name: identity[f"quantization.{name}"]
            for name in Quantization.model_fields
            if f"quantization.{name}" in identity
        }
        return self.study.quantization.model_copy(update=settings)


def read_study(store: Store) -> Study:
    """The study that `raylab run` wrote. Raises ModelError without one, StudyError, StoreError."""
    if not store.exists(STUDY):
        raise ModelError(
            "no study is there", found=store.address(""), expected="OUT of `raylab run`"
        )
    text = store.read(STUDY).decode(errors="replace")
    return parse_study(text, Path(store.path(STUDY)))


def find_finished_trial(reference: str) -> FinishedTrial:
    """The trial or merge that `OUT#name` names, with its records. Raises ModelError."""
    reject_credentials(reference)
    if "#" not in reference:
        raise ModelError(
            "no trial is named", found=reference, expected="OUT#name, a trial or merge of a study"
        )
    return _find_trial(*_open_study(reference), reference)


def find_model(reference: str) -> FoundModel:
    """The model that `reference` names, with its location. Raises ModelError."""
    reject_credentials(reference)
    if not reference.strip():
        raise ModelError("a model has no name", found=repr(reference), expected="a directory or id")
    if "#" in reference:
        store, study, plan = _open_study(reference)
        location = _find_in_study(store, study, plan, reference)
        return FoundModel(reference, location, study.quantization)
    directory = Path(reference).expanduser()
    if directory.exists():
        found = _required(reference, Located(path=str(directory)))
        return FoundModel(reference, location_of(found))
    if reference.count("/") == 1 and not reference.startswith((".", "/", "~")):
        hub, _, revision = reference.partition("@")
        found = _required(reference, Located(hub=hub, revision=revision or None))
        return FoundModel(reference, location_of(found))
    raise ModelError(
        "a model is not there",
        found=reference,
        expected="a directory, a Hugging Face id that was downloaded, or OUT#name",
    )


def find_base(reference: str) -> Path:
    """The checkpoint directory of the base model that `reference` names. Raises ModelError."""
    location = find_model(reference).location
    if directory := location.checkpoint or (None if location.adapters else location.base):
        return directory
    expected = "a checkpoint with a whole model's weights"
    raise ModelError("an adapter is no base model", found=reference, expected=expected)


def location_of(directory: Path, base: Path | None = None) -> ModelLocation:
    """The location of the model in `directory`: an adapter if it has an adapter_config.json."""
    if (directory / "adapter_config.json").is_file():
        return ModelLocation(adapters=(directory,), base=base)
    return ModelLocation(checkpoint=directory, base=base)


def is_merged(record: Record) -> bool:
    """Whether the record is that of a merge, whose folder holds a checkpoint."""
    return any(name.startswith(f"{MERGED}/") for name in record.files)


def _open_study(reference: str) -> tuple[Store, Study, StudyPlan]:
    """The store of a reference, and the study in it by which its name is understood."""
    out, _, name = reference.rpartition("#")
    store = Store(out)
    study, plan = read_study(store), read_plan(store)
    is_known = plan is None or plan.has(name) or name in {*study.base_models, *study.models}
    for other in () if is_known else other_studies(store):
        of_other = read_plan(other)
        if of_other and of_other.has(name):
            return store, read_study(other), of_other
    return store, study, plan or StudyPlan(study=study.name)


def _find_in_study(store: Store, study: Study, plan: StudyPlan, reference: str) -> ModelLocation:
    name = reference.rpartition("#")[2]
    if name in study.base_models:
        return ModelLocation(base=_required(name, study.base_models[name]))
    if name in study.models:
        model = study.models[name]
        base = _directory(study.base_models[model.base_model])
        return location_of(_required(name, model), base)
    return _find_trial(store, study, plan, reference).location


def _find_trial(store: Store, study: Study, plan: StudyPlan, reference: str) -> FinishedTrial:
    records = read_records(store)
    record = _named_record(records, plan, study, reference)
    base_model, scratch = _base_model_of(record, plan, study), study_scratch(store)
    base, lineage = _directory(study.base_models[base_model]), _lineage(record, records.sound)
    lineage = [*map(plan.named, lineage[:-1]), record]
    if is_merged(record):
        location = ModelLocation(
            checkpoint=store.local(trial_key(record.folder, MERGED), scratch), base=base
        )
    else:
        adapters = [store.local(trial_key(item.folder, ADAPTER), scratch) for item in lineage]
        location = ModelLocation(adapters=tuple(adapters), base=base)
    attempts = read_attempts(store, record.folder)
    return FinishedTrial(
        study,
        base_model,
        tuple(lineage),
        location,
        _greedy_answers(store, record),
        on_gpu=bool(attempts and attempts[-1].gpus),
    )


def _greedy_answers(store: Store, record: Record) -> tuple[Mapping[str, Any], ...]:
    if SAMPLES not in record.files:
        return ()
    lines = store.read(trial_key(record.folder, SAMPLES)).decode().splitlines()
    return tuple(row for row in map(json.loads, lines) if not row["draw"])


def _named_record(records: StoredRecords, plan: StudyPlan, study: Study, reference: str) -> Record:
    """The record that a reference names, with the names of `plan`. Raises ModelError."""
    given = reference.rpartition("#")[2]
    sound = {id: record for id, record in records.sound.items() if record.has_weights}
    asked = by_value(given)
    name = next((item for item in plan.ids() if by_value(item) == asked), given)
    id = plan.ids().get(name, name)
    if id in sound:
        return plan.named(sound[id], name)
    same = [record for record in sound.values() if by_value(record.name) == asked]
    found = same if id == name else []
    renamed = {record.id: plan.named(record).name for record in found if plan.result(record.id)}
    if renamed:
        out = reference.rpartition("#")[0]
        new = " or ".join(dict.fromkeys(renamed.values()))
        raise ModelError(
            f"{reference} is the former name of a result",
            found=name,
            expected=f"its name in the study that ran last: {new}",
            todo=f"write {out}#{new}, or {out}#{next(iter(renamed))}, its id, which stays",
        )
    if len(found) != 1:
        names = {plan.named(record).name for record in sound.values()}
        known = sorted(names | {*study.models, *study.base_models})
        what = "more than one trial" if found else "nothing that is done"
        planned = name if id == name else f"{name}, planned as {id}"
        raise ModelError(
            f"{reference} names {what}",
            found=", ".join(record.id for record in found)
            or "; ".join([planned, *records.damaged]),
            expected="the id of one of them" if found else f"one of {listed(name, known)}",
        )
    return found[0]


def _base_model_of(record: Record, plan: StudyPlan, study: Study) -> str:
    """The name of the base model of a result in `study`. Raises ModelError if it has none."""
    planned = plan.result(record.id)
    if planned and planned.base_model in study.base_models:
        return planned.base_model
    base_models = [base for base in study.base_models if record.name.startswith(f"{base}.")]
    if not base_models:
        raise ModelError(
            f"the base model of {record.name} is not in the study",
            found=", ".join(study.base_models),
            expected="the study that made it",
        )
    return max(base_models, key=len)


def _lineage(record: Record, records: Mapping[str, Record]) -> list[Record]:
    """The records of all ancestors of `record` and its own, the oldest first."""
    parent = record.identity.get("parent")
    if parent is None:
        return [record]
    if parent not in records:
        raise ModelError(
            f"the parent of {record.name} is not in the store",
            found=parent,
            expected="a record of every trial that it was trained after",
        )
    return [*_lineage(records[parent], records), record]


def _required(name: str, place: Located) -> Path:
    """The directory of a model. Raises ModelError if it is not on this machine."""
    directory = _directory(place)
    if directory is None:
        raise ModelError(
            f"the model {name} is not on this machine",
            found=place.path,
            expected="a directory, or a hub id that was downloaded",
            todo=f"download it: `hf download {place.hub}`" if place.hub else "",
        )
    return directory


def _directory(place: Located) -> Path | None:
    """The directory of a model. For a path `resolve` would also read every byte, to identify it."""
    if place.path is None:
        return resolve(str(place.hub), place).directory
    return Path(place.path) if Path(place.path).is_dir() else None
