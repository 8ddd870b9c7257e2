"""The first screen of a page: the answer, the verdicts, figure 1, and what to be careful about.

Model: the verdicts of `raylab.report.verdicts` in words, each with a bar on one logarithmic axis:
what another seed does is at 1, so that bars to its right are more than the seed's. Figure 1 has a
dot for each two recipes that differ in one factor alone and for each space, on an axis of the same
kind. Places on an axis are percentages of its width, so that a page draws both at any size,
without a script.
Invariant: every verdict row is a line. An effect without bound stands at the end of its axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from raylab.report.findings.effect_words import ANSWERED
from raylab.report.findings.finding import Finding, Sentence
from raylab.report.page.blocks import Item
from raylab.report.seed_noise import WITHIN
from raylab.report.study_tables import Rows, grouped
from raylab.report.verdicts import (
    MOST_CAUTIONS,
    SIGNS,
    Verdict,
    VerdictRow,
    answers,
    cautions,
    verdict_rows,
)
from raylab.report.words import Translator

OF_FACTORS = ("clear", "weak", "noise", "missing")
"""The words of factors, each of which has a look of its own; those of the seed share one."""
MOST_DOTS = 900
"""Of a row of a chart; of more, those at one place are drawn once."""
_BAND = (1 / WITHIN, WITHIN)
_TICKS = (1, 2, 5)
_MOST_DECADES = 6
"""With a tick at each of them; of more, every second or third has one."""


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis from `low` to `high`."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Axis:
        """The axis that holds the finite ones of `values`, and the band around 1."""
        known = [value for value in values if 0 < value < math.inf]
        return cls(min([*known, _BAND[0]]) / 1.15, max([*known, 2.0]) * 1.15)

    def place(self, value: float) -> float:
        """Where a value stands, in percent; beyond an end of the axis, that end."""
        if value <= self.low:
            return 0.0
        if value >= self.high:
            return 100.0
        return round(100 * math.log(value / self.low) / math.log(self.high / self.low), 2)

    @property
    def band(self) -> tuple[float, float]:
        """The places between which an effect is within seed noise."""
        return self.place(_BAND[0]), self.place(_BAND[1])

    @property
    def ticks(self) -> list[float]:
        """Round values on the axis, in steps that keep them apart."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = _TICKS if self.high / self.low < 50 else (1,)
        # 1 is always one of them.
        every = math.ceil(len(decades) / _MOST_DECADES)
        found = [step * 10.0**decade for decade in decades if not decade % every for step in steps]
        return [tick for tick in found if self.low <= tick <= self.high]


@dataclass(frozen=True)
class Cell:
    """A verdict on the page: `number` and `word` with their `sign`; a bar from `start` over
    `width`, in percent; `place` is the id of its sentence."""

    kind: str
    sign: str
    number: str
    word: str
    start: float
    width: float
    place: str


