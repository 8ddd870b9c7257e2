"""Figures of effects: every two recipes against the seed, and likeness by layer."""

from __future__ import annotations

import math

from raylab.report.figures.figure import (
    Figure,
    Frames,
    base_in_caption,
    data_of,
    rows_of_model,
    tooltips,
)
from raylab.report.figures.vega_lite import Chart, field, layered, part
from raylab.report.seed_noise import WITHIN
from raylab.report.words import Translator

_ROW_HEIGHT = 34
_BAND = (1 / WITHIN, WITHIN)
"""What is called within the seed."""


def effects_figure(translate: Translator, frames: Frames, model: str) -> Figure | None:
    """A point for each two recipes: how many times as far apart as two seeds, by space."""
    rows = [
        row
        for row in rows_of_model(frames, "effect_pairs", model)
        if row["times"] is not None and 0 < row["times"] < math.inf
    ]
    if not rows:
        return None
    points = [
        {**row, "said": translate.factor(row["factor"]), "in": translate.word(row["space"])}
        for row in rows
    ]
    factors, spaces = (
        list(dict.fromkeys(point[key] for point in points)) for key in ("said", "in")
    )
    times = [row["times"] for row in rows]
    domain = [min(*times, _BAND[0]) / 1.2, max(*times, _BAND[1]) * 1.2]
    x = field(
        "times:Q",
        title=translate("axis-times"),
        scale=part(type="log", domain=domain, nice=False),
    )
    y = field("said:N", title=None, sort=factors)
    offset = field("in:N", sort=spaces)
    # One domain and no order of their own: then Vega-Lite makes one legend of both.
    scale, title = part(domain=spaces), translate("column-space")
    color = field("in:N", title=title, scale=scale)
    shape = field("in:N", title=title, scale=scale)
    hover = tooltips(
        label=(translate.column("difference"), None),
        said=(translate.column("factor"), None),
        times=(translate.column("times"), ".3g"),
        effect=(translate.column("effect"), ".4g"),
        baseline=(translate.column("baseline"), ".4g"),
    )
    marks = Chart(data_of(points)).mark("point", filled=True, size=70, opacity=0.8)
    band = Chart(data_of([{"from": _BAND[0], "to": _BAND[1]}])).mark(
        "rect", color="#8a8a8a", opacity=0.25
    )
    chart = layered(
        band.encode(x=field("from:Q"), x2="to"),
        marks.encode(x=x, y=y, yOffset=offset, color=color, shape=shape, tooltip=hover),
    ).properties(width="container", height=_ROW_HEIGHT * len(factors))
    return Figure(
        chart, translate("caption-effects", model=base_in_caption(frames, model), count=len(rows))
    )


def layer_likeness_figure(translate: Translator, frames: Frames, model: str) -> Figure | None:
    """CKA by layer: a line for each factor, and a dashed one for two seeds of its recipes."""
    rows = rows_of_model(frames, "cka_by_layer", model)
    if not rows:
        return None
    factors = list(dict.fromkeys(translate.factor(row["factor"]) for row in rows))
    kinds = [translate("legend-cka"), translate("legend-seeds_cka")]
    points = [
        {
            "layer": row["layer"],
            "said": translate.factor(row["factor"]),
            "cka": row[column],
            "of": translate(f"legend-{column}"),
        }
        for row in rows
        for column in ("cka", "seeds_cka")
        if row[column] is not None
    ]
    chart = (
        Chart(data_of(points))
        .mark("line", point=True)
        .encode(
            x=field("layer:Q", title=translate("axis-layer"), axis=part(tickMinStep=1)),
            y=field("cka:Q", title=translate("axis-cka"), scale=part(zero=False)),
            color=field("said:N", title=translate("legend-factor"), sort=factors),
            # Without a domain the order of the words in a language would say which line is dashed.
            strokeDash=field("of:N", legend=None, scale=part(domain=kinds, range=[[1, 0], [4, 2]])),
            tooltip=tooltips(
                said=(translate("legend-factor"), None),
                of=(translate("legend-part"), None),
                layer=(translate("axis-layer"), "d"),
                cka=(translate("axis-cka"), ".3f"),
            ),
        )
        .properties(width="container", height=260)
    )
    return Figure(chart, translate("caption-cka", model=base_in_caption(frames, model)))
