"""A study's report: tables in, one HTML page, Markdown, LaTeX, figures, CSV and Parquet out.

Model: tables are read from OUT/tables, findings made of them, and a Page of those; the page is
written through one template or function for each form. The HTML file holds everything: styles,
scripts, and the specifications by which a browser draws the figures. Pages of other languages stand
beside the English ones, as report.ja.html, report.ja.md, tables.ja.tex, figures.ja.
Invariant: the same tables give the same bytes. All text from tables is escaped; no address of
another host is loaded; a table that is missing counts as empty, except the trials. A page of one
language changes no page of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from raylab.report.figures.vega_script import vega_script
from raylab.report.findings.every_finding import find_all
from raylab.report.findings.finding import Finding
from raylab.report.page.blocks import Item, Picture
from raylab.report.page.markup import latex_document, markdown_text
from raylab.report.page.page import ON_FIRST_SCREEN, Page, make_page, pictures_of
from raylab.report.study_tables import Rows, Tables
from raylab.report.words import LANGUAGES, Translator, translator
from raylab.spec.study import Study
from raylab.store.filesystem import REPORT, TABLES, Store
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import read_tables, to_csv, to_parquet

FINDINGS = f"{REPORT}/findings"
_SEVERAL_EMPTY_LINES = re.compile(r"\n{3,}")
FIRST_ROWS, FIRST_PROMPTS = 10, 3
"""What a page shows of a table and of the answers before a reader asks for all."""
_LANES = {"far": 11, "where": 21, "function": 31}
"""By space: the height of its dots in a row of figure 1, in pixels."""
# A script puts a value in the place of each mark.
_SCRIPT_WORDS: dict[str, dict[str, Any]] = {
    "filter": {}, "copy": {}, "copied": {}, "click": {}, "search": {}, "kind": {},
    "layer": {"layer": "%"}, "all_rows": {"count": "%"}, "more_prompts": {"count": "%"},
}  # fmt: skip


def languages_of(store: Store) -> list[str]:
    """The languages that the report of `store` has: English, and all that were asked for."""
    names = set(store.names(REPORT))
    return [lang for lang in LANGUAGES if lang == LANGUAGES[0] or f"report.{lang}.html" in names]


def build_report(
    study: Study,
    store: Store,
    language: str = "en",
    left_out: Sequence[str] = (),
    *,
    figures: bool = False,
) -> str:
    """Write OUT/report out of OUT/tables; the address of report.html. Raises StoreError.

    left_out: names of finished results in OUT that are no rows of these tables.
    figures: write every figure as SVG and as PNG too, which takes longer than all else.
    """
    tables = read_tables(store)
    source = Tables.of_study(study, tables)
    findings = find_all(source)
    translate = translator(language)
    frames = {name: frame_table(rows) for name, rows in _frames(findings)}
    items = [*_places(translate, store, tables, figures=figures)]
    if left_out:
        items.append(Item(translate("places-left-out"), ", ".join(left_out)))
    page = make_page(study, source, findings, translate, items)
    mark = mark_of(translate.language)
    folder = f"{REPORT}/figures{mark}"
    # What a former report showed and this one does not would stand beside it.
    for old in (folder, f"{REPORT}/tables", FINDINGS, f"{REPORT}/report{mark}.pdf"):
        store.delete(old)
    for name, table in tables.items():
        if table.num_rows:
            store.write(f"{REPORT}/tables/{name}.csv", to_csv(table))
    for name, table in frames.items():
        store.write(f"{FINDINGS}/{name}.csv", to_csv(table))
        store.write(f"{FINDINGS}/{name}.parquet", to_parquet(table))
    # The page has those of the first screen in a form of its own.
    others = (found for key in ON_FIRST_SCREEN for found in pictures_of(translate, findings[key]))
    for picture in (*others, *page.pictures) if figures else ():
        store.write(f"{folder}/{picture.name}.svg", picture.drawing.svg)
        store.write(f"{folder}/{picture.name}.png", picture.drawing.png)
    store.write(f"{REPORT}/tables{mark}.tex", latex_document(page).encode())
    store.write(f"{REPORT}/report{mark}.md", render_markdown(page, figures=figures).encode())
    store.write(f"{REPORT}/report{mark}.html", render_html(page).encode())
    return store.address(f"{REPORT}/report{mark}.html")


def page_key(language: str) -> str:
    """The key of the page in a language."""
    return f"{REPORT}/report{mark_of(language)}.html"


def mark_of(language: str) -> str:
    """What the names of files in a language other than the first have before their ending."""
    return "" if language == LANGUAGES[0] else f".{language}"


def frame_table(rows: Rows) -> pa.Table:
    """A frame's rows as an Arrow table with every column that a row has.

    A column of numbers and texts, as of seeds some of which are not one number, is one of texts.
    """
    columns: dict[str, list[Any]] = {
        name: [row.get(name) for row in rows]
        for name in dict.fromkeys(name for row in rows for name in row)
    }
    for name, values in columns.items():
        if any(isinstance(value, str) for value in values):
            columns[name] = [None if value is None else str(value) for value in values]
    return pa.table(columns)


def write_page(page: Page, store: Store, name: str, *, markdown: bool = False) -> str:
    """Write a page as NAME.html, or NAME.ja.html, and as Markdown beside it; its address."""
    file = f"{name}{mark_of(page.translate.language)}"
    if markdown:
        store.write(f"{file}.md", render_markdown(page).encode())
    store.write(f"{file}.html", render_html(page).encode())
    return store.address(f"{file}.html")


def render_html(page: Page) -> str:
    """The page as one HTML file."""
    environment = _environment(autoescape=True)
    scripts = Markup(vega_script()) if page.pictures else ""
    translate = page.translate
    return environment.get_template("report.html").render(
        page=page,
        translate=translate,
        vega=scripts,
        language=translate.language,
        words={name: translate(f"page-{name}", **values) for name, values in _SCRIPT_WORDS.items()},
        lanes=_LANES,
        first_rows=FIRST_ROWS,
        first_prompts=FIRST_PROMPTS,
    )


def render_markdown(page: Page, *, figures: bool = False) -> str:
    """The page as Markdown; with `figures`, those that stand beside it as files."""
    text = (
        _environment(autoescape=False)
        .get_template("report.md")
        .render(
            page=page,
            translate=page.translate,
            figures=f"figures{mark_of(page.translate.language)}" if figures else "",
            first_rows=FIRST_ROWS,
            first_prompts=FIRST_PROMPTS,
        )
    )
    return _SEVERAL_EMPTY_LINES.sub("\n\n", text)


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("raylab.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"spec": _spec, "md": markdown_text}
    return environment


def _spec(picture: Picture) -> Markup:
    # Nothing in a script element may look like its end.
    return Markup(picture.drawing.spec.replace("<", "\\u003c"))


def _frames(findings: Mapping[str, Finding]) -> Iterator[tuple[str, Rows]]:
    for finding in findings.values():
        yield from ((name, rows) for name, rows in finding.frames.items() if rows)


def _places(
    translate: Translator, store: Store, tables: Mapping[str, pa.Table], *, figures: bool
) -> Iterator[Item]:
    report, mark = store.address(REPORT), mark_of(translate.language)
    filled = [name for name in SCHEMAS if tables[name].num_rows]
    empty = [name for name in SCHEMAS if not tables[name].num_rows]
    yield Item(translate("places-parquet"), f"{store.address(TABLES)}, {store.address(FINDINGS)}")
    yield Item(translate("places-csv"), f"{report}/tables: {', '.join(filled)}")
    yield Item(translate("places-latex"), f"{report}/tables{mark}.tex")
    if figures:
        address = translate("places-as", address=f"{report}/figures{mark}")
        yield Item(translate("places-figures"), address)
    if empty:
        yield Item(translate("places-empty"), ", ".join(empty))
