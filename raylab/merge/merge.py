"""Merges models into one checkpoint, or adapters into one: TIES and its relatives.

Model: a merge opens and checks every model (`inputs`), finds the thresholds that the method trims
at (`trim`), and writes the output piece by piece (`merger`), on the CPU or on a GPU (`backend`).
Where it can it does both at once (`one_pass`).
Config, tokenizer and model card follow, and last a record, merge.json. Asked for an adapter, it
writes factors instead (`adapter_plan`, `adapter_out`).
Invariant: nothing is written before everything is checked, and the output appears whole or not
at all (`raylab.weights.atomic_directory`). The bits depend on the request and the models alone,
not on pieces, threads or the device. NaN, infinity and overflow raise an error. No tensor of a
merged model is ever held whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raylab.errors import InputError
from raylab.merge.backend import CPU, Backend, backend_for
from raylab.merge.card import write_card
from raylab.merge.inputs import MergePlan, plan_merge
from raylab.merge.merger import Merger
from raylab.merge.model_rows import ModelRows
from raylab.merge.named_models import find_named
from raylab.merge.one_pass import OnePass, can_foresee
from raylab.merge.record import file_entries, record_of, write_record
from raylab.merge.rescale import rescaling_of
from raylab.merge.trim import Trim, trims_of
from raylab.merge.whole_tensors import concluded
from raylab.spec.merges import MergeRequest
from raylab.spec.study import Device
from raylab.store.phase import Tell, silent
from raylab.store.references import ModelLocation
from raylab.weights.atomic_directory import atomic_directory, check_absent
from raylab.weights.checkpoint_writer import (
    CONFIG_FILES,
    MOST_BYTES,
    OTHER_FILES,
    CheckpointWriter,
    copy_config_files,
    write_config,
    write_untied,
)
from raylab.weights.layer_config import replace_config
from raylab.weights.row_tiles import Workers


def merge_models(
    request: MergeRequest,
    locations: Sequence[ModelLocation],
    base: Path | None,
    out: Path,
    *,
    most_bytes: int = MOST_BYTES,
    threads: int | None = None,
    device: Device = "auto",
    tell: Tell = silent,
    tokenizer: Path | None = None,
) -> dict[str, Any]:
    """Merge the models at `locations`, those of `request.inputs`, into a new directory `out`.

    base: the base model's directory; most_bytes: of tensors in one file; threads: all CPUs by
    default; device: where the arithmetic runs, see `raylab.merge.backend.choose`; tell: hears of
    every tensor; tokenizer: the folder of one that the request names by a model. Returns the
    record. Raises InputError (no GPU), ModelError and OutError before anything is written, and
    NonFiniteError, OutError (no room), DeviceMemoryError and StoreError, which leave nothing
    behind.
    """
    check_absent(out)
    is_on_cpu = request.row.combines != "entries"
    if is_on_cpu and device == "cuda":
        raise InputError(
            f"{request.method} runs on the CPU", found="device cuda", expected="auto or cpu"
        )
    if request.slices and request.output:
        raise InputError(
            "slices of layers make no adapter", found="--as adapter", expected="--as model"
        )
    plan = plan_merge(request, locations, base, tokenizer)
    if request.row.inputs == "factors":
        from raylab.merge.matrices import check_factors

        check_factors(plan, locations)
    backend = CPU if is_on_cpu else backend_for(device, plan.entries_of_checkpoints)
    if request.output:
        from raylab.merge.adapter_out import write_adapter
        from raylab.merge.adapter_plan import plan_adapter

        return write_adapter(plan_adapter(plan, locations), backend, out, threads, tell)
    return write_merge(plan, backend, out, most_bytes=most_bytes, threads=threads, tell=tell)


def merge_named(
    request: MergeRequest,
    out: Path,
    *,
    most_bytes: int = MOST_BYTES,
    threads: int | None = None,
    device: Device = "auto",
    dequantize: bool = False,
) -> dict[str, Any]:
    """Find the models that the request names, and merge them; see `merge_models`.

    dequantize: take copies in full precision of quantised ones (`raylab.weights.dequantize`).
    """
    check_absent(out)
    found = find_named(request, dequantize=dequantize)
    return merge_models(
        request,
        found.locations,
        found.base,
        out,
        most_bytes=most_bytes,
        threads=threads,
        device=device,
        tokenizer=found.tokenizer,
    )


def write_merge(
    plan: MergePlan,
    backend: Backend,
    out: Path,
    *,
    most_bytes: int = MOST_BYTES,
    threads: int | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Carry out `plan` on `backend`; see `merge_models`."""
    count = backend.threads(threads or len(os.sched_getaffinity(0)))
    with backend.in_use(), Workers(count) as workers:
        rows = ModelRows(plan, backend)
        trims: tuple[dict[str, Trim], ...] = tuple({} for _ in plan.models)
        foresees = can_foresee(rows)
        if not foresees:
            trims = trims_of(rows, workers, tell)
        found = concluded(rows, workers, tell)
        rescaling = rescaling_of(plan, trims, workers)
        with atomic_directory(out) as part:
            with CheckpointWriter(part, plan.tensors, most_bytes, digests=True) as writer:
                merger = Merger(rows, trims, found, writer, rescaling)
                one_pass = OnePass(rows, merger, trims, writer, workers)
                one_pass.write(tell) if foresees else merger.write_all(workers, tell)
            copy_config_files(plan.directory, part, OTHER_FILES if plan.tokens else CONFIG_FILES)
            if plan.config is not None:
                replace_config(part, plan.config)
            if plan.tokens:
                plan.tokens.write(plan.directory, part)
            if plan.chat_template:
                plan.chat_template.write(part)
            if plan.untied:
                write_untied(part)
            if plan.request.dtype:
                write_config(part, dict.fromkeys(("dtype", "torch_dtype"), plan.request.dtype))
            files = file_entries(part, writer.sha256)
            record = record_of(plan, trims, merger.counts, files, backend.name)
            write_card(part, out.name, record)
            write_record(part, record)
    return record
