"""The difference of two models as a short page: how much, where, and in how few entries.

Model: the page of the document that `raylab diff --json` prints, with the rows of tensors and of
the curve that `raylab diff --out` writes.
Invariant: every number is one of the document or of the rows. A model is named by its trial or
folder where these differ, else as it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from raylab.number_format import count, number, rate, setting
from raylab.report.figures.drawing import Drawing
from raylab.report.figures.heatmaps import layers_figure
from raylab.report.findings.by_layer import cells_of
from raylab.report.findings.statistics import ratio_of
from raylab.report.page.blocks import Block, Column, Fold, Grid, Item, Items, Picture, Text
from raylab.report.page.first_screen import FirstScreen
from raylab.report.page.page import Page, Section
from raylab.report.study_tables import Row, Rows, grouped
from raylab.report.words import Translator

DEFINED = ("norms", "relative", "density", "threshold", "cosine")
"""The words that the page explains, by the name of their messages."""

Document = Mapping[str, Any]


def model_names(one: str, other: str) -> tuple[str, str]:
    """Short names of two models that were asked for: a trial's, or that of a folder."""
    short = tuple(PurePath(name.rpartition("#")[2]).name for name in (one, other))
    return (short[0], short[1]) if short[0] != short[1] and all(short) else (one, other)


def difference_page(translate: Translator, document: Document, tables: Mapping[str, Rows]) -> Page:
    """The page of one difference; `tables` are its rows of norms and of the curve."""
    names = model_names(document["a"], document["b"])
    tensors = [row for row in tables["norms"] if row["level"] == "tensor"]
    parts = {
        "where": tuple(_where_blocks(translate, document, cells_of(tensors))),
        "largest": tuple(_largest_blocks(translate, document, tables.get("curve", ()))),
        "entries": tuple(_entry_blocks(translate, document)),
    }
    settings = translate(
        "difference-settings", view=document["view"], universe=document["universe"]
    )
    return Page(
        translate("compare-title", one=names[0], other=names[1]),
        (
            translate("with-subject", subject="a", text=document["a"]),
            translate("with-subject", subject="b", text=document["b"]),
            settings,
        ),
        FirstScreen(
            tuple(_answers(translate, document)), cautions=tuple(_cautions(translate, document))
        ),
        tuple(
            Section(key, translate(f"difference-section-{key}"), blocks)
            for key, blocks in parts.items()
        ),
        translate,
    )


def glossary(translate: Translator, names: tuple[str, ...]) -> Fold:
    """The meaning of some words of the page, in a fold."""
    items = (
        Item(translate(f"define-{name}-head"), translate(f"define-{name}-text")) for name in names
    )
    return Fold(translate("page-glossary"), (Items(tuple(items)),))


def _answers(translate: Translator, document: Document) -> Iterator[str]:
    norms, numel = document["norms"], document["numel"]
    if not norms["nonzero"]:
        yield translate("difference-same", numel=numel)
        return
    relative = ""
    if norms["relative_l2"] is not None:
        relative = translate("difference-relative", share=norms["relative_l2"])
    yield translate(
        "difference-answer",
        l2=norms["l2"],
        relative=relative,
        moved=ratio_of(norms["moved"], numel),
        numel=numel,
        tolerance=norms["tolerance"],
    )
    if "base" in document:
        yield _relation(translate, **document["base"])


def _relation(
    translate: Translator,
    *,
    cosine: float | None,
    sign_agreement: float | None,
    l2_a: float,
    l2_b: float,
) -> str:
    """How the two task vectors relate."""
    if cosine is None:
        return translate("difference-base_itself", l2_a=l2_a, l2_b=l2_b)
    agree = sign_agreement is not None
    signs = translate("difference-signs", share=sign_agreement) if agree else ""
    return translate("difference-base", cosine=cosine, l2_a=l2_a, l2_b=l2_b, signs=signs)


