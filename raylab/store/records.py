"""Records: the JSON beside a result that is written last; its existence means: complete.

Model: the folder of a trial or merge holds its files, one small JSON for each attempt, and at the
end record.json with the identity, the metrics, and the size and SHA-256 of every file. A folder
is called `<name>-<id>` by the name at the time; it is found by the id, whatever the name is now.
Invariant: a record is written after every file that it names, atomically. A folder without a
record, or whose files differ from it, counts as not done. Damaged files are reported, never used.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raylab.store.filesystem import TRIALS, Store

RECORD = "record.json"
ADAPTER = "adapter"
SAMPLES = "samples.jsonl"
BESIDE = "beside.jsonl"
"""Answers to prompts of the data of models that a merge takes together, in the form of SAMPLES."""
ASKED = "asked"
"""The metric that holds the rates of these answers, by the fingerprint of their prompts."""
HISTORY = "history.parquet"
PATHS = "paths.parquet"
LOG = "log.txt"
PROGRESS = "progress.json"
ATTEMPTS = "attempts"
_ATTEMPT_FILES = (LOG, PROGRESS, "running.json", f"{ATTEMPTS}/")
"""Files of attempts, successful or not. They are no part of a result."""
_ATTEMPT_NAME = re.compile(r"[0-9]+\.json")
_FOLDER = re.compile(r".+-([0-9a-f]{16})")


class FileEntry(BaseModel):
    """Size in bytes and SHA-256 of one file."""

    model_config = ConfigDict(frozen=True, defer_build=True)
    size: int
    sha256: str


class Attempt(BaseModel):
    """One attempt of a trial; `cause` is None if it succeeded.

    final: whether the trial ended with it; otherwise another attempt followed by itself. started:
    seconds since 1970 by the clock of its node; 0 if the worker left no information.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)
    attempt: int
    cause: str | None = None
    message: str = ""
    final: bool = True
    node: str = ""
    gpus: tuple[str, ...] = ()
    started: float = 0.0
    seconds: float = 0.0


class Record(BaseModel):
    """The result of a finished trial or merge, or what a finished model answered, under the name
    that it was made by.

    held_out: fingerprints of the held-out rows that it was asked about, by data set. folder: the
    folder that it was read from; no part of its JSON.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)
    name: str
    id: str
    identity: dict[str, Any]
    data: dict[str, str]
    evaluation: str
    """Fingerprint of the evaluation of the model."""
    versions: dict[str, str]
    metrics: dict[str, Any]
    files: dict[str, FileEntry] = Field(default_factory=dict)
    held_out: dict[str, str] = Field(default_factory=dict)
    folder: str = Field(default="", exclude=True)

    @property
    def has_weights(self) -> bool:
        """Whether its folder holds a model; that of a finished model that was asked holds none."""
        return any("/" in name for name in self.files)


class StoredRecords(NamedTuple):
    """All records of a store: the sound ones by trial id, and a message for each damaged one."""

    sound: dict[str, Record]
    damaged: list[str]


def trial_key(folder: str, *parts: str) -> str:
    """The key of a file in a trial's folder."""
    return "/".join((TRIALS, folder, *parts))


def write_json(store: Store, key: str, value: Mapping[str, Any]) -> None:
    """Write `value` as JSON. Raises ValueError for NaN and infinity, which JSON lacks."""
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
    store.write(key, text.encode() + b"\n")


