"""A model as the command line names it -> where its parameters lie.

Model: a reference is a directory (a checkpoint or a PEFT adapter), a Hugging Face id that was
downloaded, or `OUT#name`: a trial or a merge (by name or id), a finished model or a base model
of the study in the store at OUT.
Invariant: a reference names exactly one model, or is an error that says what was found. A
chained trial's place lists the adapters of its whole lineage, the oldest first, each of which
has a sound record. A merge's place is the checkpoint in its folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from raylab.errors import ModelError
from raylab.spec.models import resolve
from raylab.spec.study import Located, Quantization, Study
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import STUDY, Store, study_scratch
from raylab.store.records import ADAPTER, Record, read_records, trial_key
from raylab.store.uri import reject_credentials

MERGED = "merged"
"""The checkpoint in the folder of a merge."""


@dataclass(frozen=True)
class ModelLocation:
    """Where a model's parameters lie: adapters over a base (the oldest first), or a checkpoint.

    With neither it is the base model itself, whose task vector is zero.
    """

    adapters: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    base: Path | None = None


@dataclass(frozen=True)
class FoundModel:
    """A model, its place, and what the study that made it knows of its base model."""

    name: str
    place: ModelLocation
    quantization: Quantization | None = None


@dataclass(frozen=True)
class FinishedTrial:
    """A trial or merge of a study: its record after those of its ancestors, and its place."""

    study: Study
    base_model: str
    lineage: tuple[Record, ...]
    place: ModelLocation

    @property
    def record(self) -> Record:
        """Its own record."""
        return self.lineage[-1]


def read_study(store: Store) -> Study:
    """The study of `store`. Raises ModelError where none is there, StudyError, StoreError."""
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
    store, study, name = _study_of(reference)
    record, records = _record_of(reference, store, study, name)
    base = _base_name(record, study)
    place = replace(_stored(store, record, records), base=_directory(study.base_models[base]))
    return FinishedTrial(study, base, tuple(_lineage(record, records)), place)


def find_model(reference: str) -> FoundModel:
    """Where the model that `reference` names lies. Raises ModelError."""
    reject_credentials(reference)
    if "#" in reference:
        return _in_study(reference)
    directory = Path(reference).expanduser()
    if directory.exists():
        return FoundModel(reference, location_of(_checked(reference, Located(path=str(directory)))))
    if reference.count("/") == 1 and not reference.startswith((".", "/", "~")):
        return FoundModel(reference, location_of(_checked(reference, Located(hub=reference))))
    raise ModelError(
        "a model is not there",
        found=reference,
        expected="a directory, a Hugging Face id that was downloaded, or OUT#name",
    )


def find_base(reference: str) -> Path:
    """The checkpoint directory of the base model that `reference` names. Raises ModelError."""
    place = find_model(reference).place
    directory = place.checkpoint or (None if place.adapters else place.base)
    if directory is None:
        raise ModelError(
            "an adapter is no base model",
            found=reference,
            expected="a checkpoint with a whole model's weights",
        )
    return directory


def _checked(name: str, place: Located) -> Path:
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
    """Where a model lies; `resolve` also reads every byte to say which model it is."""
    if place.path is None:
        return resolve(str(place.hub), place).directory
    return Path(place.path) if Path(place.path).is_dir() else None


def location_of(directory: Path, base: Path | None = None) -> ModelLocation:
    """The place of a directory: an adapter where it has an adapter_config.json."""
    if (directory / "adapter_config.json").is_file():
        return ModelLocation(adapters=(directory,), base=base)
    return ModelLocation(checkpoint=directory, base=base)


def _study_of(reference: str) -> tuple[Store, Study, str]:
    out, _, name = reference.rpartition("#")
    store = Store(out)
    return store, read_study(store), name


def _in_study(reference: str) -> FoundModel:
    _, study, name = _study_of(reference)
    if name in study.base_models:
        itself = ModelLocation(base=_checked(name, study.base_models[name]))
        return FoundModel(reference, itself, study.quantization)
    if name in study.models:
        model = study.models[name]
        base = _directory(study.base_models[model.base_model])
        place = location_of(_checked(name, model), base)
        return FoundModel(reference, place, study.quantization)
    return FoundModel(reference, find_finished_trial(reference).place, study.quantization)


def _record_of(
    reference: str, store: Store, study: Study, name: str
) -> tuple[Record, Mapping[str, Record]]:
    records, damaged = read_records(store)
    found = [record for record in records.values() if name in (record.name, record.id)]
    if len(found) != 1:
        known = sorted({r.name for r in records.values()} | {*study.models, *study.base_models})
        raise ModelError(
            f"{reference} names {'more than one trial' if found else 'nothing that is done'}",
            found=", ".join(r.id for r in found) or "; ".join([name, *damaged]),
            expected="the id of one of them" if found else f"one of {', '.join(known)}",
        )
    return found[0], records


def _base_name(record: Record, study: Study) -> str:
    """What the study calls its base model, whose name is how its own begins."""
    named = [base for base in study.base_models if record.name.startswith(f"{base}.")]
    if not named:
        raise ModelError(
            f"the base model of {record.name} is not in the study",
            found=", ".join(study.base_models),
            expected="the study that made it",
        )
    return max(named, key=len)


def _stored(store: Store, record: Record, records: Mapping[str, Record]) -> ModelLocation:
    """The place of a merge, or of a trial with all its ancestors."""
    if is_merged(record):
        return ModelLocation(checkpoint=store.local(_key(record, MERGED), study_scratch(store)))
    keys = [_key(item, ADAPTER) for item in _lineage(record, records)]
    return ModelLocation(tuple(store.local(key, study_scratch(store)) for key in keys))


def is_merged(record: Record) -> bool:
    """Whether the record is a merge's, whose folder holds a checkpoint."""
    return any(name.startswith(f"{MERGED}/") for name in record.files)


def _key(record: Record, part: str) -> str:
    return trial_key(f"{record.name}-{record.id}", part)


def _lineage(record: Record, records: Mapping[str, Record]) -> list[Record]:
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
