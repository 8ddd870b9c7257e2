"""Records: the JSON beside a result, written last, whose existence means that it is complete.

Model: a trial's folder holds its files, one small JSON for each attempt, and in the end
record.json with the identity, the metrics, and size and SHA-256 of every file.
Invariant: a record is written after everything it names, atomically; a folder without a record,
or whose files differ from it, counts as not done, and whatever is damaged is named, never used.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raylab.store.filesystem import TRIALS, Store

RECORD = "record.json"
ADAPTER = "adapter"
SAMPLES = "samples.jsonl"
HISTORY = "history.parquet"
PATHS = "paths.parquet"
LOG = "log.txt"
PROGRESS = "progress.json"
ATTEMPTS = "attempts"
_OF_ATTEMPTS = (LOG, PROGRESS, "running.json", f"{ATTEMPTS}/")
"""What an attempt leaves whether it ends well or not, which is no part of a result."""
_ATTEMPT = re.compile(r"[0-9]+\.json")


class FileEntry(BaseModel):
    """Size in bytes and SHA-256 of one file."""

    model_config = ConfigDict(frozen=True)
    size: int
    sha256: str


class Attempt(BaseModel):
    """One attempt of a trial; `cause` is None where it succeeded.

    final: whether the trial ended with it; otherwise another one followed by itself. started: in
    seconds since 1970, on its node's clock; 0 where the worker left no word of it.
    """

    model_config = ConfigDict(frozen=True)
    attempt: int
    cause: str | None = None
    message: str = ""
    final: bool = True
    node: str = ""
    gpus: tuple[str, ...] = ()
    started: float = 0.0
    seconds: float = 0.0


class Record(BaseModel):
    """What is known of a finished trial."""

    model_config = ConfigDict(frozen=True)
    name: str
    id: str
    identity: dict[str, Any]
    data: dict[str, str]
    evaluation: str
    """Fingerprint of what the model was asked."""
    versions: dict[str, str]
    metrics: dict[str, Any]
    files: dict[str, FileEntry] = Field(default_factory=dict)


def trial_key(folder: str, *parts: str) -> str:
    """The key of something in a trial's folder."""
    return "/".join((TRIALS, folder, *parts))


def write_json(store: Store, key: str, value: Mapping[str, Any]) -> None:
    """Write `value` as JSON; NaN and infinity, which JSON lacks, are refused with ValueError."""
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
    store.write(key, text.encode() + b"\n")


def finite_or_none(value: Any) -> Any:
    """None for a float that JSON cannot hold, else the value."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_record(store: Store, folder: str, record: Record) -> Record:
    """Seal the folder: measure every file of the result, then write the record."""
    names = [name for name in store.files(trial_key(folder)) if _is_result(name)]
    files = {name: measure(store.read(trial_key(folder, name))) for name in names}
    sealed = record.model_copy(update={"files": files})
    write_json(store, trial_key(folder, RECORD), sealed.model_dump())
    return sealed


def _is_result(name: str) -> bool:
    unfinished = name.rpartition("/")[2].startswith(".part-")
    return not unfinished and not name.startswith((RECORD, *_OF_ATTEMPTS))


def measure(data: bytes) -> FileEntry:
    """Size and SHA-256 of `data`."""
    return FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def read_records(store: Store) -> tuple[dict[str, Record], list[str]]:
    """(records by trial id, what is wrong with the folders whose record is damaged)."""
    records: dict[str, Record] = {}
    damaged: list[str] = []
    for folder, sizes in _folders(store).items():
        if RECORD not in sizes:
            continue
        record, problems = _read_record(store, folder, sizes)
        damaged += [f"{trial_key(folder, RECORD)}: {problem}" for problem in problems]
        if record:
            records[record.id] = record
    return records, damaged


def read_record(store: Store, folder: str) -> Record | None:
    """The record of one folder; None where there is none, or it is damaged."""
    sizes = store.sizes(trial_key(folder))
    return _read_record(store, folder, sizes)[0] if RECORD in sizes else None


def _folders(store: Store) -> dict[str, dict[str, int]]:
    """Bytes of every file of every trial's folder, all with one listing."""
    folders: dict[str, dict[str, int]] = {}
    for key, size in store.sizes(TRIALS).items():
        folder, _, name = key.partition("/")
        folders.setdefault(folder, {})[name] = size
    return folders


def _read_record(
    store: Store, folder: str, sizes: Mapping[str, int]
) -> tuple[Record | None, list[str]]:
    """(the record of `folder`, whose files have `sizes`, or None; what is wrong with it)."""
    try:
        record = Record.model_validate_json(store.read(trial_key(folder, RECORD)))
    except ValidationError as error:
        return None, [_problem(error)]
    problems = [
        f"{name} has {sizes[name]} bytes, not {entry.size}" if name in sizes else f"{name} is gone"
        for name, entry in record.files.items()
        if sizes.get(name) != entry.size
    ]
    if folder != f"{record.name}-{record.id}":
        problems.append(f"it is the record of {record.name}-{record.id}")
    return (None if problems else record), problems


def _problem(error: ValidationError) -> str:
    """The first mistake, with its field."""
    first = error.errors()[0]
    return ": ".join([*(str(step) for step in first["loc"][:3]), first["msg"]])


def damaged_files(store: Store, folder: str, record: Record) -> list[str]:
    """The files of the record whose bytes are not those that were sealed."""
    wrong = []
    for name, entry in record.files.items():
        key = trial_key(folder, name)
        if not store.exists(key) or measure(store.read(key)) != entry:
            wrong.append(name)
    return wrong


def write_attempt(store: Store, folder: str, attempt: Attempt) -> None:
    """Keep what became of one attempt."""
    key = trial_key(folder, ATTEMPTS, f"{attempt.attempt}.json")
    write_json(store, key, attempt.model_dump())


def read_attempts(store: Store, folder: str) -> list[Attempt]:
    """The attempts of a trial, the first first; of one whose JSON is damaged, that it was."""
    names = [n for n in store.names(trial_key(folder, ATTEMPTS)) if _ATTEMPT.fullmatch(n)]
    found = [_read_attempt(store, trial_key(folder, ATTEMPTS, name)) for name in names]
    return sorted(found, key=lambda attempt: attempt.attempt)


def _read_attempt(store: Store, key: str) -> Attempt:
    try:
        return Attempt.model_validate_json(store.read(key))
    except ValidationError as error:
        number = int(key.rpartition("/")[2].removesuffix(".json"))
        message = f"what is known of it is damaged: {_problem(error)}"
        return Attempt(attempt=number, cause="error", message=message)


def read_progress(store: Store, folder: str) -> dict[str, Any] | None:
    """The last progress that a running trial wrote, with the time in `time`, if it is sound."""
    text = store.read_if_there(trial_key(folder, PROGRESS))
    try:
        progress = json.loads(text or b"null")
    except ValueError:
        return None
    is_sound = isinstance(progress, dict) and isinstance(progress.get("time"), (int, float))
    return progress if is_sound else None
