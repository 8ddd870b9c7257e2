"""Figures of points and bars: differences, norms over seeds, chains, shares of variance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from raylab.number_format import setting
from raylab.report.figures.figure import (
    Figure,
    Frames,
    base_in_caption,
    data_of,
    rows_of_model,
    shown_note,
    tooltips,
)
from raylab.report.figures.vega_lite import Chart, field, layered, part
from raylab.report.study_tables import finite
from raylab.report.words import Translator

MAX_LINES = 40
_LINE_HEIGHT = 18
_PARTS = ("l2_parent", "l2_child", "l2")
_RESPONSES = ("log_l2", "log_relative_l2", "cosine")


def differences_figure(translate: Translator, frames: Frames, model: str) -> Figure | None:
    """A point for each difference: its distance over that of two seeds, coloured by factor."""
    measured = [row for row in rows_of_model(frames, "differences", model) if finite(row["ratio"])]
    if not measured:
        return None
    rows = sorted(measured, key=lambda row: row["ratio"])
    if len(rows) > MAX_LINES:
        # Spread evenly over their order, both ends among them.
        last = len(rows) - 1
        rows = [rows[round(place * last / (MAX_LINES - 1))] for place in range(MAX_LINES)]
    # Two differences of one label would share a line of the figure.
    points = [
        {**row, "said": translate.factor(row["factor"]),
         "line": f"{row['label']} ({translate.factor(row['factor'])})",
         "from": row["low"] and row["low"] / row["seed_distance"],
         "to": row["high"] and row["high"] / row["seed_distance"]}
        for row in rows
    ]  # fmt: skip
    ratios = [row["ratio"] for row in points]
    ends = [min(*ratios, 1.0) / 1.2, max(*ratios, 1.0) * 1.2]
    scale = part(type="log", domain=ends, nice=False)
    x = field("ratio:Q", title=translate("axis-ratio"), scale=scale)
    y = field("line:N", title=None, sort=[row["line"] for row in points])
    factors = list(dict.fromkeys(translate.factor(row["factor"]) for row in rows))
    color = field("said:N", title=translate("legend-factor"), sort=factors)
    tooltip = tooltips(
        line=(translate.column("difference"), None),
        ratio=(translate.column("ratio"), ".3g"),
        distance=(translate.column("distance"), ".4g"),
        seed_distance=(translate.column("seed_distance"), ".4g"),
        seeds=(translate.column("seeds"), "d"),
    )
    base = Chart(data_of(points))
    marks = base.mark("point", filled=True, size=90).encode(x=x, y=y, color=color, tooltip=tooltip)
    intervals = base.mark("rule").encode(x="from:Q", x2="to", y=y, color=color)
    another_seed = Chart(data_of([{"at": 1.0}])).mark("rule").encode(x="at:Q")
    has_intervals = any(row["from"] for row in points)
    layers = [another_seed, *([intervals] if has_intervals else []), marks]
    chart = layered(*layers).properties(width="container", height=_LINE_HEIGHT * len(points))
    caption = translate("caption-floor", model=base_in_caption(frames, model))
    return Figure(chart, caption + shown_note(translate, len(points), len(measured)))


def over_seeds_figure(translate: Translator, frames: Frames, model: str) -> Figure | None:
    """L2 of each data pair, one bar for each seed."""
    pairs = {
        row["recipes"]: row
        for name in ("seeds_like", "seeds_unlike")
        for row in rows_of_model(frames, name, model)
    }
    bars = [
        {"pair": f"{row['pair']}, {setting(row['learning_rate'])}", "seed": name[4:], "l2": value}
        for row in list(pairs.values())[:MAX_LINES]
        for name, value in row.items()
        if name.startswith("l2_s")
    ]
    if not bars:
        return None
    caption = translate("caption-seeds", model=base_in_caption(frames, model))
    caption += shown_note(translate, min(len(pairs), MAX_LINES), len(pairs))
    return Figure(_grouped_bars(translate, bars, "pair", "seed", "axis-l2", "legend-seed"), caption)


def chains_figure(translate: Translator, frames: Frames, model: str) -> Figure | None:
    """L2 of the parent's part, the child's and the whole."""
    trials = rows_of_model(frames, "chains", model)
    bars = [
        {
            "trial": f"{row['label']}, {row['seed']}",
            "part": translate(f"part-{part}"),
            "l2": row[part],
        }
        for row in trials[:MAX_LINES]
        for part in _PARTS
    ]
    if not bars:
        return None
    caption = translate("caption-chains", model=base_in_caption(frames, model))
    caption += shown_note(translate, min(len(trials), MAX_LINES), len(trials))
    chart = _grouped_bars(translate, bars, "trial", "part", "axis-l2_part", "legend-part")
    return Figure(chart, caption)


def intruders_figure(translate: Translator, frames: Frames, model: str) -> Figure | None:
    """Two points for each recipe: its share in the base model's top directions over chance."""
    measured = rows_of_model(frames, "intruders", model)
    points = [
        {**row, "side": translate(f"side-{side}"), "times": times, "held": row[f"share_{side}"]}
        for row in measured[:MAX_LINES]
        for side in ("left", "right")
        if (times := finite(row[f"{side}_times"]))
    ]
    if not points:
        return None
    all_times = [point["times"] for point in points]
    ends = [min(*all_times, 1.0) / 1.2, max(*all_times, 1.0) * 1.2]
    lines = list(dict.fromkeys(point["label"] for point in points))
    base = Chart(data_of(points)).mark("point", filled=True, size=90)
    marks = base.encode(
        x=field(
            "times:Q",
            title=translate("axis-times_chance"),
            scale=part(type="log", domain=ends, nice=False),
        ),
        y=field("label:N", title=None, sort=lines),
        color=field("side:N", title=translate("legend-side")),
        tooltip=tooltips(
            label=(translate.column("label"), None),
            side=(translate("legend-side"), None),
            times=(translate("axis-times_chance"), ".3g"),
            held=(translate.column("share"), ".2%"),
            intruder_share=(translate.column("intruder_share"), ".2%"),
        ),
    )
    chance = Chart(data_of([{"at": 1.0}])).mark("rule").encode(x="at:Q")
    chart = layered(chance, marks)
    chart = chart.properties(width="container", height=_LINE_HEIGHT * len(lines))
    caption = translate(
        "caption-intruders", model=base_in_caption(frames, model), top=measured[0]["top"]
    )
    caption += shown_note(translate, min(len(measured), MAX_LINES), len(measured))
    return Figure(chart, caption)


