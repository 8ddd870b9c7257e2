"""Two studies side by side as a page: what was asked, what changed, and how the verdicts differ.

Model: the page of a `raylab.report.compare.Comparison`. Its first screen is that of
`raylab.report.page.comparison_screen`; its sections are the fields that differ, the numbers that
changed by more than the seed, those that did not, those of one study alone, and the sentences
behind the verdicts.
Invariant: every number is in a table or in a count. Two studies never have one name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath

from raylab.number_format import number
from raylab.report.compare import Comparison, NumberChange
from raylab.report.page.blocks import Block, Column, Fold, Grid, Items, Text
from raylab.report.page.comparison_screen import (
    CHANGED,
    MORE,
    ONLY,
    Sides,
    Verdicts,
    comparison_screen,
    model_name,
    times_text,
)
from raylab.report.page.grids import MOST
from raylab.report.page.page import Page, Section
from raylab.report.page.studied import studied_line
from raylab.report.words import Translator
from raylab.spec.study_file import field_text

_ALL = "raylab compare --json"
"""What prints the numbers that a table has no room for."""
_SECTIONS = ("asked", "moved", "same", "only", "sentences")

_TEXTS = ("model", "metric", "spread", "times", "verdict")
"""Columns whose titles are words, as compare-NAME in a language; others are those of studies."""
_NUMBERS = ("one", "other", "spread", "times")
_MORE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "moved": ("one", "other", "spread", "times", "verdict"),
    "within": ("one", "other", "spread", "times"),
    "unknown": ("one", "other"),
    "only_one": ("one",),
    "only_other": ("other",),
}
"""By grid: its columns behind those that name a number."""

Numbers = Sequence[NumberChange]


def side_names(studies: tuple[str, str], addresses: tuple[str, str]) -> tuple[str, str]:
    """Two names that differ: those of the studies, else of their places, else with a number."""
    ends = PurePath(addresses[0]).name, PurePath(addresses[1]).name
    for names in (studies, ends, addresses):
        if names[0] != names[1] and all(names):
            return names
    return f"{studies[0]} (1)", f"{studies[1]} (2)"


def comparison_page(translate: Translator, sides: Sides, found: Comparison) -> Page:
    """The page of two studies."""
    names = sides[0].name, sides[1].name
    verdicts = Verdicts(translate, sides)
    makers: tuple[Callable[[], Iterator[Block]], ...] = (
        lambda: _asked_blocks(translate, names, found),
        lambda: _moved_blocks(translate, names, found.numbers),
        lambda: _same_blocks(translate, names, found.numbers),
        lambda: _only_blocks(translate, names, found.numbers),
        lambda: _sentence_blocks(translate, verdicts),
    )
    parts = {key: tuple(make()) for key, make in zip(_SECTIONS, makers, strict=True)}
    return Page(
        translate("compare-title", one=names[0], other=names[1]),
        tuple(
            translate(
                "with-subject",
                subject=side.name,
                text=studied_line(translate, side.study, side.tables),
            )
            for side in sides
        ),
        comparison_screen(translate, sides, found, verdicts),
        tuple(
            Section(key, translate(f"compare-section-{key}"), blocks)
            for key, blocks in parts.items()
            if blocks
        ),
        translate,
    )


def _asked_blocks(
    translate: Translator, names: tuple[str, str], found: Comparison
) -> Iterator[Block]:
    if not found.asked:
        yield Text(translate("compare-asked-same"))
        return
    rows = tuple((row.field, field_text(row.one), field_text(row.other)) for row in found.asked)
    heads = (translate("compare-field"), *names)
    yield Text(translate("compare-asked-count", count=len(rows)))
    yield Grid(
        translate("compare-section-asked"),
        tuple(Column(head, "text") for head in heads),
        rows,
        name="asked",
    )


def _moved_blocks(
    translate: Translator, names: tuple[str, str], numbers: Numbers
) -> Iterator[Block]:
    more = _of(numbers, MORE)
    if not _of(numbers, CHANGED):
        return
    if more:
        counts = {verdict: len(_of(numbers, (verdict,))) for verdict in MORE}
        yield Text(translate("compare-moved", **counts))
        yield _number_grid(translate, "moved", names, more)
    else:
        yield Text(translate("compare-moved-none"))
    yield Fold(translate("page-reading"), (Text(translate("compare-reading")),))


def _same_blocks(
    translate: Translator, names: tuple[str, str], numbers: Numbers
) -> Iterator[Block]:
    same, within = _of(numbers, ("same",)), _of(numbers, ("within",))
    unknown = _of(numbers, ("unknown",))
    yield Text(translate("compare-same", same=len(same), within=len(within), unknown=len(unknown)))
    for key, rows in (("within", within), ("unknown", unknown)):
        if rows:
            grid = _number_grid(translate, key, names, rows)
            yield Fold(grid.title, (grid,))


def _only_blocks(
    translate: Translator, names: tuple[str, str], numbers: Numbers
) -> Iterator[Block]:
    for verdict, name in zip(ONLY, names, strict=True):
        rows = _of(numbers, (verdict,))
        if rows:
            models = dict.fromkeys(map(model_name, rows))
            yield Text(translate("compare-only-of", study=name, count=len(rows), names=[*models]))
            grid = _number_grid(translate, verdict, names, rows, study=name)
            yield Fold(grid.title, (grid,))


def _sentence_blocks(translate: Translator, verdicts: Verdicts) -> Iterator[Block]:
    items = tuple(verdicts.items())
    if items:
        yield Fold(translate("page-details"), (Items(items),))


def _of(numbers: Numbers, verdicts: Sequence[str]) -> list[NumberChange]:
    """The numbers of some verdicts: what moved the most first, then as they were."""
    rows = [row for row in numbers if row.verdict in verdicts]
    return sorted(rows, key=lambda row: -_rank(row))


def _rank(row: NumberChange) -> float:
    if row.verdict == "beyond" and row.times is None:
        return float("inf")
    return row.times or 0.0


def _number_grid(
    translate: Translator,
    key: str,
    names: tuple[str, str],
    rows: Numbers,
    study: str = "",
) -> Grid:
    """Numbers in both studies, with what each grid has to say of them (_MORE_COLUMNS)."""
    heads = {"one": names[0], "other": names[1]}
    heads |= {name: translate(f"compare-{name}") for name in _TEXTS}
    columns = ("model", "metric", *_MORE_COLUMNS[key])
    shown = rows[:MOST]
    total = {"shown": len(shown), "total": len(rows), "file": _ALL}
    return Grid(
        translate(f"compare-grid-{key}", study=study),
        tuple(Column(heads[name], "number" if name in _NUMBERS else "text") for name in columns),
        tuple(_cells(translate, row, columns) for row in shown),
        note=translate("grid-cut", **total) if len(shown) < len(rows) else "",
        name=key,
    )


def _cells(translate: Translator, row: NumberChange, columns: Sequence[str]) -> tuple[str, ...]:
    texts = {
        "model": model_name(row),
        "metric": translate.column(row.metric),
        "one": number(row.one),
        "other": number(row.other),
        "spread": number(row.spread),
        "times": times_text(translate, row),
        "verdict": translate(f"compare-{row.verdict}") if row.verdict in CHANGED else "",
    }
    return tuple(texts[name] for name in columns)
