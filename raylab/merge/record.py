"""The record of a finished merge, merge.json, and the summaries that are made of it.

Model: the record holds the request (method, models, weights, densities, scope, lambda, seed) and
the result (thresholds, entries kept, files with sizes and SHA-256). For each model, and for each
set of entries that were trimmed together, it holds three counts: `num_keep` entries were to stay,
`at_or_above` entries reach the threshold, and `kept` entries reach it, are not zero, and were
merged. With ties `kept` exceeds `num_keep`. Where a setting differs by tensor, the record has its
text in the place of the number. Of a model's weight, density and parameters it then also lists the
tensors of each value.
Where the request asks for a tokenizer, `tokenizer` says of all tokens and rows where they came from
(`raylab.merge.token_map`). Of an adapter (`adapter`) it holds each tensor's rank and relative
error, |delta - B A| / |delta| in the Frobenius norm, and these of all tensors together.
Invariant: the record depends on the request and the models alone, except for `device`: where the
arithmetic ran, cpu or cuda. The weights are the same there and here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import raylab
from raylab.merge.inputs import MergePlan
from raylab.merge.layer_rows import rows_of_layers, slice_lines
from raylab.merge.output_template import template_line
from raylab.merge.token_map import token_lines
from raylab.merge.trim import Trim, Trims
from raylab.number_format import setting
from raylab.spec.merge_methods import METHODS
from raylab.spec.merge_parameters import Parameter
from raylab.spec.merge_settings import Setting, Varying
from raylab.spec.tensor_settings import TensorSettings
from raylab.store.records import FileEntry
from raylab.weights.file_digests import sha256_of

RECORD = "merge.json"

Kept = Counter[tuple[int, str]]
"""By model and tensor, how many entries stayed and are not zero."""


def record_of(
    plan: MergePlan,
    trims: Sequence[Trims],
    kept: Kept | None,
    files: Mapping[str, FileEntry],
    device: str,
) -> dict[str, Any]:
    """The record of a merge, as JSON holds it. kept: None where no entry was looked at."""
    request = plan.request
    changed = [name for name in plan.shapes if plan.models_of(name)]
    return {
        "raylab": raylab.__version__,
        "method": request.method,
        "title": request.row.title,
        "paper": request.row.paper,
        "base": request.base,
        "scope": request.scope,
        "lambda": _written(request.scaling),
        "seed": request.seed,
        "normalize": _written(request.normalize),
        **(
            {"parameters": {name: _written(asked) for name, asked in request.parameters.items()}}
            if request.parameters
            else {}
        ),
        **({"rescale": request.rescale} if request.rescale == "l1" else {}),
        **({"dtype": request.dtype} if request.dtype else {}),
        "device": device,
        "numel": sum(math.prod(shape) for shape in plan.shapes.values()),
        "tensors_merged": len(changed),
        "tensors_copied": len(plan.shapes) - len(changed),
        **({"untied": sorted(plan.untied)} if plan.untied else {}),
        **({"tokenizer": plan.tokens.map.account} if plan.tokens else {}),
        **({"chat_template": plan.chat_template.account} if plan.chat_template else {}),
        **rows_of_layers(plan),
        "models": [_model_row(plan, i, trims[i], kept) for i in range(len(request.inputs))],
        "files": {name: entry.model_dump() for name, entry in files.items()},
    }


def _model_row(plan: MergePlan, model: int, trims: Trims, kept: Kept | None) -> dict[str, Any]:
    request = plan.request
    item, names = request.inputs[model], [n for n in plan.shapes if model in plan.models_of(n)]
    row: dict[str, Any] = {
        "model": item.model,
        **_settings(plan, model, names),
        "numel": sum(math.prod(plan.shapes[name]) for name in names),
    }
    if kept is None:
        return row
    row["kept"] = sum(kept[model, name] for name in names)
    if request.scope == "global" and trims:
        row |= _trim_row(next(iter(trims.values())))
    if request.scope == "tensor":
        row["num_keep"] = sum(trims[name].num_keep for name in names)
        row["tensors"] = {
            name: {**_trim_row(trims[name]), "kept": kept[model, name]} for name in names
        }
    return row


def _trim_row(trim: Trim) -> dict[str, Any]:
    return {name: value for name, value in asdict(trim).items() if value is not None}


def _settings(plan: MergePlan, model: int, names: Sequence[str]) -> dict[str, Any]:
    """The model's weight, density and parameters; of one that differs by tensor also which has
    which value."""
    item, found = plan.request.inputs[model], plan.settings
    row: dict[str, Any] = {}
    for field, asked in (
        ("weight", item.weight),
        ("density", item.density),
        *item.parameters.items(),
    ):
        row[field] = _written(asked)
        if isinstance(asked, Varying):
            numbers = {name: _number(found[name], model, field) for name in names}
            row[f"{field}_by_tensor"] = [
                {"value": value, "tensors": [name for name in names if numbers[name] == value]}
                for value in sorted(set(numbers.values()))
            ]
    return row


def _number(settings: TensorSettings, model: int, field: str) -> Parameter:
    known = {"weight": settings.weights[model], "density": settings.densities[model]}
    return {**settings.own[model], **known}[field]


def _written(asked: Setting) -> Setting | str:
    return str(asked) if isinstance(asked, Varying) else asked


def summary_lines(record: Mapping[str, Any]) -> list[str]:
    """One line for the method, and one for each model with its settings and counts; of settings
    those that the method uses."""
    method = METHODS[record["method"]]
    settings = [f"{name} {record[name]}" for name in ("scope", "seed") if record[name] is not None]
    settings += [f"lambda {setting(record['lambda'])}"] * method.scales
    settings += [f"{name} {setting(value)}" for name, value in record.get("parameters", {}).items()]
    if record["device"] != "cpu":
        settings.append(f"on {record['device']}")
    lines = [": ".join([record["method"], *[", ".join(settings)] * bool(settings)])]
    for row in record["models"]:
        own = [name for name in method.own_settings if name in row]
        parts = [f"{name} {setting(row[name])}" for name in own]
        if "num_keep" in row:
            parts.append(f"num_keep {row['num_keep']:,}")
        if "threshold" in row:
            parts.append(f"threshold {row['threshold']:.6g}")
        if "kept" in row:
            counted = f"{row['kept']:,} of {row['numel']:,}"
            is_share = method.keeps != "all"
            parts.append(f"kept {counted}" if is_share else f"{counted} entries not zero")
        lines.append(f"  {row['model']}: {', '.join(parts)}")
    lines += slice_lines(record)
    if "adapter" in record:
        lines.append(_adapter_line(record["adapter"]))
    if "tokenizer" in record:
        lines += token_lines(record["tokenizer"])
    if "chat_template" in record:
        lines.append(template_line(record["chat_template"]))
    for name in record.get("untied", ()):
        lines.append(f"  {name} is a weight of its own now, which the base model ties to another")
    return lines


def _adapter_line(adapter: Mapping[str, Any]) -> str:
    lost = f"relative error {adapter['relative_error']:.3g}"
    return (
        f"  an adapter of {adapter['parameters']:,} parameters, rank at most {adapter['r']}, "
        + ("exact" if adapter["exact"] else lost)
    )


def write_record(part: Path, record: Mapping[str, Any]) -> None:
    """Write merge.json, which comes last."""
    text = json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
    (part / RECORD).write_text(text + "\n", encoding="utf-8")


def file_entries(part: Path, known: Mapping[str, str]) -> dict[str, FileEntry]:
    """The files below `part`, by name; `known`: the SHA-256 of some of them."""
    files = sorted(path for path in part.rglob("*") if path.is_file())
    names = [file.relative_to(part).as_posix() for file in files]
    return {
        name: FileEntry(size=file.stat().st_size, sha256=known.get(name) or sha256_of(file))
        for name, file in zip(names, files, strict=True)
    }
