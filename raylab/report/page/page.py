"""The report as one value: its texts, tables and figures, before any markup.

Model: a Page is a title, a line on what was studied, the first screen, and sections of blocks.
A section of a finding is its question, its answer, its figures, and folds: how to read them, all
sentences, its tables. HTML, Markdown and LaTeX are made of one Page, so that their contents are
the same.
Invariant: sections come in one order, whatever the tables hold; a section is never left out. No
sentence stands twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from raylab.report.figures import FIGURES
from raylab.report.figures.drawing import Drawing
from raylab.report.findings.effect_words import ANSWERED, is_of_seed, space_sentence
from raylab.report.findings.finding import Finding, Sentence
from raylab.report.page.answers import answer_blocks, likelihood_blocks
from raylab.report.page.blocks import Block, Fold, Grid, Item, Items, Picture, Text
from raylab.report.page.comparisons import (
    left_out_blocks,
    missing_blocks,
    missing_sentences,
    published_blocks,
)
from raylab.report.page.first_screen import FirstScreen, first_screen, place_of
from raylab.report.page.grids import grids_of
from raylab.report.page.studied import settings_text, studied_line
from raylab.report.page.trials import flag_blocks, merge_blocks, trial_blocks
from raylab.report.study_tables import Rows, Tables, base_models_of
from raylab.report.verdicts import MOST_CAUTIONS, cautions
from raylab.report.words import Translator
from raylab.spec.study import Study

DEFINED = (
    "task_vector", "norms", "density", "threshold", "cosine", "kl", "rank", "pair", "effect",
    "floor", "norms_differ", "factor", "distance", "interval", "share", "silhouette", "stress",
    "relative", "half", "cka", "tokens", "intruder", "principal", "chain", "barrier", "answers",
    "marked", "merge", "missing",
)  # fmt: skip
"""The words that the page explains, by the name of their messages."""
ON_FIRST_SCREEN = ("effects",)
"""The findings whose figures and sentences the first screen has in a form of its own."""


@dataclass(frozen=True)
class Section:
    """A part of the page with a title."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A whole page, in one language; `studied` are lines on what it is about."""

    title: str
    studied: tuple[str, ...]
    first: FirstScreen
    sections: tuple[Section, ...]
    translate: Translator

    @property
    def blocks(self) -> list[Block]:
        """All blocks of all sections, in their order, with those of folds."""
        found = [block for section in self.sections for block in section.blocks]
        return [
            inner
            for block in found
            for inner in ((block, *block.blocks) if isinstance(block, Fold) else (block,))
        ]

    @property
    def pictures(self) -> list[Picture]:
        """All figures."""
        return [block for block in self.blocks if isinstance(block, Picture)]

    @property
    def grids(self) -> list[Grid]:
        """All tables that have a name."""
        return [block for block in self.blocks if isinstance(block, Grid) and block.name]


def make_page(
    study: Study,
    tables: Tables,
    findings: Mapping[str, Finding],
    translate: Translator,
    places: Sequence[Item] = (),
) -> Page:
    """The report of `findings` and `tables`; `places` are the addresses of the tables."""
    trials, bases = tables["trials"], base_models_of(tables)
    several = len(bases) > 1
    missing = missing_sentences(study, trials, tables["norms"])
    # Those that the first screen has no room for.
    limits = cautions(findings, missing)[MOST_CAUTIONS:]
    extra: dict[str, tuple[Block, ...]] = {
        "effects": tuple(
            _effect_folds(translate, findings["effects"].frames["effects"], several=several)
        ),
        "seeds": tuple(published_blocks(translate, study, tables.norms())),
        "trust": (
            *_sentence_list(translate, limits),
            *missing_blocks(translate, missing),
            *flag_blocks(translate, tables),
            *left_out_blocks(tables),
        ),
    }
    definitions = tuple(
        Item(translate(f"define-{name}-head"), translate(f"define-{name}-text")) for name in DEFINED
    )
    parts = {
        key: (*finding_blocks(translate, finding), *extra.get(key, ()))
        for key, finding in findings.items()
    }
    parts |= {
        "answers": (
            *answer_blocks(translate, tables),
            *_table_folds(translate, "answers", findings["functions"].frames),
            *likelihood_blocks(translate, tables),
        ),
        "trials": (
            *trial_blocks(translate, trials),
            Text(settings_text(translate, study, trials)),
            *merge_blocks(translate, study),
        ),
        "numbers": (Fold(translate("page-glossary"), (Items(definitions),)),),
        "tables": (Items(tuple(places)),),
    }
    return Page(
        study.name,
        (studied_line(translate, study, tables),),
        first_screen(translate, findings, missing, bases),
        tuple(Section(key, translate(f"section-{key}"), blocks) for key, blocks in parts.items()),
        translate,
    )


