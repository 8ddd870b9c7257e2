"""The verbs that read the tables of a store: table and compare.

Model and invariant: as in `raylab.cli`. They need neither torch nor Ray. Nothing is written unless
`compare --out` says where.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from raylab.cli.options import Json, Lang, Language, console, say
from raylab.imports import loading
from raylab.store.filesystem import Store

if TYPE_CHECKING:
    from raylab.report.compare import Comparison
    from raylab.report.study_tables import Tables
    from raylab.spec.study import Study


class TableFormat(StrEnum):
    """How a table is written."""

    table = "table"
    csv = "csv"
    json = "json"
    markdown = "markdown"
    latex = "latex"


_Out = Annotated[
    str, typer.Argument(metavar="OUT", help="The results of a study: a directory or URI.")
]


def table(
    name: Annotated[
        str, typer.Argument(metavar="TABLE", help="trials, norms, densities, pairs, ...")
    ],
    out: _Out,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="COLUMN=VALUE, also != < <= > >= and ~ REGEX; repeatable."),
    ] = None,
    sort: Annotated[
        list[str] | None,
        typer.Option(help="A column, -COLUMN for the largest first; repeatable."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Show this column; repeatable.", show_default="all")
    ] = None,
    form: Annotated[TableFormat, typer.Option("--format", help="How it is written.")] = (
        TableFormat.table
    ),
) -> None:
    """Print rows of a table of the store."""
    with loading():
        from raylab.report.terminal.table_view import FORMATS, show_table
        from raylab.store.table_query import parse_filter, select, unmatched
        from raylab.store.tables import named_table

    conditions = [parse_filter(text) for text in filters or ()]
    whole = named_table(Store(out), name)
    found = select(whole, conditions, sort or (), column or ())
    for message in unmatched(whole, conditions):
        say(message)
    if form is TableFormat.table:
        show_table(found, console())
    else:
        print(FORMATS[form.value](found), end="")


def compare(
    one: Annotated[str, typer.Argument(metavar="OUT1", help="The results of a study.")],
    other: Annotated[str, typer.Argument(metavar="OUT2", help="Those of another.")],
    out: Annotated[
        str | None, typer.Option(help="A directory or URI for compare.html and compare.md.")
    ] = None,
    lang: Lang = Language.en,
    as_json: Json = False,
) -> None:
    """Put two studies side by side: what was asked differently, and which numbers changed."""
    with loading():
        from raylab.report.compare import compare as compare_studies
        from raylab.report.study_tables import Tables
        from raylab.report.terminal.comparison import print_comparison
        from raylab.store.references import read_study
        from raylab.store.tables import read_tables

    stores = Store(one), Store(other)
    studies = [read_study(store) for store in stores]
    sides = [
        (study, Tables.of_study(study, read_tables(store)))
        for study, store in zip(studies, stores, strict=True)
    ]
    found = compare_studies(sides[0], sides[1])
    if out:
        say(f"page: {_write_page((one, other), sides, found, Store(out), lang.value)}")
    if as_json:
        print(json.dumps(found.document, ensure_ascii=False, indent=1))
    else:
        print_comparison(found, (one, other), console())


def _write_page(
    addresses: tuple[str, str],
    sides: list[tuple[Study, Tables]],
    found: Comparison,
    store: Store,
    language: str,
) -> str:
    """Write the page of two studies; its address. Raises OutError or StoreError."""
    from raylab.report.page.comparison_page import comparison_page, side_names
    from raylab.report.page.comparison_screen import Side
    from raylab.report.page.render import write_page
    from raylab.report.words import translator

    store.prepare()
    names = side_names((sides[0][0].name, sides[1][0].name), addresses)
    one, other = (Side(name, *side) for name, side in zip(names, sides, strict=True))
    page = comparison_page(translator(language), (one, other), found)
    return write_page(page, store, "compare", markdown=True)
