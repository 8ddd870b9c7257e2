"""The log-probability of every answer by DPO's reference, computed once from the start.

Model: an answer with its prompt is a sequence of tokens. All sequences of a trial, chosen or
rejected, held out or not, form one set. It is sorted by length and cut into batches of `BATCH`,
and the start, with the trained adapter disabled, scores each batch. So a value is a function of
the start and of the set: not of a seed, a learning rate, a batch size, the order of rows, or
which answer is preferred. Values lie in the store under a fingerprint of the start, the set, the
libraries and the machine.
Invariant: training takes no other values. A damaged file is not used, but made again.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence

from raylab.errors import NonFiniteError
from raylab.parquet import read_parquet
from raylab.plan.memory import REFERENCE_BATCH
from raylab.spec.identity import fingerprint
from raylab.store.filesystem import PREPARED, Store
from raylab.store.phase import REFERENCE, Tell, silent
from raylab.train.attempts import versions
from raylab.train.dataset_cache import FORMAT, TrialCache
from raylab.train.random_state import preserved_random_state
from raylab.train.save_artifacts import parquet_bytes

BATCH = REFERENCE_BATCH
"""Sequences scored at once: a part of the values' definition, and fewer than evaluation takes."""

_SIDES = ("chosen", "rejected")


class _Sequence(NamedTuple):
    """Token ids of a prompt and its answer; the first `prompt` are the prompt's."""

    length: int
    ids: tuple[int, ...]
    prompt: int


def with_reference(
    trainer: Any, cache: TrialCache | None, tell: Tell = silent
) -> list[Dataset | None]:
    """The trainer's training and held-out data, with the columns that trl reads them from."""
    datasets = [trainer.train_dataset, trainer.eval_dataset]
    listed = [[_sequences(trainer, row) for row in dataset or ()] for dataset in datasets]
    ordered = sorted({sequence for rows in listed for pair in rows for sequence in pair})
    values = dict(zip(ordered, _values(trainer, ordered, cache, tell), strict=True))
    for place, (dataset, rows) in enumerate(zip(datasets, listed, strict=True)):
        for number, side in enumerate(_SIDES if dataset else ()):
            column = [values[pair[number]] for pair in rows]
            dataset = dataset.add_column(f"ref_{side}_logps", column)
        datasets[place] = dataset
    return datasets


def _sequences(trainer: Any, row: dict[str, Any]) -> list[_Sequence]:
    """Both sequences of a pair, cut as trl's collator cuts them."""
    assert trainer.args.truncation_mode == "keep_start"
    prompt = row["prompt_ids"]
    cut = [tuple((prompt + row[f"{side}_ids"])[: trainer.args.max_length]) for side in _SIDES]
    return [_Sequence(len(ids), ids, len(prompt)) for ids in cut]


def _values(
    trainer: Any, ordered: Sequence[_Sequence], cache: TrialCache | None, tell: Tell
) -> Sequence[float]:
    if cache is None:
        return _score(trainer, ordered, tell)
    made_from = {
        "format": FORMAT,
        "start": dict(cache.start),
        "sequences": _digest(ordered),
        "machine": _machine(),
        "versions": versions(),
    }
    key = fingerprint(made_from)
    with cache.locked(key):
        found = _read(cache.store, key)
        if found is None:
            found = _score(trainer, ordered, tell)
            _write(cache.store, key, made_from, found)
    assert len(found) == len(ordered)
    return found


def _score(trainer: Any, ordered: Sequence[_Sequence], tell: Tell) -> list[float]:
    """The log-probability of every answer by the start, in the order given."""
    values: list[float] = []
    was_training = trainer.model.training
    trainer.model.eval()
    with preserved_random_state():
        for first in range(0, len(ordered), BATCH):
            tell(REFERENCE, first, len(ordered))
            padded = _padded(ordered[first : first + BATCH], trainer.data_collator.pad_token_id)
            batch = trainer._prepare_inputs(padded)
            halves = trainer.compute_ref_log_probs(trainer.model, batch)
            values += torch.cat(halves).float().tolist()
    trainer.model.train(was_training)
    if not all(map(math.isfinite, values)):
        raise NonFiniteError(
            "DPO's reference gives an answer no finite log-probability",
            found=f"{sum(not math.isfinite(value) for value in values)} of {len(values)}",
            expected="numbers",
        )
    return values


def _padded(sequences: Sequence[_Sequence], padding: int) -> dict[str, torch.Tensor]:
    def pad(rows: Iterable[Sequence[int]], value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], True, value)

    return {
        "input_ids": pad((s.ids for s in sequences), padding),
        "attention_mask": pad(([1] * s.length for s in sequences), 0),
        "completion_mask": pad(
            ([0] * s.prompt + [1] * (s.length - s.prompt) for s in sequences), 0
        ),
    }


def _digest(ordered: Sequence[_Sequence]) -> str:
    digest = hashlib.sha256()
    for sequence in ordered:
        digest.update(np.array([sequence.length, sequence.prompt, *sequence.ids], "<i8").tobytes())
    return digest.hexdigest()


def _machine() -> str:
    """The GPU, or the processor and its threads: the last bits of a product depend on them."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    file = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.*)$", file.read_text() if file.is_file() else "", re.M)
    processor = named[1] if named else platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{processor}, {capability}, {torch.get_num_threads()} threads"


def _place(key: str) -> str:
    return f"{PREPARED}/{key}.parquet"


def _write(store: Store, key: str, made_from: dict[str, Any], values: Sequence[float]) -> None:
    column = np.array(values, np.float32)
    table = pa.table({"log_probability": column}).replace_schema_metadata(
        {"of": json.dumps(made_from, sort_keys=True), "sha256": _checksum(key, column)}
    )
    store.write(_place(key), parquet_bytes(table))


def _read(store: Store, key: str) -> Sequence[float] | None:
    """The values in the store under `key`; None where there are none, or damaged ones."""
    data = store.read_if_there(_place(key))
    if data is None:
        return None
    try:
        table = read_parquet(pa.BufferReader(data))
        column = table.column("log_probability").to_numpy()
        kept = (table.schema.metadata or {})[b"sha256"].decode()
    except (pa.ArrowException, OSError, KeyError) as error:
        print(f"damaged, and made again: {_place(key)}: {error}")
        return None
    if kept != _checksum(key, column):
        print(f"damaged, and made again: {_place(key)}: other bytes than were written")
        return None
    values: list[float] = column.tolist()
    return values


def _checksum(key: str, column: np.ndarray) -> str:
    return hashlib.sha256(key.encode() + column.astype("<f4").tobytes()).hexdigest()
