"""Merges models into one checkpoint: TIES and its relatives, streamed over the base model.

Model: a merge opens and checks every model (`inputs`), finds the thresholds that the method trims
at (`trim`), and writes the output piece by piece: a thread takes some rows of one tensor, reads
each model's rows, trims or drops their entries, combines and rounds them (`kernels`), and writes
them. A tensor that no model changes is copied. Config, tokenizer and model card follow, and last
a record, merge.json.
Invariant: nothing is written before everything is checked, and the output appears whole or not
at all (`raylab.weights.checkpoint_writer`). The bits depend on the request and the models alone,
not on pieces or threads. NaN, infinity and overflow raise an error. No merged tensor is ever held
whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from raylab.merge import kernels
from raylab.merge.inputs import MergePlan, ModelRows, plan_merge, refuse_non_finite
from raylab.merge.record import Kept, card_metadata, record_of
from raylab.merge.trim import Trims, trims_of
from raylab.spec.merges import MergeRequest
from raylab.store.records import FileEntry
from raylab.store.references import ModelLocation, find_base, find_model
from raylab.weights.checkpoint_writer import (
    MOST_BYTES,
    CheckpointWriter,
    atomic_directory,
    check_absent,
    copy_config_files,
    flush,
)
from raylab.weights.model_card import write_model_card
from raylab.weights.row_tiles import Piece, columns_of, in_threads
from raylab.weights.safetensors_reader import DTYPE_NAMES

RECORD = "merge.json"


def merge_models(
    request: MergeRequest,
    locations: Sequence[ModelLocation],
    base: Path | None,
    out: Path,
    *,
    most_bytes: int = MOST_BYTES,
    threads: int | None = None,
) -> dict[str, Any]:
    """Merge the models at `locations`, those of `request.inputs`, into a new directory `out`.

    base: the base model's directory; most_bytes: of tensors in one file; threads: all CPUs by
    default. Returns the record. Raises ModelError and OutError before anything is written, and
    NonFiniteError, OutError (no room) and StoreError, which leave nothing behind.
    """
    check_absent(out)
    plan = plan_merge(request, locations, base)
    workers = threads or len(os.sched_getaffinity(0))
    trims = trims_of(plan, workers)
    with atomic_directory(out) as part:
        with CheckpointWriter(part, plan.tensors, most_bytes) as writer:
            merger = _Merger(plan, trims, writer)
            in_threads(plan.pieces(plan.shapes), merger.write, workers)
        copy_config_files(plan.directory, part)
        with ThreadPoolExecutor() as pool:
            flushed = pool.submit(flush, part)
            files = sorted(path for path in part.rglob("*") if path.is_file())
            entries = pool.map(_file_entry, files)
        flushed.result()
        names = [file.relative_to(part).as_posix() for file in files]
        record = record_of(plan, trims, merger.kept, dict(zip(names, entries, strict=True)))
        write_model_card(part, card_metadata(record), title=out.name, merge=record)
        text = json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
        (part / RECORD).write_text(text + "\n", encoding="utf-8")
    return record


def merge_named(
    request: MergeRequest, out: Path, *, most_bytes: int = MOST_BYTES, threads: int | None = None
) -> dict[str, Any]:
    """Find the models that the request names, and merge them; see `merge_models`."""
    check_absent(out)
    locations = [find_model(item.model).location for item in request.inputs]
    base = find_base(request.base) if request.base else None
    return merge_models(request, locations, base, out, most_bytes=most_bytes, threads=threads)


def _file_entry(path: Path) -> FileEntry:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(size=path.stat().st_size, sha256=digest)


class _Merger:
    """Merges one piece after another; threads share it. `kept` counts the entries that stayed."""

    def __init__(self, plan: MergePlan, trims: Sequence[Trims], writer: CheckpointWriter) -> None:
        self._plan, self._trims, self._writer = plan, trims, writer
        self._rows, self._lock = ModelRows(plan), threading.Lock()
        self.kept: Kept = Kept()

    def write(self, piece: Piece) -> None:
        """Merge or copy the rows of one piece. Raises NonFiniteError, StoreError."""
        name, start, _ = piece
        base, models = self._rows.base(piece), self._plan.models_of(name)
        if models:
            merged = self._merged(piece, base, models)
        else:
            refuse_non_finite(kernels.count_non_finite(base), f"the base model's {name}")
            merged = self._rows.raw_base(piece)
        self._writer.write_rows(name, start, merged)

    def _merged(self, piece: Piece, base: torch.Tensor, models: Sequence[int]) -> torch.Tensor:
        """The merged rows, (entries,) in the output's dtype; overwrites `base`."""
        request, name = self._plan.request, piece[0]
        dtype = self._plan.dtypes[name]
        rows = self._rows.buffer("rows", (len(models), *base.shape), torch.float32)
        for row, model in zip(rows, models, strict=True):
            kept = self._keep(self._rows.fill(row, model, piece), model, piece)
            with self._lock:
                self.kept[model, name] += kept
        moves = self._rows.buffer("moves", base.shape, torch.float64)
        weights = [request.inputs[model].weight for model in models]
        factors = weights
        if request.row.keeps == "random":
            factors = [w / request.inputs[i].density for w, i in zip(weights, models, strict=True)]
        if request.row.elects:
            kernels.disjoint_merge(rows, factors, weights, request.normalize, moves)
        else:
            divisor = sum(item.weight for item in request.inputs) if request.normalize else 1.0
            kernels.weighted_sum(rows, factors, divisor, moves)
        if request.row.of == "values":
            base.zero_()
        overflows = kernels.add_to_base(base, moves, request.scaling, dtype)
        refuse_non_finite(overflows, f"the merged {name}, as {DTYPE_NAMES[dtype]},")
        return self._rows.buffer("merged", base.shape, dtype).copy_(base)

    def _keep(self, row: torch.Tensor, model: int, piece: Piece) -> int:
        """Set the entries that the method does not keep to zero; return how many are not zero."""
        request, (name, start, _) = self._plan.request, piece
        if request.row.keeps == "largest":
            return kernels.trim(row, self._trims[model][name].threshold)
        if request.row.keeps == "random":
            assert request.seed is not None
            key = kernels.stream_key(request.seed, model, name)
            first = start * columns_of(self._plan.shapes[name])
            return kernels.drop(row, key, first, kernels.hash_limit(request.inputs[model].density))
        return int(torch.count_nonzero(row))
