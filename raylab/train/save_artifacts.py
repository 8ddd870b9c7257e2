"""What a training leaves, written into the trial's folder: adapter, answers, history, path, record.

Model: `Fitted` is what a training gave. `seal` writes its parts into the store, one after another,
and the record, which measures and names them, last.
Invariant: a folder with a record is whole. An adapter's config names its base model as the study
does, never a path of this node, in a stable order.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from peft import PeftModel
from pyarrow import parquet

from raylab.spec.sources import BaseModelRef
from raylab.store.filesystem import Store
from raylab.store.records import ADAPTER, HISTORY, PATHS, Record, trial_key, write_record
from raylab.train.evaluate.evaluate import Interview
from raylab.train.evaluate.samples import write_samples

_HOLD_ON = 1800.0
"""Seconds of patience with a store for what took hours to make."""


@dataclass(frozen=True)
class Fitted:
    """What training leaves: the adapter's directory, answers, history, path and metrics."""

    adapter: Path
    said: Interview
    history: Sequence[Mapping[str, Any]]
    path: pa.Table
    metrics: Mapping[str, Any]
    first_step: float
    """When it ended, in seconds since 1970."""


def save_adapter(model: PeftModel, directory: Path, name: str, place: BaseModelRef) -> None:
    """Save the adapter, trained from the base model that the study calls `name`."""
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    file = directory / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = place.hub or name
    config["revision"] = place.revision
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def seal(store: Store, folder: str, result: Fitted, record: Record) -> Record:
    """Write everything into the trial's folder, and `record` with the sizes and hashes of it."""
    store = store.waiting(_HOLD_ON)
    store.upload(result.adapter, trial_key(folder, ADAPTER))
    write_samples(store, folder, result.said.rows)
    for name, table in ((HISTORY, _history(result.history)), (PATHS, result.path)):
        store.write(trial_key(folder, name), _as_bytes(table))
    return write_record(store, folder, record)


def _history(logs: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Every log of the trainer as a row; a value that a row lacks is null."""
    columns = sorted({key for log in logs for key, v in log.items() if isinstance(v, (int, float))})
    return pa.table(
        {name: pa.array([log.get(name) for log in logs], pa.float64()) for name in columns}
    )


def _as_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()
