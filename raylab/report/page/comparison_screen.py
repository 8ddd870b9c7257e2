"""The first screen of two studies side by side: what changed, by how much, and both verdicts.

Model: a change is read against the seed-to-seed spread, as in `raylab.report.compare`: the answer
counts what changed by more than that, the figure has a dot for each number that changed. Of each
factor the verdicts of both studies stand one below the other.
Invariant: every number that changed and whose spread is known is a dot; a change where all seeds
agree stands at the end of the axis. Numbers that are the same are counted, and are no dots.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raylab.number_format import MISSING
from raylab.report.compare import METRICS, Comparison, NumberChange
from raylab.report.findings import effects
from raylab.report.findings.effect_words import ANSWERED
from raylab.report.findings.finding import Sentence
from raylab.report.page.blocks import Item
from raylab.report.page.first_screen import (
    Axis,
    Chart,
    Dot,
    FirstScreen,
    Line,
    cell_of,
    distinct,
    spaces_of,
    ticks_of,
)
from raylab.report.study_tables import Tables, grouped
from raylab.report.verdicts import Verdict, VerdictRow, verdict_rows
from raylab.report.words import Translator
from raylab.spec.study import Study

CHANGED = ("beyond", "near", "within", "unknown")
ONLY = ("only_one", "only_other")
MORE = ("beyond", "near")
LEAST_TIMES = 0.01
"""The least multiple of the spread with a place of its own; rounding is at the axis's start."""
_MARKS = {"trial": "far", "comparison": "where"}
"""By what a number is of: the mark of its dot."""


@dataclass(frozen=True)
class Side:
    """One of the two studies, under the name that the page gives it."""

    name: str
    study: Study
    tables: Tables


Sides = tuple[Side, Side]
Factor = tuple[str, str]
"""Base model and factor."""


class Verdicts:
    """The verdicts on the factors of both studies, by base model and factor."""

    def __init__(self, translate: Translator, sides: Sides) -> None:
        """Find the effects in both studies' tables."""
        self.sides, self._translate = sides, translate
        self._rows = [_factor_rows(side.tables) for side in sides]
        self.factors: list[Factor] = list(dict.fromkeys([*self._rows[0], *self._rows[1]]))

    def of(self, side: int, factor: Factor) -> tuple[Verdict, ...]:
        """The verdicts of a study on a factor, one for each space; missing where it has none."""
        row = self._rows[side].get(factor)
        if row is not None:
            return row.verdicts
        unknown = (Sentence(f"effects-{space}-unknown") for space in ANSWERED)
        return tuple(
            Verdict(space, None, "missing", sentence)
            for space, sentence in zip(ANSWERED, unknown, strict=True)
        )

    def name_of(self, factor: Factor) -> str:
        """The factor's name, behind its base model where there are several."""
        base, name = factor[0], self._translate.factor(factor[1])
        several = len({base for base, _ in self.factors}) > 1
        return self._translate("with-subject", subject=base, text=name) if several else name

    def place_of(self, side: int, factor: Factor, space: int) -> str:
        """The id of the sentence on a verdict; empty where nothing was measured. What both
        studies say in the same words is one sentence."""
        both = [self.of(one, factor)[space] for one in (0, 1)]
        if both[side].times is None:
            return ""
        said = [self._translate.sentence(verdict.sentence) for verdict in both]
        shown = 0 if said[0] == said[1] else side
        return f"verdict-{shown}-{factor[0]}-{factor[1]}-{ANSWERED[space]}".replace(" ", "_")

    def items(self) -> Iterator[Item]:
        """Every sentence, with its id."""
        said: set[str] = set()
        for factor in self.factors:
            for space, side in ((s, i) for s in range(len(ANSWERED)) for i in (0, 1)):
                place = self.place_of(side, factor, space)
                if not place or place in said:
                    continue
                said.add(place)
                is_shared = place == self.place_of(1 - side, factor, space)
                names = [one.name for one in self.sides] if is_shared else [self.sides[side].name]
                head = self._translate("list-comma").join([self.name_of(factor), *names])
                text = self._translate.sentence(self.of(side, factor)[space].sentence)
                yield Item(head, text, place=place)


def _factor_rows(tables: Tables) -> dict[Factor, VerdictRow]:
    rows = verdict_rows(effects.find(tables).frames["effects"])
    return {(row.base_model, row.factor): row for row in rows if not row.is_seed}


def comparison_screen(
    translate: Translator, sides: Sides, found: Comparison, verdicts: Verdicts
) -> FirstScreen:
    """What a reader sees first of two studies."""
    every = [
        verdict.times
        for factor in verdicts.factors
        for side in (0, 1)
        for verdict in verdicts.of(side, factor)
        if verdict.times
    ]
    axis = Axis.of(every)
    return FirstScreen(
        tuple(_answers(translate, sides, found, verdicts)),
        spaces_of(translate),
        tuple(_lines(translate, axis, sides, verdicts)),
        axis.place(1),
        _chart(translate, found.numbers),
        tuple(_cautions(translate, sides, found)),
    )


def _lines(translate: Translator, axis: Axis, sides: Sides, verdicts: Verdicts) -> Iterator[Line]:
    for factor in verdicts.factors:
        group = verdicts.name_of(factor)
        for number, side in enumerate(sides):
            cells = tuple(
                cell_of(translate, axis, verdict, verdicts.place_of(number, factor, space))
                for space, verdict in enumerate(verdicts.of(number, factor))
            )
            yield Line(group, side.name, False, cells)


