"""The verbs that read the tables of a store: table and compare.

Model and invariant: as in `raylab.cli`. They need neither torch nor Ray, and write nothing.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from raylab.cli.options import Json, console, say
from raylab.store.filesystem import Store


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
    as_json: Json = False,
) -> None:
    """Put two studies side by side: what was asked differently, and which numbers changed."""
    from raylab.report.compare import compare as compare_studies
    from raylab.report.study_tables import Tables
    from raylab.report.terminal.comparison import print_comparison
    from raylab.store.references import read_study
    from raylab.store.tables import read_tables

    stores = Store(one), Store(other)
    sides = [(read_study(store), Tables(read_tables(store))) for store in stores]
    found = compare_studies(sides[0], sides[1])
    if as_json:
        print(json.dumps(found.document, ensure_ascii=False, indent=1))
    else:
        print_comparison(found, (one, other), console())
