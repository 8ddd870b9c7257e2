"""Merges models into one checkpoint: TIES and its relatives, streamed over the base model.

Model: a merge is planned (every model opened, every shape held against the base's), trimmed
(thresholds found, where the method has any), and written tile by tile, with the base model's
config and tokenizer, a model card, and last a record, merge.json.
Invariant: nothing is written before everything is checked, and the output appears whole or not
at all (`raylab.weights.checkpoint_writer`). The same request and models give the same weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from raylab.merge.blocks import merge_tiles
from raylab.merge.inputs import plan_merge
from raylab.merge.record import card_metadata, record_of
from raylab.merge.trim import trims_of
from raylab.spec.merges import MergeRequest
from raylab.store.records import FileEntry
from raylab.store.references import Place, find_base, find_model
from raylab.weights.checkpoint_writer import (
    MOST_BYTES,
    CheckpointWriter,
    check_absent,
    copy_beside,
    flush,
    whole_directory,
)
from raylab.weights.model_card import write_model_card

RECORD = "merge.json"


def merge_models(
    request: MergeRequest,
    places: Sequence[Place],
    base: Path | None,
    out: Path,
    *,
    most_bytes: int = MOST_BYTES,
    threads: int | None = None,
) -> dict[str, Any]:
    """Merge the models at `places`, those of `request.inputs`, into a new directory `out`.

    base: the base model's directory; most_bytes: of tensors in one file; threads: all CPUs by
    default. Returns the record. Raises ModelError and OutError before anything is written, and
    NonFiniteError, OutError (no room) and StoreError, which leave nothing behind.
    """
    check_absent(out)
    plan = plan_merge(request, places, base)
    workers = threads or len(os.sched_getaffinity(0))
    trims = trims_of(plan, workers)
    with whole_directory(out) as part:
        with CheckpointWriter(part, plan.tensors, most_bytes) as writer:
            kept = merge_tiles(plan, trims, writer, workers)
        copy_beside(plan.directory, part)
        with ThreadPoolExecutor() as pool:
            flushed = pool.submit(flush, part)
            files = _files(part)
            entries = pool.map(_entry, files)
        flushed.result()
        names = [file.relative_to(part).as_posix() for file in files]
        record = record_of(plan, trims, kept, dict(zip(names, entries, strict=True)))
        write_model_card(part, card_metadata(record), title=out.name, merge=record)
        text = json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
        (part / RECORD).write_text(text + "\n", encoding="utf-8")
    return record


def merge_named(
    request: MergeRequest, out: Path, *, most_bytes: int = MOST_BYTES, threads: int | None = None
) -> dict[str, Any]:
    """Find the models that the request names, and merge them; see `merge_models`."""
    check_absent(out)
    places = [find_model(item.model).place for item in request.inputs]
    base = find_base(request.base) if request.base else None
    return merge_models(request, places, base, out, most_bytes=most_bytes, threads=threads)


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(size=path.stat().st_size, sha256=digest)
