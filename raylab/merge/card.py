"""What is told of a finished merge: its record, and the model card made of the record.

Model: the record says what was asked (method, models, weights, densities, scope, lambda, seed)
and what came of it (thresholds, entries kept, files with sizes and SHA-256). For each model and
what was trimmed together: num_keep entries were asked for, at_or_above reach the threshold, and
kept is how many of those are not zero and so were merged; with ties it exceeds num_keep.
Invariant: the record and the card depend on the request and the models alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import raylab
from raylab.merge.blocks import Kept
from raylab.merge.inputs import MergePlan
from raylab.merge.trim import Trim, Trims
from raylab.store.records import FileEntry


def record_of(
    plan: MergePlan, trims: Sequence[Trims], kept: Kept, files: Mapping[str, FileEntry]
) -> dict[str, Any]:
    """The record of a merge, as JSON holds it."""
    request = plan.request
    changed = [name for name in plan.shapes if plan.models_of(name)]
    return {
        "raylab": raylab.__version__,
        "method": request.method,
        "title": request.row.title,
        "paper": request.row.paper,
        "base": request.base,
        "scope": request.scope,
        "lambda": request.scaling,
        "seed": request.seed,
        "normalize": request.normalize,
        "numel": sum(math.prod(shape) for shape in plan.shapes.values()),
        "tensors_merged": len(changed),
        "tensors_copied": len(plan.shapes) - len(changed),
        "models": [_model_row(plan, i, trims[i], kept) for i in range(len(request.inputs))],
        "files": {name: entry.model_dump() for name, entry in files.items()},
    }


def _model_row(plan: MergePlan, model: int, trims: Trims, kept: Kept) -> dict[str, Any]:
    request = plan.request
    item, names = request.inputs[model], [n for n in plan.shapes if model in plan.models_of(n)]
    row: dict[str, Any] = {
        "model": item.model,
        "weight": item.weight,
        "density": item.density,
        "numel": sum(math.prod(plan.shapes[name]) for name in names),
        "kept": sum(kept[model, name] for name in names),
    }
    if request.scope == "global" and trims:
        row |= _trim_row(next(iter(trims.values())))
    if request.scope == "tensor":
        row["num_keep"] = sum(trims[name].num_keep for name in names)
        row["tensors"] = {
            name: {**_trim_row(trims[name]), "kept": kept[model, name]} for name in names
        }
    return row


def _trim_row(trim: Trim) -> dict[str, Any]:
    return {
        "num_keep": trim.num_keep,
        "threshold": trim.threshold,
        "at_or_above": trim.at_or_above,
    }


def summary_lines(record: Mapping[str, Any]) -> list[str]:
    """One line for the method, and one for each model: what was asked and what was kept."""
    asked = [f"{name} {record[name]}" for name in ("scope", "seed") if record[name] is not None]
    head = ", ".join([*asked, f"lambda {record['lambda']:g}"])
    return [f"{record['method']}: {head}", *(_model_line(row) for row in record["models"])]


def _model_line(row: Mapping[str, Any]) -> str:
    parts = [f"weight {row['weight']:g}", f"density {row['density']:g}"]
    if "num_keep" in row:
        parts.append(f"num_keep {row['num_keep']:,}")
    if "threshold" in row:
        parts.append(f"threshold {row['threshold']:.6g}")
    parts.append(f"kept {row['kept']:,} of {row['numel']:,}")
    return f"  {row['model']}: {', '.join(parts)}"


def card_of(name: str, record: Mapping[str, Any]) -> str:
    """The model card, Markdown with a YAML head, of a merge called `name`."""
    hubs = [text for text in (record["base"], *_models(record)) if text and _is_hub_id(text)]
    head = ["---", "library_name: transformers", "tags:", "- merge", "- raylab"]
    if hubs:
        head += ["base_model:", *(f"- {hub}" for hub in dict.fromkeys(hubs))]
    return "\n".join([*head, "---", "", f"# {name}", "", *_body(record), ""])


def _models(record: Mapping[str, Any]) -> list[str]:
    return [row["model"] for row in record["models"]]


def _is_hub_id(text: str) -> bool:
    return text.count("/") == 1 and "#" not in text and text[0] != "." and not Path(text).exists()


def _body(record: Mapping[str, Any]) -> list[str]:
    settings = {
        "Method": f"{record['title']} (`{record['method']}`; {record['paper']})",
        "Base model": f"`{record['base']}`" if record["base"] else None,
        "Trimmed over": {"global": "the whole task vector", "tensor": "each tensor"}.get(
            record["scope"]
        ),
        "Lambda": f"{record['lambda']:g}",
        "Seed": record["seed"],
        "Divided by the weights": "yes" if record["normalize"] else "no",
        "Tensors": f"{record['tensors_merged']} merged, {record['tensors_copied']} copied",
    }
    lines = [f"A merge made with raylab {record['raylab']}.", ""]
    lines += [f"- {key}: {value}" for key, value in settings.items() if value is not None]
    columns = ("model", "weight", "density", "numel", "num_keep", "threshold", "kept")
    lines += ["", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in record["models"]:
        lines.append("| " + " | ".join(_cell(row.get(column)) for column in columns) + " |")
    return [
        *lines,
        "",
        "`num_keep` entries were to stay; all that reach the threshold and are not zero did",
        "(`kept`). Everything, with the files' SHA-256, is in `merge.json`.",
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return f"`{value}`".replace("|", "\\|")
    return f"{value:,}" if isinstance(value, int) else f"{value:.9g}"
