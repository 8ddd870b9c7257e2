"""Figures of sweeps of merges: what a merge does on the data of each parent, by the swept setting.

Model: a curve is a merge of the study over the values of one setting; it has a line for each
parent's data, in one colour. Horizontal lines of the same colour are the levels of the parents
there: dashed that of the parent that learned the data, dotted the mean of the others.
Invariant: a figure shows the frame merge_curves, and nothing of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from raylab.report.figures.figure import (
    CHOSEN,
    Figure,
    Frames,
    base_in_caption,
    choice_menu,
    data_of,
    option_asked,
    rows_of_model,
    shown_note,
    tooltips,
)
from raylab.report.figures.vega_lite import Chart, field, layered, part
from raylab.report.findings.merge_rows import RATES, SIDES
from raylab.report.study_tables import Row
from raylab.report.words import Translator

MAX_SWEEPS = 20
_MERGE, _OWN, _OTHERS = "merge", "own", "others"
_DASHES = {_MERGE: [1, 0], _OWN: [6, 4], _OTHERS: [1.5, 4]}
_RATE = "datum.rate == rate"


def merge_losses_figure(
    translate: Translator, frames: Frames, model: str, sweep: str | None = None
) -> Figure | None:
    """The held-out loss on the data of each parent along the sweep that the reader chooses."""
    rows = [row for row in rows_of_model(frames, "merge_curves", model) if row["loss"] is not None]
    sweeps = _sweeps(rows)
    if not sweeps:
        return None
    first = option_asked(sweep, sweeps)
    levels = {_MERGE: "loss", _OWN: "loss_parent", _OTHERS: "loss_others"}
    points = list(_points(translate, rows, sweeps, levels))
    chart = _curves(translate, points, translate("axis-loss"), ".4f")
    chart = chart.params(choice_menu(translate, list(sweeps.values())[:MAX_SWEEPS], first))
    chart = chart.filter(CHOSEN)
    return _figure(translate, "merges", chart, frames, model, sweeps, first)


def merge_rates_figure(
    translate: Translator,
    frames: Frames,
    model: str,
    sweep: str | None = None,
    rate: str | None = None,
) -> Figure | None:
    """A rate of the answers to the prompts of each parent's data along a sweep; the reader chooses
    both."""
    all_rows = rows_of_model(frames, "merge_curves", model)
    rows = [row for row in all_rows if any(row[name] is not None for name in RATES)]
    sweeps = _sweeps(rows)
    known = [name for name in RATES if any(row[name] is not None for row in rows)]
    if not sweeps:
        return None
    rates = {name: translate.column(name) for name in known}
    first, first_rate = option_asked(sweep, sweeps), option_asked(rate, rates)
    points = [
        {**point, "rate": title}
        for name, title in rates.items()
        for point in _points(translate, rows, sweeps, dict(zip(_DASHES, _sides(name), strict=True)))
    ]
    chart = _curves(translate, points, translate("axis-merge_rate"), ".1%")
    chart = chart.params(
        choice_menu(translate, list(sweeps.values())[:MAX_SWEEPS], first),
        choice_menu(translate, list(rates.values()), first_rate, "rate", "choose-rate"),
    )
    chart = chart.filter(CHOSEN).filter(_RATE)
    return _figure(translate, "merge_rates", chart, frames, model, sweeps, first)


def _sides(rate: str) -> list[str]:
    return [f"{rate}{side}" for side in SIDES]


def _sweeps(rows: Sequence[Row]) -> dict[str, str]:
    """`merge.setting` of every sweep, with the text of the menu."""
    return {f"{row['sweep']}.{row['setting']}": f"{row['sweep']}: {row['setting']}" for row in rows}


def _points(
    translate: Translator, rows: Sequence[Row], sweeps: dict[str, str], levels: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """The points of all curves, and those of the levels of the parents, over the same values."""
    shown = set(list(sweeps)[:MAX_SWEEPS])
    for row in rows:
        if f"{row['sweep']}.{row['setting']}" not in shown:
            continue
        for kind, column in levels.items():
            if row[column] is not None:
                yield {
                    "of": f"{row['sweep']}: {row['setting']}",
                    "at": row["value"],
                    "data": translate("merge-on_data", data=row["data"], parent=row["parent"]),
                    "curve": row["curve"],
                    "kind": translate(f"merge-line_{kind}"),
                    "is_merge": kind == _MERGE,
                    "y": round(row[column], 6),
                }


def _curves(
    translate: Translator, points: Sequence[dict[str, Any]], title: str, form: str
) -> Chart:
    data = data_of(points)
    sets = list(dict.fromkeys(point["data"] for point in points))
    kinds = {kind: translate(f"merge-line_{kind}") for kind in _DASHES}
    dash = field(
        "kind:N", title=None, sort=list(kinds.values()),
        scale=part(domain=list(kinds.values()), range=list(_DASHES.values())),
        legend=part(symbolType="stroke", columns=1),
    )  # fmt: skip
    axis = part(format="%") if form.endswith("%") else part()
    lines = (
        Chart(data)
        .mark("line")
        .encode(
            x=field("at:Q", title=translate("axis-swept")),
            y=field("y:Q", title=title, scale=part(zero=False), axis=axis),
            color=field("data:N", title=translate("legend-parent_data"), sort=sets,
                        legend=part(columns=1, labelLimit=400)),
            strokeDash=dash,
            detail="curve:N",
        )
    )  # fmt: skip
    marks = (
        Chart(data)
        .mark("point", filled=True, size=60)
        .encode(
            x="at:Q",
            y="y:Q",
            color=field("data:N", sort=sets),
            tooltip=tooltips(
                curve=(translate("legend-merge"), None),
                at=(translate("axis-swept"), ".3~g"),
                data=(translate("legend-parent_data"), None),
                kind=(translate("legend-line"), None),
                y=(title, form),
            ),
        )
        .filter("datum.is_merge")
    )
    return layered(lines, marks).properties(width="container", height=300)


def _figure(
    translate: Translator,
    name: str,
    chart: Chart,
    frames: Frames,
    model: str,
    sweeps: dict[str, str],
    first: str,
) -> Figure:
    caption = translate(f"caption-{name}", model=base_in_caption(frames, model), label=first)
    return Figure(chart, caption + shown_note(translate, min(len(sweeps), MAX_SWEEPS), len(sweeps)))
