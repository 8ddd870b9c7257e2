"""The report as one value: its texts, tables and figures, before any markup.

Model: a Page is a title, a paragraph on what was run, and sections of blocks; templates turn it
into HTML and Markdown, which therefore say the same.
Invariant: sections come in one order, whatever the tables hold; a section is never left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from raylab.report.blocks import Block, Item, Items, Picture
from raylab.report.marks import left_out_blocks, likelihood_blocks, mark_blocks
from raylab.report.merges import merge_blocks
from raylab.report.numbers import MISSING, listing, setting
from raylab.report.reference import reference_blocks
from raylab.report.sections import TROUBLED, answer_blocks, seed_blocks, trial_blocks, where_blocks
from raylab.report.summary import Rows, amount, is_merge, seed_tables
from raylab.spec.study import Study


@dataclass(frozen=True)
class Section:
    """A part of the page with a title."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    lead: str
    totals: tuple[Item, ...]
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> list[Picture]:
        """All figures, in their order."""
        blocks = (block for section in self.sections for block in section.blocks)
        return [block for block in blocks if isinstance(block, Picture)]


def make_page(study: Study, tables: Mapping[str, Rows], places: Sequence[Item]) -> Page:
    """The report on `tables` (rows by name); `places` says where the tables lie."""
    trials, norms = tables["trials"], tables["norms"]
    found = seed_tables(trials, norms)
    printed = reference_blocks(study, norms)
    seeds = (*seed_blocks(study, trials, norms, found), *printed, *left_out_blocks(tables))
    answers = (*answer_blocks(tables), *likelihood_blocks(tables))
    sections = (
        Section("seeds", "Over seeds", (*seeds, *mark_blocks(tables))),
        Section("where", "Where the data pairs differ", tuple(where_blocks(tables, found))),
        Section("answers", "What the models answer", answers),
        Section("trials", "Trials", (*trial_blocks(trials), *merge_blocks(study))),
        Section("numbers", "What the numbers mean", (Items(DEFINITIONS),)),
        Section("tables", "Where the tables lie", (Items(tuple(places)),)),
    )
    return Page(study.name, _lead(study, trials), tuple(_totals(trials)), sections)


def _totals(trials: Rows) -> Iterator[Item]:
    merges = sum(map(is_merge, trials))
    for count, kind in ((len(trials) - merges, "trial"), (merges, "merge")):
        if count or kind == "trial":
            yield Item(str(count), kind if count == 1 else f"{kind}s")
    yield from _statuses(trials)


def _statuses(trials: Rows) -> Iterator[Item]:
    totals = Counter(str(row["status"]) for row in trials)
    for status in ("done", "failed", "blocked", "running", "pending"):
        amount = totals.pop(status, 0)
        if amount:
            yield Item(str(amount), status, "bad" if status in TROUBLED else "")
    for status, amount in totals.items():
        yield Item(str(amount), status)


def _lead(study: Study, trials: Rows) -> str:
    bases = [
        f"{name} ({place.hub or PurePath(place.path or '').name})"
        for name, place in study.base_models.items()
    ]
    labels = dict.fromkeys(str(row["label"] or row["recipe"]) for row in trials)
    rates = dict.fromkeys(row["learning_rate"] for row in trials if not is_merge(row))
    states = ", ".join(f"{item.head} {item.text}" for item in _statuses(trials))
    return (
        f"{amount(trials)}{f' ({states})' if states else ''}: "
        f"{listing(labels) or 'no recipe'} on {listing(bases)}, "
        f"with {'seed' if len(study.seeds) == 1 else 'seeds'} {listing(study.seeds)}"
        f"{f', at {_rates(list(rates))}' if rates else ''}. "
        f"{_adapter(study)} Densities: {listing(map(setting, study.densities))}."
    )


def _rates(rates: Sequence[float | None]) -> str:
    return f"learning rate{'s' if len(rates) > 1 else ''} {listing(map(setting, rates))}"


def _adapter(study: Study) -> str:
    held, lora = study.quantization, study.lora
    base = f"16 bits ({held.compute_dtype})"
    if held.bits == 4:
        base = f"4 bits ({held.type}{', double' if held.double else ''}, {held.compute_dtype})"
    modules = lora.target_modules
    where = "all linear layers" if isinstance(modules, str) else listing(modules)
    return (
        f"The base models are held in {base}; LoRA with r = {lora.r}, "
        f"alpha = {setting(lora.alpha)}, dropout {setting(lora.dropout)} on {where}"
        f"{', rank-stabilised' if lora.rslora else ''}, unless a recipe says otherwise."
    )


DEFINITIONS = (
    Item(
        "L1, L2",
        "the sum of magnitudes, and the root of the sum of squares, of float32(a) - "
        "float32(b) over all tensors that either side trained, accumulated in float64.",
    ),
    Item(
        "data pair",
        "two trials that share base model, method, seed, learning rate and parent, "
        "and differ in data.",
    ),
    Item(
        "like learning rates",
        "data pairs at a learning rate that at least two methods share "
        "(all of them where there is one method).",
    ),
    Item(
        "unlike learning rates",
        "data pairs at any other learning rate, beside those of the "
        "other methods at the shared one.",
    ),
    Item(
        "L2 factor",
        "the largest L2 over the smallest between seeds: at most 1.25 is stable, "
        "above 1.25 up to 2 varies, above 2 is the seed's doing rather than the method's.",
    ),
    Item("relative L2", "the L2 over that of the base model's weights in the same tensors."),
    Item(
        "density, kept",
        "the share of all values kept, the largest magnitudes first, and "
        "their number: max(1, floor(density x values)).",
    ),
    Item(
        "threshold, at or above",
        "the smallest magnitude kept, and how many values reach it: "
        "more than were kept where magnitudes tie.",
    ),
    Item("of L1, of L2", "the L1 or L2 of the values kept, over that of all values."),
    Item(
        "style, Japanese, stopped, repetition",
        "the share of sample answers that end in the "
        "study's style, that are Japanese by script and are no noise, that ended before the "
        "output limit, and in which over 30 % of the 4-grams repeat or of the text is a loop.",
    ),
    Item(
        "marked",
        "a model whose rates are beyond the study's limits, where the data's own answers are "
        "within them.",
    ),
    Item("distinct", "different answers over all answers."),
    Item("L2 of a trial", "the L2 of its task vector: what its training changed."),
    Item(
        "merge",
        "trials or finished models combined into one checkpoint, in the base model's dtype; its "
        "L2 is that of the checkpoint minus the base model.",
    ),
    Item(MISSING, "not measured. Numbers have four significant digits here, all in the tables."),
)
