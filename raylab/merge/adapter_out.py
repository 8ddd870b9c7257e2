"""Writes a merge of adapters as one adapter, which PEFT and servers of LoRA load as any other.

Model: `linear` and `task_arithmetic` add up the adapters' products of factors, so the factors side
by side, with weights, scales and lambda in B, are the merged delta. Methods of matrices give
factors of at most the adapters' ranks together (`matrices`). Every other method changes
entries one by one: its delta is formed whole, a tensor at a time, by the steps of the merge, and
its best approximation is written (`low_rank`). So is a sum where a rank or an energy is asked for,
from its small factors.
Readers of adapters take the scale as lora_alpha / r of the config (vLLM, SGLang), as lora_alpha
over the rows of A (llama.cpp, TensorRT-LLM), or by rank_pattern and alpha_pattern as well (PEFT).
All of them agree where every layer has one rank r and lora_alpha is r: the scale is 1. So factors
of a smaller rank have zeros beyond it, and there are no patterns. Factors are float32.
Invariant: as of `raylab.merge.merge`: all or nothing, and the same bytes with any number of
threads. Each thread holds one tensor's delta in float64, and needs about four times its size.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn.functional import pad

from raylab.merge.adapter_plan import AdapterPlan
from raylab.merge.backend import Backend
from raylab.merge.card import write_card
from raylab.merge.low_rank import (
    Approximation,
    approximate,
    approximate_product,
    exact_product,
)
from raylab.merge.matrices import merged_factors
from raylab.merge.merger import Merger
from raylab.merge.model_rows import ModelRows, refuse_non_finite
from raylab.merge.record import file_entries, record_of, write_record
from raylab.merge.rescale import rescaling_of
from raylab.merge.trim import trims_of
from raylab.merge.whole_tensors import concluded
from raylab.store.phase import MERGING, Tell, silent
from raylab.weights.atomic_directory import atomic_directory
from raylab.weights.checkpoint_writer import TOKENIZER_FILES, copy_config_files
from raylab.weights.export import CONFIG, PREFIX, WEIGHTS
from raylab.weights.row_tiles import Workers, columns_of

Found = Mapping[str, Approximation]
"""By the base model's tensor."""