@dataclass(frozen=True)
class Line:
    """A factor, or a part of the randomness, with a cell for each space.

    `group` is a title that lines share: their base model where there are several; else empty.
    """

    group: str
    name: str
    is_seed: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Dot:
    """Two recipes in one space: its place on the axis, and what it is."""

    space: str
    place: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Figure 1: (group, row, its dots) for each row; (place, text) for each tick; the band.

    `group` is a title that rows share, or empty. `axis` is the title of the axis, `spaces` the
    names of the dots' spaces.
    """

    title: str
    summary: str
    rows: tuple[tuple[str, str, tuple[Dot, ...]], ...]
    ticks: tuple[tuple[float, str], ...]
    band: tuple[float, float]
    spaces: tuple[tuple[str, str], ...]
    axis: str


@dataclass(frozen=True)
class FirstScreen:
    """What a reader sees first, in one language. `baseline` is the place of 1 on the bars' axis.

    A page without verdicts has no lines.
    """

    answers: tuple[str, ...]
    spaces: tuple[tuple[str, str], ...] = ()
    """The title of each column, and what is measured in it."""
    lines: tuple[Line, ...] = ()
    baseline: float = 0.0
    chart: Chart | None = None
    cautions: tuple[Item, ...] = ()
    more_cautions: int = 0

    @property
    def by_group(self) -> list[tuple[str, list[Line]]]:
        """(group, its lines)."""
        return list(grouped(self.lines, lambda line: line.group).items())


def first_screen(
    translate: Translator,
    findings: Mapping[str, Finding],
    more: Sequence[Sentence] = (),
    bases: Sequence[str] = (),
) -> FirstScreen:
    """The first screen of a study of these base models; `more` are cautions that no finding has."""
    frames = findings["effects"].frames
    rows = verdict_rows(frames["effects"])
    said = [translate.sentence(one) for one in answers(rows, bases)]
    limits = cautions(findings, more)
    times = [verdict.times for row in rows for verdict in row.verdicts if verdict.times]
    axis = Axis.of(times)
    several = len({*bases, *(row.base_model for row in rows)}) > 1
    return FirstScreen(
        tuple(said),
        spaces_of(translate),
        tuple(_line(translate, axis, row, row.base_model if several else "") for row in rows),
        axis.place(1),
        _chart(translate, frames["effect_pairs"], several=several),
        tuple(Item(one.key, translate.sentence(one), one.grade) for one in limits[:MOST_CAUTIONS]),
        max(len(limits) - MOST_CAUTIONS, 0),
    )


def spaces_of(translate: Translator) -> tuple[tuple[str, str], ...]:
    """The name of each space, and what is measured in it."""
    return tuple((translate.word(space), translate(f"measured-{space}")) for space in ANSWERED)


def _line(translate: Translator, axis: Axis, row: VerdictRow, group: str) -> Line:
    cells = tuple(
        cell_of(translate, axis, verdict, place_of(row.base_model, row.factor, verdict.space))
        for verdict in row.verdicts
    )
    return Line(group, translate.factor(row.factor), row.is_seed, cells)


def cell_of(translate: Translator, axis: Axis, verdict: Verdict, place: str) -> Cell:
    """A verdict as a cell that leads to the sentence with the id `place`, or nowhere without."""
    word = verdict.word
    one = axis.place(1)
    end = one if verdict.times is None else axis.place(verdict.times)
    return Cell(
        kind=word if word in OF_FACTORS else "seed",
        sign=SIGNS[word],
        number="" if verdict.times is None else translate("effects-number", times=verdict.times),
        word=translate(f"verdict-{word}"),
        start=min(one, end),
        width=round(abs(end - one), 2),
        place=place,
    )


def place_of(base_model: str, factor: str, space: str) -> str:
    """The id of the sentence on a factor in one space."""
    return f"effect-{base_model}-{factor}-{space}".replace(" ", "_")


def _chart(translate: Translator, pairs: Rows, *, several: bool) -> Chart | None:
    """Figure 1; None where no two recipes that differ in one factor were compared."""
    known = [row for row in pairs if row["times"] is not None and row["space"] in ANSWERED]
    if not known:
        return None
    axis = Axis.of([row["times"] for row in known])
    rows = grouped(
        known, lambda row: (row["model"] if several else "", translate.factor(row["factor"]))
    )
    above = sum(row["times"] > WITHIN for row in known)
    values = {"above": above, "total": len(known)}
    names = list(dict.fromkeys(name for _, name in rows))
    return Chart(
        translate("chart-effects-title", **values),
        translate("chart-effects-summary", **values, factors=names),
        tuple((*row, distinct(_dots(translate, axis, found))) for row, found in rows.items()),
        ticks_of(translate, axis),
        axis.band,
        tuple((space, translate.word(space)) for space in ANSWERED
              if any(row["space"] == space for row in known)),
        translate("chart-effects-axis"),
    )  # fmt: skip


def ticks_of(translate: Translator, axis: Axis) -> tuple[tuple[float, str], ...]:
    """(place, text) of every tick."""
    return tuple((axis.place(tick), translate("effects-number", times=tick)) for tick in axis.ticks)


def distinct(dots: Iterable[Dot]) -> tuple[Dot, ...]:
    """The dots of a row; of more than MOST_DOTS, the first at each place of each space."""
    found = tuple(dots)
    if len(found) <= MOST_DOTS:
        return found
    first: dict[tuple[str, float], Dot] = {}
    for dot in found:
        first.setdefault((dot.space, dot.place), dot)
    return tuple(first.values())


def _dots(translate: Translator, axis: Axis, rows: Rows) -> Iterator[Dot]:
    for row in rows:
        text = translate(
            "chart-effects-dot", pair=row["label"], space=row["space"], times=row["times"]
        )
        yield Dot(row["space"], axis.place(row["times"]), text)