def finding_blocks(translate: Translator, finding: Finding) -> Iterator[Block]:
    """The answer of a finding, its figures, and folds: how to read them, sentences, tables."""
    for sentence in finding.answer:
        yield Text(translate.sentence(sentence), sentence.grade)
    is_first = finding.key in ON_FIRST_SCREEN
    pictures = () if is_first else tuple(pictures_of(translate, finding))
    grids = tuple(grids_of(translate, finding.key, finding.frames))
    yield from (grid for grid in grids if grid.is_open)
    yield from pictures
    if pictures or grids:
        yield Fold(translate("page-reading"), (Text(translate(f"read-{finding.key}")),))
    if finding.details and not is_first:
        yield Fold(translate("page-details"), tuple(_sentence_list(translate, finding.details)))
    yield from (Fold(grid.title, (grid,)) for grid in grids if not grid.is_open)


def pictures_of(translate: Translator, finding: Finding) -> Iterator[Picture]:
    """The figures of a finding, for each base model that its frames have."""
    models = dict.fromkeys(
        str(row["model"])
        for rows in finding.frames.values()
        for row in rows
        if row.get("model") is not None
    )
    types = {name: found for name, found in FIGURES.items() if found.finding == finding.key}
    for (name, figure_type), model in itertools.product(types.items(), models):
        figure = figure_type.draw(translate, finding.frames, model)
        if figure:
            drawing = Drawing.of(figure.chart)
            yield Picture(f"{name}-{model}", drawing, figure.caption, _alt(translate, finding))


def _alt(translate: Translator, finding: Finding) -> str:
    """The answer of a finding, which has the main numbers of its figure."""
    return translate("list-sentences").join(map(translate.sentence, finding.answer))


def _table_folds(translate: Translator, section: str, frames: Mapping[str, Rows]) -> Iterator[Fold]:
    for grid in grids_of(translate, section, frames):
        yield Fold(grid.title, (grid,))


def _effect_folds(translate: Translator, effects: Rows, *, several: bool) -> Iterator[Fold]:
    """The sentences that the cells of the first screen lead to, each with its own id.

    They name the base model where there are several.
    """
    items = tuple(
        Item(
            f"{row['model']}: {translate.factor(row['factor'])}"
            if several
            else translate.factor(row["factor"]),
            translate.sentence(space_sentence(row)),
            place=place_of(row["model"], row["factor"], row["space"]),
        )
        for row in sorted(effects, key=lambda row: is_of_seed(row["factor"]))
        if row["space"] in ANSWERED
    )
    if items:
        yield Fold(translate("page-details"), (Items(items),))


def _sentence_list(translate: Translator, sentences: Iterable[Sentence]) -> Iterator[Items]:
    """Sentences as one list; nothing without any."""
    items = tuple(
        Item(
            translate.subject(sentence) if sentence.head else "",
            translate.sentence(sentence),
            sentence.grade,
        )
        for sentence in sentences
    )
    if items:
        yield Items(items)
