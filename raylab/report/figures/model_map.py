"""The figure of the maps of models: points that lie close are models that are alike.

Model: one menu chooses the distance, one the factor that colours the points; their shape is the
seed. Both axes have one scale, so that a distance can be read in any direction: the domains follow
the width and the height of the window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from raylab.number_format import short
from raylab.report.figures.figure import (
    CHOSEN,
    Figure,
    Frames,
    base_in_caption,
    by_choice,
    choice_menu,
    data_of,
    legend_columns,
    option_asked,
    rows_of_model,
    tooltips,
)
from raylab.report.figures.vega_lite import Chart, Part, expression, field, part
from raylab.report.findings.trained_models import FACTORS
from raylab.report.study_tables import Row, Rows
from raylab.report.words import Translator
from raylab.spec.swept_names import rate_text

_HEIGHT = 380
_MARGIN = 1.15
"""What the axes show, over what the points span."""


def map_figure(
    translate: Translator,
    frames: Frames,
    model: str,
    distance: str | None = None,
    factor: str | None = None,
) -> Figure | None:
    """The models in two dimensions by one distance and coloured by one factor, both chosen.

    `distance` and `factor` are those shown first: None is the distance that two dimensions show
    best, with the least stress, and the factor by which models lie together most. Raises
    InputError where one was not measured, or does not vary.
    """
    rows = rows_of_model(frames, "map", model)
    if not rows:
        return None
    spaces = {key: translate.word(key) for key in dict.fromkeys(row["space"] for row in rows)}
    colours = {key: translate.factor(key) for key in _varied(rows)}
    # A map of models in one place has no stress, and nothing to see.
    best = min(rows, key=lambda row: math.inf if row["stress"] is None else row["stress"])["space"]
    chosen = option_asked(distance or best, spaces)
    coloured = option_asked(factor or _most(frames, model, chosen, spaces, colours), colours)
    recipes = {row["recipe"]: row["label"].rpartition(", ")[0] for row in rows}
    points = [
        {
            "of": spaces[row["space"]],
            "name": row["name"],
            "label": row["label"],
            "x": float(f"{row['x']:.5g}"),
            "y": float(f"{row['y']:.5g}"),
            "seed": str(row["seed"]),
            **{key: _level(translate, row, key, recipes) for key in colours},
        }
        for row in rows
    ]
    seeds = sorted({point["seed"] for point in points}, key=lambda seed: (len(seed), seed))
    titles = {
        spaces[row["space"]]: _title(translate, frames, row)
        for row in rows_of_model(frames, "map_distances", model)
    }
    columns = {said: key for key, said in colours.items()}
    hover = {"label": (translate.column("label"), None), "name": (translate.column("name"), None)}
    hover |= {key: (said, None) for key, said in colours.items()}
    hover |= {"seed": (translate.factor("seed"), None)}
    levels = [point[key] for point in points for key in colours]
    chart = (
        Chart(data_of(points))
        .mark("point", filled=True, size=100, opacity=0.85)
        .filter(CHOSEN)
        .calculate(level=f"datum[({by_choice(columns, 'coloured')['expr']})]")
        .encode(
            x=_axis("x", translate("axis-first_dimension"), "width"),
            y=_axis("y", translate("axis-second_dimension"), "height"),
            color=field("level:N", title=translate("legend-colour"),
                            legend=part(symbolType="circle", titleOrient="left",
                                              columns=legend_columns(levels))),
            shape=field("seed:N", title=translate("legend-seed"), sort=None,
                            scale=part(domain=seeds),
                            legend=part(titleOrient="left", symbolFillColor="currentColor",
                                              columns=legend_columns(seeds))),
            tooltip=tooltips(**hover),
        )
        .params(
            choice_menu(translate, list(spaces.values()), chosen),
            choice_menu(translate, list(colours.values()), coloured, "coloured", "choose-colour"),
            part(name="spans", expr=by_choice(_spans(points))["expr"]),
        )
        .properties(width="container", height=_HEIGHT,
                    title=part(text=by_choice(titles)))
    )  # fmt: skip
    count = len({row["name"] for row in rows})
    return Figure(
        chart,
        translate("caption-map", model=base_in_caption(frames, model), count=count, label=chosen),
    )


def _varied(rows: Rows) -> list[str]:
    """The factors, without the seed, of which models have several levels; one at least."""
    factors = [key for key in FACTORS if key != "seed"]
    return [key for key in factors if len({row[key] for row in rows}) > 1] or factors[:1]


def _most(
    frames: Frames, model: str, chosen: str, spaces: Mapping[str, str], colours: Mapping[str, str]
) -> str | None:
    """The factor, of those that colour points, by which models lie together most."""
    rows = [row for row in rows_of_model(frames, "map_factors", model)
            if spaces[row["space"]] == chosen and row["factor"] in colours]  # fmt: skip
    return max(rows, key=lambda row: row["silhouette"])["factor"] if rows else None


def _level(translate: Translator, row: Row, factor: str, recipes: Mapping[str, str]) -> str:
    """A level as a reader knows it; a parent by its label."""
    value = row[factor]
    if value is None:
        return translate("level-none")
    if factor == "learning_rate":
        return rate_text(row["name"], value)
    return recipes.get(value, str(value).removeprefix(f"{row['model']}."))


def _title(translate: Translator, frames: Frames, distance: Row) -> list[str]:
    """What is seen in the map of one distance, and its stress."""
    most = [
        row
        for row in rows_of_model(frames, "map_factors", distance["model"])
        if row["space"] == distance["space"] and row["is_most"]
    ]
    seen = [
        translate(f"map-title-{'apart' if row['is_apart'] else 'mixed'}", **row) for row in most
    ]
    stress = "–" if distance["stress"] is None else short(distance["stress"])
    return [*seen, translate("map-title-stress", space=distance["space"], stress=stress)]


def _spans(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By what is chosen: the middle of the points on either axis, and how far they reach."""
    found = {}
    for of in dict.fromkeys(point["of"] for point in points):
        span: dict[str, float] = {}
        for axis, size in (("x", "width"), ("y", "height")):
            values = [point[axis] for point in points if point["of"] == of]
            span[axis] = (max(values) + min(values)) / 2
            span[size] = (max(values) - min(values)) * _MARGIN
        found[of] = span if span["width"] or span["height"] else span | {"width": 1.0}
    return found


def _axis(name: str, title: str, size: str) -> Part:
    """An axis of which a pixel is as long as one of the other axis."""
    unit = "max(spans.width / width, spans.height / height)"
    half = f"{unit} * {size} / 2"
    domain = expression(f"[spans.{name} - {half}, spans.{name} + {half}]")
    return field(
        f"{name}:Q",
        title=title,
        scale=part(domain=domain, nice=False, zero=False),
        axis=part(format=".3~g", tickCount=5),
    )
