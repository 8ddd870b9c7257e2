"""The report as one value: its texts, tables and figures, before any markup.

Model: a Page is a title, the answers in short, a paragraph on what was run, and sections of
blocks; templates turn it into HTML, Markdown and LaTeX, which therefore say the same.
Invariant: sections come in one order, whatever the tables hold; a section is never left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from raylab.number_format import setting
from raylab.report.findings.finding import Finding, Sentence
from raylab.report.page.blocks import Block, Grid, Item, Items, Picture
from raylab.report.page.merge_blocks import merge_blocks
from raylab.report.page.published_norms import reference_blocks
from raylab.report.page.quality_flags import left_out_blocks, likelihood_blocks, mark_blocks
from raylab.report.page.sections import (
    TROUBLED,
    answer_blocks,
    finding_blocks,
    missing_blocks,
    said,
    trial_blocks,
    trial_count,
)
from raylab.report.study_tables import Rows, Tables, is_merge
from raylab.report.words import Translator
from raylab.spec.study import Study

DEFINED = (
    "norms", "trial", "pair", "factor", "floor", "norms_differ", "distance", "interval", "share",
    "cosine", "silhouette", "relative", "density", "threshold", "half", "rank",
    "chain", "answers", "marked", "merge", "missing",
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
    """The report on `tables` and what was found in them; `places` says where the tables lie."""
    trials = tables["trials"]
    extra: dict[str, tuple[Block, ...]] = {
        "seeds": (
            *missing_blocks(translate, study, trials, tables["norms"]),
            *reference_blocks(translate, study, tables.norms()),
            *left_out_blocks(tables),
        ),
        "trust": tuple(mark_blocks(translate, tables)),
    }
    parts = {
        key: (*finding_blocks(translate, finding), *extra.get(key, ()))
        for key, finding in findings.items()
    }
    parts |= {
        "answers": (*answer_blocks(translate, tables), *likelihood_blocks(translate, tables)),
        "trials": (*trial_blocks(translate, trials), *merge_blocks(translate, study)),
        "numbers": (Items(tuple(_definitions(translate))),),
        "tables": (Items(tuple(places)),),
    }
    return Page(
        study.name,
        _lead(translate, study, trials),
        tuple(_totals(translate, trials)),
        tuple(said(translate, _in_short(findings))),
        tuple(Section(key, translate(f"section-{key}"), blocks) for key, blocks in parts.items()),
        translate,
    )


def _in_short(findings: Mapping[str, Finding]) -> Iterator[Sentence]:
    """What stands on the first screen, and what that rests on, each once."""
    answering = [finding for finding in findings.values() if finding.headline]
    for finding in answering:
        yield from finding.headline
    caveats: list[Sentence] = []
    for caveat in (caveat for finding in answering for caveat in finding.caveats):
        if caveat not in caveats:
            caveats.append(caveat)
    yield from caveats


def _definitions(translate: Translator) -> Iterator[Item]:
    for name in DEFINED:
        yield Item(translate(f"define-{name}-head"), translate(f"define-{name}-text"))


def _totals(translate: Translator, trials: Rows) -> Iterator[Item]:
    merges = sum(map(is_merge, trials))
    for count, kind in ((len(trials) - merges, "trial"), (merges, "merge")):
        if count or kind == "trial":
            yield Item(str(count), translate(f"unit-{kind}-alone", count=count))
    yield from _statuses(translate, trials)


def _statuses(translate: Translator, trials: Rows) -> Iterator[Item]:
    totals = Counter(str(row["status"]) for row in trials)
    known = ("done", "failed", "blocked", "running", "pending")
    for status in (*known, *(name for name in totals if name not in known)):
        if totals[status]:
            word = translate(f"status-{status}") if status in known else status
            yield Item(str(totals[status]), word, "bad" if status in TROUBLED else "")


def _lead(translate: Translator, study: Study, trials: Rows) -> str:
    bases = [
        f"{name} ({place.hub or PurePath(place.path or '').name})"
        for name, place in study.base_models.items()
    ]
    labels = dict.fromkeys(str(row["label"] or row["recipe"]) for row in trials)
    rates = dict.fromkeys(row["learning_rate"] for row in trials if not is_merge(row))
    states = [f"{item.head} {item.text}" for item in _statuses(translate, trials)]
    written = [setting(found) for found in rates]
    return translate(
        "lead",
        amount=trial_count(translate, trials),
        states=translate("lead-states", states=translate("list-comma").join(states))
        if states
        else "",
        recipes=translate.listing(labels) or translate("lead-no_recipe"),
        bases=translate.listing(bases),
        seeds=translate("lead-seeds", count=len(study.seeds), seeds=study.seeds),
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