def _answers(
    translate: Translator, sides: Sides, found: Comparison, verdicts: Verdicts
) -> Iterator[str]:
    yield _answer_on_numbers(translate, found.numbers)
    pairs = [
        (factor, one, other)
        for factor in verdicts.factors
        for one, other in zip(verdicts.of(0, factor), verdicts.of(1, factor), strict=True)
        if one.times is not None or other.times is not None
    ]
    known = [(one.times is not None, other.times is not None) for _, one, other in pairs]
    if not all(map(any, zip(*known, strict=True))) or not known:
        return
    differing = [
        translate(
            "compare-verdict_differs",
            factor=verdicts.name_of(factor),
            space=one.space,
            verdict_one=translate(f"verdict-{one.word}"),
            verdict_other=translate(f"verdict-{other.word}"),
            one=sides[0].name,
            other=sides[1].name,
        )
        for factor, one, other in pairs
        if one.word != other.word
    ]
    yield translate(
        "compare-verdicts-differ" if differing else "compare-verdicts-same",
        count=len(differing), total=len(pairs), verdicts=differing,
        one=sides[0].name, other=sides[1].name,
    )  # fmt: skip


def _answer_on_numbers(translate: Translator, numbers: Sequence[NumberChange]) -> str:
    """How many numbers moved by more than the seed, and which the most."""
    shared = [row for row in numbers if row.verdict not in ONLY]
    changed = [row for row in shared if row.verdict in CHANGED]
    values = {
        "total": len(shared),
        "changed": len(changed),
        "moved": sum(row.verdict == "beyond" for row in changed),
    }
    if not shared:
        return translate("compare-answer-nothing")
    if not changed:
        return translate("compare-answer-same", **values)
    judged = [row for row in changed if row.verdict != "unknown"]
    if not judged:
        return translate("compare-answer-unknown", **values)
    # Multiples that have no end say less than the largest that has one.
    most = max(judged, key=lambda row: -1.0 if row.times is None else row.times)
    times = translate("compare-agree") if most.times is None else times_text(translate, most)
    return translate(
        "compare-answer-moved" if values["moved"] else "compare-answer-none",
        number=number_name(translate, most), one=most.one, other=most.other, times=times, **values,
    )  # fmt: skip


def number_name(translate: Translator, row: NumberChange) -> str:
    """L2 of demo.sft.s42."""
    metric = translate.column(row.metric)
    return translate("compare-number", metric=metric, name=model_name(row))


def model_name(row: NumberChange) -> str:
    """The trial, or the two models, that a number is of."""
    return row.name.replace("~", " vs ")


def times_text(translate: Translator, row: NumberChange) -> str:
    """The change over the seed-to-seed spread: 4.1×; ∞× where all seeds agree."""
    if row.verdict not in CHANGED or row.verdict == "unknown":
        return MISSING
    times = math.inf if row.times is None else row.times
    return translate("effects-number", times=times)


def _chart(translate: Translator, numbers: Sequence[NumberChange]) -> Chart | None:
    """A dot for each number that changed; None where none did, or no spread is known."""
    known = [row for row in numbers if row.verdict in CHANGED and row.verdict != "unknown"]
    if not known:
        return None
    axis = Axis.of([max(row.times, LEAST_TIMES) for row in known if row.times])
    by_metric = grouped(sorted(known, key=lambda row: METRICS.index(row.metric)),
                        lambda row: row.metric)  # fmt: skip
    beyond = Counter(row.metric for row in known if row.verdict == "beyond")
    counts = [
        translate("compare-count", metric=translate.column(metric), count=count)
        for metric, count in beyond.most_common()
    ]
    title = translate(
        "compare-chart-title" if counts else "compare-chart-none", count=len(known), counts=counts
    )
    names = [translate.column(metric) for metric in by_metric]
    return Chart(
        title,
        translate("compare-chart-summary", metrics=names, count=len(known)),
        tuple(
            ("", name, distinct(_dots(translate, axis, rows)))
            for name, rows in zip(names, by_metric.values(), strict=True)
        ),
        ticks_of(translate, axis),
        axis.band,
        tuple(
            (mark, translate(f"compare-of-{what}"))
            for what, mark in _MARKS.items()
            if any(row.what == what for row in known)
        ),
        translate("compare-chart-axis"),
    )


def _dots(translate: Translator, axis: Axis, rows: Sequence[NumberChange]) -> Iterator[Dot]:
    for row in rows:
        place = axis.place(math.inf if row.times is None else row.times)
        text = translate(
            "compare-dot", number=number_name(translate, row), one=row.one, other=row.other,
            times=times_text(translate, row),
        )  # fmt: skip
        yield Dot(_MARKS[row.what], place, text)


def _cautions(translate: Translator, sides: Sides, found: Comparison) -> Iterator[Item]:
    counted = Counter(row.verdict for row in found.numbers)
    changed = sum(counted[verdict] for verdict in CHANGED)
    if changed and len(found.asked) > 1:
        text = translate("compare-asked-several", count=len(found.asked))
        yield Item("asked", text, "fair")
    if any(counted[verdict] for verdict in ONLY):
        text = translate(
            "compare-only",
            count=sum(counted[verdict] for verdict in ONLY),
            one=sides[0].name, in_one=counted["only_one"],
            other=sides[1].name, in_other=counted["only_other"],
        )  # fmt: skip
        yield Item("only", text, "fair")
    if counted["unknown"]:
        text = translate("compare-no_spread", count=counted["unknown"], changed=changed)
        yield Item("unknown", text, "unknown")