def _grouped_bars(
    translate: Translator,
    bars: Sequence[dict[str, Any]],
    line: str,
    group: str,
    axis: str,
    legend: str,
) -> Chart:
    """Horizontal bars of `l2`: lines by the column `line`, bars by `group`, values beside them."""
    lines, groups = (list(dict.fromkeys(bar[name] for bar in bars)) for name in (line, group))
    positive = [bar["l2"] for bar in bars if bar["l2"] and math.isfinite(bar["l2"])]
    if positive and max(positive) / min(positive) > 30:
        scale = part(type="log", domain=[min(positive) / 2, max(positive) * 2])
    else:
        scale = part(type="linear", zero=True)
    base = Chart(data_of(bars)).encode(
        y=field(f"{line}:N", title=None, sort=lines),
        yOffset=field(f"{group}:N", sort=groups),
        x=field("l2:Q", title=translate(axis), scale=scale),
    )
    marks = base.mark("bar").encode(
        color=field(f"{group}:N", title=translate(legend), sort=groups),
        tooltip=tooltips(**{
            line: (translate.column(line), None),
            group: (translate(legend), None),
            "l2": (translate.column("l2"), ".4g"),
        }),
    )  # fmt: skip
    texts = base.mark("text", align="left", dx=3).encode(text=field("l2:Q", format=".4~g"))
    height = len(lines) * (_LINE_HEIGHT if len(groups) < 2 else 16 * len(groups) + 6)
    return layered(marks, texts).properties(width="container", height=height)


def attribution_figure(
    translate: Translator, frames: Frames, model: str, response: str | None = None
) -> Figure | None:
    """Stacked bars of shares of variance: as a whole, by layer and by module kind.

    `response` is that of which the variance is shown; None is the first of log L2, log relative
    L2 and cosine that there is. Where the shares of factors overlap, the unassigned share is below
    zero; it is in the table, and the bars are longer than the whole by as much.
    """
    rows = rows_of_model(frames, "attribution", model)
    responses = [name for name in _RESPONSES if any(row["response"] == name for row in rows)]
    if not responses:
        return None
    wanted = response or responses[0]
    bars = [
        {
            "place": translate("place-all") if row["level"] == "all" else row["key"],
            "factor": translate.factor(row["factor"]),
            "share": row["share"],
        }
        for row in rows
        if row["response"] == wanted and (row["share"] or 0.0) > 0
    ]
    lengths = Counter[str]()
    for bar in bars:
        lengths[bar["place"]] += bar["share"]
    whole = max([1.0, *lengths.values()])
    factors = list(dict.fromkeys(bar["factor"] for bar in bars))
    places = list(dict.fromkeys(bar["place"] for bar in bars))
    chart = (
        Chart(data_of(bars))
        .mark("bar")
        .encode(
            x=field(
                "share:Q",
                title=translate("axis-share"),
                axis=part(format="%"),
                scale=part(domain=[0, whole], nice=False),
                stack="zero",
            ),
            y=field("place:N", title=None, sort=places),
            color=field("factor:N", title=translate("legend-factor"), sort=factors),
            order=field("rank:Q"),
            tooltip=tooltips(
                place=(translate.column("key"), None),
                factor=(translate("legend-factor"), None),
                share=(translate.column("share"), ".2%"),
            ),
        )
        .calculate(rank=f"indexof({factors!r}, datum.factor)")
        .properties(width="container", height=16 * len(places))
    )
    return Figure(
        chart,
        translate("caption-attribution", model=base_in_caption(frames, model), response=wanted),
    )
