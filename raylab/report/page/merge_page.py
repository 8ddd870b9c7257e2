"""A finished merge as a short page: how it was made, and what it kept of each model.

Model: the page of a request and of its record, merge.json.
Invariant: every model, every trimmed tensor and every file of the record has a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.number_format import MISSING, count, number, rate, setting, size
from raylab.report.findings.statistics import ratio_of
from raylab.report.page.blocks import Block, Column, Fold, Grid, Item
from raylab.report.page.difference_page import glossary
from raylab.report.page.first_screen import FirstScreen
from raylab.report.page.page import Page, Section
from raylab.report.page.trials import merge_text
from raylab.report.words import Translator
from raylab.spec.merges import MergeRequest

DEFINED = ("density", "threshold", "merge")
"""The words that the page explains, by the name of their messages."""
_TEXTS = ("model", "tensor", "file", "sha256", "origin", "layers", "sources")

Record = Mapping[str, Any]


def merge_page(translate: Translator, name: str, request: MergeRequest, record: Record) -> Page:
    """The page of the merge in the folder `name`."""
    base = record["base"]
    parts = {
        "models": tuple(_model_blocks(translate, request.row.own_settings, record)),
        **({"slices": tuple(_slice_blocks(translate, record))} if "slices" in record else {}),
        **({"adapter": tuple(_rank_blocks(translate, record))} if "adapter" in record else {}),
        **({"tokens": tuple(_token_blocks(translate, record))} if "tokenizer" in record else {}),
        "files": tuple(_file_blocks(translate, record)),
    }
    return Page(
        name,
        (translate("merge-base", base=base) if base else translate("merge-no_base"),),
        FirstScreen(
            (merge_text(translate, request), _written(translate, record)),
            cautions=tuple(_cautions(translate, record)),
        ),
        tuple(
            Section(key, translate(f"merge-section-{key}"), blocks) for key, blocks in parts.items()
        ),
        translate,
    )


def _written(translate: Translator, record: Record) -> str:
    """What the folder has: a whole model, or an adapter with what was lost."""
    adapter = record.get("adapter")
    if adapter is None:
        counts = {key: record[key] for key in ("numel", "tensors_merged", "tensors_copied")}
        return translate("merge-counts", **counts)
    values = {"parameters": adapter["parameters"], "r": adapter["r"]}
    if adapter["exact"]:
        return translate("merge-adapter-exact", **values)
    return translate("merge-adapter-near", **values, error=adapter["relative_error"])


def _cautions(translate: Translator, record: Record) -> Iterator[Item]:
    if untied := record.get("untied"):
        yield Item("untied", translate("merge-untied", names=untied), "fair")
    tokens = record.get("tokenizer", {})
    found = {"zero": tokens.get("filled", {}).get("zero"), "literal": tokens.get("literal")}
    for name, number_of in found.items():
        if number_of:
            yield Item(name, translate(f"merge-tokens-{name}", count=number_of), "fair")


def _token_blocks(translate: Translator, record: Record) -> Iterator[Block]:
    """Where the rows of tokens come from, then what of each model's matrices is used."""
    found = record["tokenizer"]
    origins = {"in_all": found["in_all"], **found["filled"], "padding": found["padding"]}
    cells = [
        {"origin": translate(f"merge-origin-{name}"), "rows": count(number_of)}
        for name, number_of in origins.items()
    ]
    yield _grid(translate, "origins", ("origin", "rows"), cells)
    columns = ("rows", "tokens", "only", "used", "left_out")
    models = [
        {"model": row["model"], **{name: count(row[name]) for name in columns}}
        for row in found["models"]
    ]
    yield _grid(translate, "vocabularies", ("model", *columns), models)


def _slice_blocks(translate: Translator, record: Record) -> Iterator[Block]:
    cells = [
        {
            "layers": _layers(row["stack"], row["layers"]),
            "sources": ", ".join(_layers(one["model"], one["layers"]) for one in row["from"]),
        }
        for row in record["slices"]
    ]
    yield _grid(translate, "slices", ("layers", "sources"), cells)


def _layers(name: str, ends: Sequence[int]) -> str:
    """A name, and the layers from the first to the last of `ends`."""
    return f"{name} {'–'.join(map(str, dict.fromkeys(ends)))}"


def _rank_blocks(translate: Translator, record: Record) -> Iterator[Block]:
    cells = [
        {
            "tensor": name,
            "rank": count(row["rank"]),
            "relative_error": number(row["relative_error"]),
        }
        for name, row in record["adapter"]["tensors"].items()
    ]
    grid = _grid(translate, "ranks", ("tensor", "rank", "relative_error"), cells)
    yield Fold(grid.title, (grid,))


def _model_blocks(translate: Translator, own: Sequence[str], record: Record) -> Iterator[Block]:
    names = ["model", *own, "num_keep", "threshold", "kept", "numel", "kept_share"]
    models = record["models"]
    measured = {"kept_share": "kept"}
    known = [n for n in names if any(measured.get(n, n) in row for row in models)]
    yield _grid(translate, "models", known, [_model_cells(row, own) for row in models])
    for row in models:
        tensors = row.get("tensors")
        if tensors:
            cells = [_tensor_cells(name, found) for name, found in tensors.items()]
            columns = ("tensor", "num_keep", "threshold", "at_or_above", "kept")
            grid = _grid(translate, "tensors", columns, cells, row["model"])
            yield Fold(grid.title, (grid,))
    yield glossary(translate, DEFINED if "density" in own else DEFINED[-1:])


def _model_cells(row: Record, own: Sequence[str]) -> dict[str, str]:
    """The cells of a model; own: the settings that it may have of its own."""
    return {
        "model": row["model"],
        **{name: setting(row[name]) for name in own if name in row},
        "num_keep": count(row.get("num_keep")),
        "threshold": number(row.get("threshold")),
        "kept": count(row.get("kept")),
        "numel": count(row["numel"]),
        "kept_share": rate(ratio_of(row.get("kept"), row["numel"])),
    }


def _tensor_cells(name: str, row: Record) -> dict[str, str]:
    counts = {key: count(row[key]) for key in ("num_keep", "at_or_above", "kept")}
    return {"tensor": name, "threshold": number(row["threshold"]), **counts}


def _file_blocks(translate: Translator, record: Record) -> Iterator[Block]:
    cells = [
        {"file": name, "size": size(found["size"]), "sha256": found["sha256"] or MISSING}
        for name, found in record["files"].items()
    ]
    grid = _grid(translate, "files", ("file", "size", "sha256"), cells)
    yield Fold(grid.title, (grid,))


def _grid(
    translate: Translator,
    key: str,
    columns: Sequence[str],
    cells: Sequence[Mapping[str, str]],
    model: str = "",
) -> Grid:
    return Grid(
        translate(f"merge-grid-{key}", model=model),
        tuple(
            Column(_title(translate, name), "text" if name in _TEXTS else "number")
            for name in columns
        ),
        tuple(tuple(row[name] for name in columns) for row in cells),
        name=key,
    )


def _title(translate: Translator, name: str) -> str:
    message = f"merge-column-{name}"
    return translate(message) if translate.has_message(message) else translate.column(name)
