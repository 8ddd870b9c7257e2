"""The files that a training leaves, in the form in which the trial's folder holds them.

Invariant: the config of an adapter names its base model as the study does, never by a path of
this node, and lists its modules in a stable order. samples.jsonl holds one JSON object an answer,
in the order of generation.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from peft import PeftModel
from pyarrow import parquet

from raylab.spec.sources import BaseModelRef
from raylab.store.filesystem import Store
from raylab.store.records import SAMPLES, trial_key


def save_adapter(model: PeftModel, directory: Path, name: str, source: BaseModelRef) -> None:
    """Save the trained adapter at `directory`; `name` is the study's name of its base model."""
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    file = directory / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = source.hub or name
    config["revision"] = source.revision
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def history_table(logs: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Every log of the trainer as a row of float64; a value that a row lacks is null."""
    columns = sorted({key for log in logs for key, v in log.items() if isinstance(v, (int, float))})
    return pa.table(
        {name: pa.array([log.get(name) for log in logs], pa.float64()) for name in columns}
    )


def parquet_bytes(table: pa.Table) -> bytes:
    """`table` as the content of a Parquet file."""
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def write_samples(
    store: Store, folder: str, samples: Sequence[Mapping[str, Any]], name: str = SAMPLES
) -> None:
    """Keep the answers as `name` in the folder of a trial or a merge. Raises StoreError."""
    lines = [json.dumps(sample, ensure_ascii=False) for sample in samples]
    text = "".join(f"{line}\n" for line in lines)
    store.write(trial_key(folder, name), text.encode())
