"""The report as one value: its texts, tables and figures, before any markup.

Model: a Page is a title, the short answers, a paragraph on the study, and sections of blocks.
HTML, Markdown and LaTeX are made of one Page, so that their contents are the same.
Invariant: sections come in one order, whatever the tables hold; a section is never left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from raylab.number_format import setting
from raylab.report.figures import FIGURES
from raylab.report.figures.drawing import Drawing
from raylab.report.findings.finding import Finding, Sentence
from raylab.report.page.answers import answer_blocks, likelihood_blocks
from raylab.report.page.blocks import Block, Grid, Item, Items, Picture
from raylab.report.page.comparisons import left_out_blocks, missing_blocks, published_blocks
from raylab.report.page.grids import grids_of
from raylab.report.page.trials import (
    flag_blocks,
    merge_blocks,
    status_counts,
    trial_blocks,
    trial_count,
)
from raylab.report.study_tables import Rows, Tables, is_merge
from raylab.report.verdicts import answers, cautions, verdict_rows
from raylab.report.words import Translator
from raylab.spec.study import Study
from raylab.spec.swept_names import rate_text

DEFINED = (
    "norms", "trial", "pair", "factor", "effect", "cka", "tokens", "floor", "norms_differ",
    "distance", "interval", "share", "cosine", "silhouette", "relative", "density", "threshold",
    "half", "rank", "intruder", "principal", "chain", "barrier", "answers", "marked", "merge",
    "missing",
)  # fmt: skip
"""The numbers that the page defines, by the name of their messages."""


@dataclass(frozen=True)
class Section:
    """A part of the page with a title."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """The whole report, in one language."""

    title: str
    lead: str
    totals: tuple[Item, ...]
    answers: tuple[Items, ...]
    sections: tuple[Section, ...]
    translate: Translator

    @property
    def blocks(self) -> list[Block]:
        """All blocks of all sections, in their order."""
        return [block for section in self.sections for block in section.blocks]

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
    trials = tables["trials"]
    extra: dict[str, tuple[Block, ...]] = {
        "seeds": (
            *missing_blocks(translate, study, trials, tables["norms"]),
            *published_blocks(translate, study, tables.norms()),
            *left_out_blocks(tables),
        ),
        "trust": tuple(flag_blocks(translate, tables)),
    }
    definitions = tuple(
        Item(translate(f"define-{name}-head"), translate(f"define-{name}-text")) for name in DEFINED
    )
    parts = {
        key: (*finding_blocks(translate, finding), *extra.get(key, ()))
        for key, finding in findings.items()
    }
    parts |= {
        "answers": (*answer_blocks(translate, tables), *likelihood_blocks(translate, tables)),
        "trials": (*trial_blocks(translate, trials), *merge_blocks(translate, study)),
        "numbers": (Items(definitions),),
        "tables": (Items(tuple(places)),),
    }
    return Page(
        study.name,
        _lead(translate, study, trials),
        tuple(_totals(translate, trials)),
        tuple(_sentence_list(translate, _in_short(findings))),
        tuple(Section(key, translate(f"section-{key}"), blocks) for key, blocks in parts.items()),
        translate,
    )


def finding_blocks(translate: Translator, finding: Finding) -> Iterator[Block]:
    """The sentences of a finding, its caveats, its figures and its tables."""
    yield from _sentence_list(translate, finding.answer)
    yield from _sentence_list(translate, finding.details)
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
            yield Picture(f"{name}-{model}", Drawing.of(figure.chart), figure.caption)
    yield from grids_of(translate, finding)


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


def _in_short(findings: Mapping[str, Finding]) -> Iterator[Sentence]:
    """The answers of the study, then what to be careful about."""
    yield from answers(verdict_rows(findings["effects"].frames["effects"]))
    yield from cautions(findings)


def _totals(translate: Translator, trials: Rows) -> Iterator[Item]:
    merges = sum(map(is_merge, trials))
    for count, kind in ((len(trials) - merges, "trial"), (merges, "merge")):
        if count or kind == "trial":
            yield Item(str(count), translate(f"unit-{kind}-alone", count=count))
    yield from status_counts(translate, trials)


def _lead(translate: Translator, study: Study, trials: Rows) -> str:
    bases = [
        f"{name} ({place.hub or PurePath(place.path or '').name})"
        for name, place in study.base_models.items()
    ]
    labels = dict.fromkeys(str(row["label"] or row["recipe"]) for row in trials)
    asked = (row for row in trials if not is_merge(row))
    rates = {row["learning_rate"]: rate_text(row["name"], row["learning_rate"]) for row in asked}
    written = [*rates.values()]
    own = (recipe.seeds for recipe in study.recipes.values() if recipe.seeds)
    seeds = list(dict.fromkeys(itertools.chain(study.seeds, *own)))
    states = [
        translate("lead-state", count=item.head, status=item.text)
        for item in status_counts(translate, trials)
    ]
    return translate(
        "lead",
        amount=trial_count(translate, trials),
        states=translate("lead-states", states=translate("list-comma").join(states))
        if states
        else "",
        recipes=translate.listing(labels) or translate("lead-no_recipe"),
        bases=translate.listing(bases),
        seeds=translate("lead-seeds", count=len(seeds), seeds=seeds),
        rates=translate("lead-rates", count=len(written), rates=written) if written else "",
        adapter=_adapter(translate, study),
        densities=translate.listing(map(setting, study.densities)),
    )


def _adapter(translate: Translator, study: Study) -> str:
    held, lora = study.quantization, study.lora
    bits = "16" if held.bits != 4 else "4_double" if held.double else "4"
    modules = lora.target_modules
    return translate(
        "lead-adapter",
        base=translate(f"lead-bits_{bits}", dtype=held.compute_dtype, type=held.type),
        r=lora.r,
        alpha=lora.alpha,
        dropout=lora.dropout,
        where=translate("lead-all_linear")
        if isinstance(modules, str)
        else translate.listing(modules),
        stabilised=translate("lead-stabilised") if lora.rslora else "",
    )