def finite_or_none(value: Any) -> Any:
    """None for a float that JSON cannot hold, otherwise the value."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def measure(data: bytes) -> FileEntry:
    """Size and SHA-256 of `data`."""
    return FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_record(store: Store, folder: str, record: Record) -> Record:
    """Write `record` with the size and hash of every file of the result; return it so."""
    files = {}
    for name in store.files(trial_key(folder)):
        is_partial = name.rpartition("/")[2].startswith(".part-")
        if not is_partial and not name.startswith((RECORD, *_ATTEMPT_FILES)):
            files[name] = measure(store.read(trial_key(folder, name)))
    complete = record.model_copy(update={"files": files, "folder": folder})
    write_json(store, trial_key(folder, RECORD), complete.model_dump())
    return complete


def read_records(store: Store) -> StoredRecords:
    """All records, after a check that every file exists with its size. Raises StoreError.

    Of sound records with one id, the first by the name of its folder counts. An object store needs
    one listing and one request for each record.
    """
    folders: dict[str, dict[str, int]] = {}
    for key, size in store.sizes(TRIALS).items():
        folder, _, name = key.partition("/")
        folders.setdefault(folder, {})[name] = size
    records = StoredRecords({}, [])
    for folder, sizes in folders.items():
        if RECORD not in sizes:
            continue
        record, problems = _read_record(store, folder, sizes)
        records.damaged.extend(f"{trial_key(folder, RECORD)}: {problem}" for problem in problems)
        if record:
            records.sound.setdefault(record.id, record)
    return records


def folders_by_id(store: Store) -> dict[str, str]:
    """The folder of every trial and merge that was begun, by id; the first where there are two."""
    folders: dict[str, str] = {}
    for name in store.names(TRIALS):
        if found := _FOLDER.fullmatch(name):
            folders.setdefault(found[1], name)
    return folders


def read_record(store: Store, folder: str) -> Record | None:
    """The record of one folder; None if there is none, or it is damaged."""
    sizes = store.sizes(trial_key(folder))
    return _read_record(store, folder, sizes)[0] if RECORD in sizes else None


def _read_record(
    store: Store, folder: str, sizes: Mapping[str, int]
) -> tuple[Record | None, list[str]]:
    """(the record of `folder` if it is sound, its problems). sizes: of the files of `folder`."""
    try:
        record = Record.model_validate_json(store.read(trial_key(folder, RECORD)))
    except ValidationError as error:
        return None, [_first_problem(error)]
    problems = [
        f"{name} has {sizes[name]} bytes, not {entry.size}" if name in sizes else f"{name} is gone"
        for name, entry in record.files.items()
        if sizes.get(name) != entry.size
    ]
    if folder.rpartition("-")[2] != record.id:
        problems.append(f"it is the record of {record.name}-{record.id}")
    return (None if problems else record.model_copy(update={"folder": folder})), problems


def _first_problem(error: ValidationError) -> str:
    """The first problem of a JSON, with its field."""
    first = error.errors()[0]
    return ": ".join([*(str(step) for step in first["loc"][:3]), first["msg"]])


def named_likelihoods(record: Record, held_out: Mapping[str, str]) -> dict[str, Any]:
    """The metrics of `record`, its likelihoods by the names of the same rows in `held_out`.

    held_out: fingerprints by data set. Rows that it does not have keep their name.
    """
    if not (measured := record.metrics.get("likelihoods")):
        return record.metrics
    former: dict[str, list[str]] = {}
    for name, rows in held_out.items():
        former.setdefault(rows, []).append(name)
    likelihoods = {
        name: row
        for before, row in measured.items()
        for name in former.get(record.held_out.get(before, ""), [before])
    }
    order = {name: number for number, name in enumerate(held_out)}
    ordered = sorted(likelihoods, key=lambda name: order.get(name, len(order)))
    return {**record.metrics, "likelihoods": {name: likelihoods[name] for name in ordered}}


def damaged_files(store: Store, folder: str, record: Record) -> list[str]:
    """The files of the record that are gone, or whose bytes have another size or hash."""
    wrong = []
    for name, entry in record.files.items():
        key = trial_key(folder, name)
        if not store.exists(key) or measure(store.read(key)) != entry:
            wrong.append(name)
    return wrong


def write_attempt(store: Store, folder: str, attempt: Attempt) -> None:
    """Keep the end of one attempt."""
    key = trial_key(folder, ATTEMPTS, f"{attempt.attempt}.json")
    write_json(store, key, attempt.model_dump())


def read_attempts(store: Store, folder: str) -> list[Attempt]:
    """The attempts of a trial by their number. A damaged one has the cause `error`."""
    found = []
    for name in store.names(trial_key(folder, ATTEMPTS)):
        if not _ATTEMPT_NAME.fullmatch(name):
            continue
        try:
            text = store.read(trial_key(folder, ATTEMPTS, name))
            found.append(Attempt.model_validate_json(text))
        except ValidationError as error:
            message = f"its JSON is damaged: {_first_problem(error)}"
            number = int(name.removesuffix(".json"))
            found.append(Attempt(attempt=number, cause="error", message=message))
    return sorted(found, key=lambda attempt: attempt.attempt)


def read_progress(store: Store, folder: str) -> dict[str, Any] | None:
    """The last progress of a running trial, with its time as `time`; None if it is damaged."""
    text = store.read_if_there(trial_key(folder, PROGRESS))
    try:
        progress = json.loads(text or b"null")
    except ValueError:
        return None
    is_sound = isinstance(progress, dict) and isinstance(progress.get("time"), (int, float))
    return progress if is_sound else None
