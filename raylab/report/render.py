"""A study's report: tables in, one HTML page, Markdown, figures and CSV out.

Model: tables are read from OUT/tables, made into a Page, and the page is written twice, through
one template each for HTML and Markdown. The HTML file holds everything: figures inline as SVG,
styles inline, no script, no address of another host.
Invariant: the same tables give the same bytes. All text from tables is escaped; a table that is
missing counts as empty, except the trials.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from raylab.report.blocks import Item, Picture
from raylab.report.figures import inline_svg
from raylab.report.page import Page, make_page
from raylab.report.summary import SeedRow, SeedTables, seed_tables
from raylab.spec.study import Study
from raylab.store.paths import REPORT, TABLES, Store
from raylab.store.tables import SCHEMAS, read_table, rows_of, to_csv, to_table

_MARKDOWN = re.compile(r"([\\`*_\[\]|~#])")


def build_report(study: Study, store: Store) -> str:
    """Write OUT/report out of OUT/tables; the address of report.html. Raises StoreError."""
    tables = _read_tables(store)
    rows = {name: rows_of(table) for name, table in tables.items()}
    csv = {name: to_csv(table) for name, table in tables.items() if table.num_rows}
    csv |= _seed_csv(seed_tables(rows["trials"], rows["norms"]))
    page = make_page(study, rows, list(_places(store, tables, csv)))
    for name, data in csv.items():
        store.write(f"{REPORT}/tables/{name}.csv", data)
    for picture in page.pictures:
        store.write(f"{REPORT}/figures/{picture.name}.svg", picture.drawing.svg)
        store.write(f"{REPORT}/figures/{picture.name}.png", picture.drawing.png)
    store.write(f"{REPORT}/report.md", render_markdown(page).encode())
    store.write(f"{REPORT}/report.html", render_html(page).encode())
    return store.address(f"{REPORT}/report.html")


def render_html(page: Page) -> str:
    """The page as one HTML file."""
    return _environment(autoescape=True).get_template("report.html").render(page=page)


def render_markdown(page: Page) -> str:
    """The page as Markdown, its figures beside it."""
    return _environment(autoescape=False).get_template("report.md").render(page=page)


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("raylab.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"svg": _svg, "md": markdown_text}
    return environment


def _svg(picture: Picture) -> Markup:
    # inline_svg escapes the caption, and matplotlib the labels.
    return Markup(inline_svg(picture.drawing.svg, picture.name, picture.caption))


def markdown_text(text: str) -> str:
    """Plain text as one line of Markdown that shows it, markup and all."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", escaped).replace("\r", "").replace("\n", "<br>")


def _read_tables(store: Store) -> dict[str, pa.Table]:
    return {name: _read_table(store, name) for name in SCHEMAS}


def _read_table(store: Store, name: str) -> pa.Table:
    """The table with every column of today's schema, null where the file has none."""
    if name != "trials" and not store.exists(f"{TABLES}/{name}.parquet"):
        return to_table(name, [])
    found = read_table(store, name)
    known = set(SCHEMAS[name].names)
    if known <= set(found.schema.names):
        return found
    return to_table(name, ({k: v for k, v in row.items() if k in known} for row in rows_of(found)))


def _places(
    store: Store, tables: Mapping[str, pa.Table], csv: Mapping[str, bytes]
) -> Iterator[Item]:
    yield Item("Parquet", store.address(TABLES))
    yield Item("CSV", f"{store.address(REPORT)}/tables: {', '.join(csv)}")
    yield Item("figures", f"{store.address(REPORT)}/figures, as SVG and as PNG")
    empty = [name for name, table in tables.items() if not table.num_rows]
    if empty:
        yield Item("without rows", ", ".join(empty))


def _seed_csv(found: SeedTables) -> dict[str, bytes]:
    unlike = [(group, row) for group, rows in enumerate(found.unlike, 1) for row in rows]
    tables = {
        "seeds_like": [_seed_record(row, found) for row in found.like],
        "seeds_unlike": [{"group": group, **_seed_record(row, found)} for group, row in unlike],
    }
    return {name: to_csv(pa.Table.from_pylist(rows)) for name, rows in tables.items() if rows}


def _seed_record(row: SeedRow, found: SeedTables) -> dict[str, Any]:
    record: dict[str, Any] = {
        "model": row.model,
        "pair": row.label,
        "recipes": "~".join(row.recipes),
        "method": row.method,
        "learning_rate": row.learning_rate,
    }
    for seed in found.seeds:
        record |= {f"l1_s{seed}": row.l1[seed], f"l2_s{seed}": row.l2[seed]}
    return {**record, "ratio": row.ratio, "verdict": row.verdict}