def write_adapter(
    plan: AdapterPlan,
    backend: Backend,
    out: Path,
    threads: int | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Carry out `plan` on `backend`; see `raylab.merge.merge.merge_models`."""
    count = backend.threads(threads or len(os.sched_getaffinity(0)))
    with backend.in_use(), Workers(count) as workers:
        rows = ModelRows(plan.merge, backend)
        trims = trims_of(rows, workers, tell)
        rescaling = rescaling_of(plan.merge, trims, workers)
        merger = Merger(rows, trims, concluded(rows, workers, tell), rescaling=rescaling)
        with atomic_directory(out) as part:
            found = _approximations(plan, rows, merger, workers, tell)
            _write_factors(plan, found, part)
            copy_config_files(plan.merge.directory, part, TOKENIZER_FILES)
            files = file_entries(part, {})
            kept = None if plan.is_sum else merger.counts
            record = record_of(plan.merge, trims, kept, files, backend.name)
            record["adapter"] = _record(plan, found)
            write_card(part, out.name, record)
            write_record(part, record)
    return record


def _approximations(
    plan: AdapterPlan, rows: ModelRows, merger: Merger, workers: Workers, tell: Tell
) -> Found:
    found: dict[str, Approximation] = {}

    def add(name: str) -> None:
        found[name] = _approximation(plan, name, rows, merger)

    names, done = list(plan.modules), iter(range(1, len(plan.modules) + 1))
    workers.each(names, add, lambda name: tell(MERGING, next(done), len(names)))
    return {name: found[name] for name in names}


def _approximation(plan: AdapterPlan, name: str, rows: ModelRows, merger: Merger) -> Approximation:
    """The factors of one tensor. Raises NonFiniteError."""
    if plan.has_factors:
        up, down = plan.factors(name) if plan.is_sum else merged_factors(rows, name)
        _check_finite(name, up, down)
        is_whole = plan.asked.energy is None and (plan.asked.rank or math.inf) >= up.shape[1]
        found = exact_product(up, down) if is_whole else approximate_product(up, down, plan.asked)
    else:
        shape = plan.merge.shapes[name]
        delta = torch.empty(math.prod(shape), dtype=torch.float64)
        for piece in rows.pieces([name]):
            start = piece[1] * columns_of(shape)
            moves = merger.delta(piece)
            delta[start : start + len(moves)] = torch.from_numpy(moves)
        found = approximate(delta.view(*shape), plan.asked, plan.rank(name))
    _check_finite(name, found.up, found.down)
    return found


def _check_finite(name: str, *factors: torch.Tensor) -> None:
    bad = sum(int((~torch.isfinite(factor)).sum()) for factor in factors)
    refuse_non_finite(bad, f"a factor of {name}")


def _write_factors(plan: AdapterPlan, found: Found, part: Path) -> None:
    tensors, rank = {}, _largest_rank(found)
    for name, factors in found.items():
        beyond = rank - factors.rank
        up, down = pad(factors.up, (0, beyond)), pad(factors.down, (0, 0, 0, beyond))
        if plan.inputs.is_conv1d:
            up, down = down.T, up.T
        tensors[f"{PREFIX}{plan.modules[name]}.lora_A.weight"] = down.contiguous()
        tensors[f"{PREFIX}{plan.modules[name]}.lora_B.weight"] = up.contiguous()
    save_file(tensors, part / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(_config(plan, found), indent=1, sort_keys=True)
    (part / CONFIG).write_text(text + "\n", encoding="utf-8")


def _config(plan: AdapterPlan, found: Found) -> dict[str, Any]:
    """adapter_config.json: fields that are not there have PEFT's defaults."""
    rank = _largest_rank(found)
    return {
        "peft_type": "LORA",
        "task_type": _common(plan, "task_type"),
        "base_model_name_or_path": _base(plan),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": plan.inputs.is_conv1d,
        "inference_mode": True,
        "target_modules": _targets(plan, list(plan.modules.values())),
    }


def _base(plan: AdapterPlan) -> str:
    """What the base model is called: as the request does, but the inputs' own name goes before a
    place on this machine."""
    named = plan.merge.request.base
    if named and "#" not in named and not Path(named).exists():
        return named
    common: str | None = _common(plan, "base_model_name_or_path")
    return common or named or str(plan.merge.directory)


def _common(plan: AdapterPlan, field: str) -> Any:
    """The value of `field` in the configs of all inputs that have one; None where they differ."""
    values = {config.get(field) for config in plan.inputs.configs} - {None}
    return values.pop() if len(values) == 1 else None


def _largest_rank(found: Found) -> int:
    return max(one.rank for one in found.values())


def _targets(plan: AdapterPlan, modules: list[str]) -> list[str]:
    """The last words of the modules' names, which every server reads, where they name no other
    layer of the base model; else the whole names."""
    endings = {module.rpartition(".")[2] for module in modules}
    named = [
        n for n in plan.merge.shapes if n.removesuffix(".weight").rpartition(".")[2] in endings
    ]
    is_same = {n for n in named if n.endswith(".weight")} == {*plan.modules}
    return sorted(endings if is_same else modules)


def _record(plan: AdapterPlan, found: Found) -> dict[str, Any]:
    """What the record says of the adapter: the ranks, and what was lost."""
    lost, energy = (math.fsum(getattr(f, n) for f in found.values()) for n in ("lost", "energy"))
    rank = _largest_rank(found)
    return {
        "exact": plan.has_factors and not lost,
        "rank": plan.asked.rank,
        "energy": plan.asked.energy,
        "r": rank,
        "parameters": rank * sum(sum(plan.merge.shapes[name]) for name in found),
        "relative_error": _ratio(lost, energy),
        "tensors": {
            name: {"rank": one.rank, "relative_error": _ratio(one.lost, one.energy)}
            for name, one in found.items()
        },
    }


def _ratio(lost: float, energy: float) -> float:
    return math.sqrt(lost / energy) if energy else 0.0