def _cautions(translate: Translator, document: Document) -> Iterator[Item]:
    counts = document["accounting"]
    left_out = sum(counts.values()) - counts["compared"] - counts["tied"]
    if not counts["compared"]:
        yield Item("apart", translate("difference-nothing_in_common"), "fair")
    elif left_out:
        values = {"count": left_out, "total": sum(counts.values())}
        yield Item("left_out", translate("difference-left_out", **values), "fair")


def _where_blocks(translate: Translator, document: Document, cells: Rows) -> Iterator[Block]:
    known = [cell for cell in cells if cell["share"] is not None]
    if known:
        kind, of_kind = _largest(known, "kind")
        yield Text(translate("difference-kind", kind=kind, share=of_kind))
    layered = [cell for cell in known if cell["layer"] is not None]
    if layered:
        layer, of_layer = _largest(layered, "layer")
        yield Text(translate("difference-layer", layer=layer, share=of_layer))
    # One subject alone, as the figure of a study has several.
    subject = {"model": "", "what": "difference", "name": "difference", "label": "difference"}
    figure = layers_figure(translate, {"where": [subject | dict(cell) for cell in cells]}, "")
    if figure and known:
        measure = translate(f"measure-{cells[0]['measure']}")
        caption = translate("difference-caption", measure=measure)
        yield Picture("heatmap-difference", Drawing.of(figure.chart), caption)
    grid = _layer_grid(translate, document)
    yield Fold(grid.title, (grid,))


def _largest(cells: Rows, column: str) -> tuple[Any, float]:
    """The kind or layer with the most of the squared L2, and its share."""
    groups = grouped(cells, lambda cell: cell[column])
    shares = {key: sum(cell["share"] for cell in of) for key, of in groups.items()}
    most = max(shares, key=lambda key: shares[key])
    return most, shares[most]


def _layer_grid(translate: Translator, document: Document) -> Grid:
    names = ("layer", "kind", "numel", "l1", "l2", "linf", "moved_share")
    columns = [Column(translate.column(name)) for name in names]
    columns[:2] = [Column(column.name, "text") for column in columns[:2]]
    rows = (
        (row["key"], row["module"], count(row["numel"]),
         *(number(row[name]) for name in ("l1", "l2", "linf")),
         rate(ratio_of(row["moved"], row["numel"])))
        for row in document["layers"]
    )  # fmt: skip
    title = translate("difference-grid-layers")
    return Grid(title, tuple(columns), tuple(rows), name="layers")


def _largest_blocks(translate: Translator, document: Document, curve: Rows) -> Iterator[Block]:
    rows: list[Row] = sorted(document["densities"], key=lambda row: row["density"])
    whole = document["norms"]["l2"]
    if whole and rows:
        share = ratio_of(rows[0]["l2"], whole)
        yield Text(translate("difference-share", density=rows[0]["density"], share=share))
    names = ("density", "num_keep", "threshold", "at_or_above", "l1", "l2")
    yield Grid(
        translate("difference-grid-densities"),
        tuple(Column(translate.column(name)) for name in names),
        tuple(
            (setting(row["density"]), count(row["num_keep"]), number(row["threshold"]),
             count(row["at_or_above"]), number(row["l1"]), number(row["l2"]))
            for row in rows
        ),
        name="densities",
    )  # fmt: skip
    if curve:
        yield Fold(translate("difference-grid-curve"), (_curve_grid(translate, curve),))


def _curve_grid(translate: Translator, curve: Rows) -> Grid:
    names = ("density", "l1_share", "l2_share")
    return Grid(
        translate("difference-grid-curve"),
        tuple(Column(translate.column(name)) for name in names),
        tuple(
            (number(row["density"]), rate(row["l1_share"]), rate(row["l2_share"])) for row in curve
        ),
        name="curve",
    )


def _entry_blocks(translate: Translator, document: Document) -> Iterator[Block]:
    counts = {name: found for name, found in document["accounting"].items() if found}
    heads = (translate("difference-fate"), translate.column("numel"))
    yield Grid(
        translate("difference-section-entries"),
        (Column(heads[0], "text"), Column(heads[1])),
        tuple((translate(f"difference-{name}"), count(found)) for name, found in counts.items()),
        name="accounting",
    )
    yield glossary(translate, DEFINED)
