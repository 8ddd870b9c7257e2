"""Figures of cells: norms by layer and module kind, and likenesses of all pairs of models.

Model: a likeness is a row of MEASURES. Models come in the order of their clustering by cosine; a
strip on the left marks the method, the data and the seed of each. With more models than
MAX_MODELS a cell is a recipe's mean over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt

from raylab.report.figures.figure import (
    CHOSEN,
    Choice,
    Figure,
    Frames,
    choice_menu,
    data_of,
    rows_of_model,
    shown_note,
    tooltips,
)
from raylab.report.findings.by_layer import kind_order
from raylab.report.findings.statistics import finite, mean
from raylab.report.study_tables import Rows
from raylab.report.words import Translator

MAX_SUBJECTS = 30
MAX_MODELS = 40
LOG_SCALE_FROM = 10
"""The largest value over the smallest from which on colours are on a logarithmic scale."""


def layers_figure(
    translate: Translator, frames: Frames, model: str, recipe: str | None = None
) -> Figure | None:
    """Norms by layer and module kind of one recipe or difference, which the reader chooses.

    `recipe` is the one shown first: a recipe, or two joined by "~". Raises InputError where it
    was not measured.
    """
    rows = [row for row in rows_of_model(frames, "where", model) if row["layer"] is not None]
    if not rows:
        return None
    differences_first = sorted(rows, key=lambda row: bool(row["what"] != "difference"))
    subjects = {row["name"]: row["label"] for row in differences_first}
    choice = Choice.of(subjects, model, recipe, MAX_SUBJECTS)
    cells = [
        {"of": row["label"], "layer": row["layer"], "kind": row["kind"],
         "value": row["value"] and float(f"{row['value']:.4g}")}
        for row in rows if row["name"] in choice.keys
    ]  # fmt: skip
    values = [cell["value"] for cell in cells if finite(cell["value"])]
    # A cell that did not move has no place on a logarithmic scale, and is left blank.
    is_log = bool(values) and max(values) / min(values) > LOG_SCALE_FROM
    ends = {"type": "log", "domain": [min(values), max(values)]} if is_log else {"type": "linear"}
    layers = len({cell["layer"] for cell in cells})
    measure = translate(f"measure-{rows[0]['measure']}")
    chart = (
        alt.Chart(data_of(cells))
        .mark_rect()
        .encode(
            x=alt.X("kind:N", title=None, axis=alt.Axis(labelAngle=-30),
                    sort=sorted({cell["kind"] for cell in cells}, key=kind_order)),
            y=alt.Y("layer:O", title=translate("axis-layer"), sort="descending"),
            color=alt.Color("value:Q", title=measure, scale=alt.Scale(scheme="viridis", **ends),
                            legend=alt.Legend(format=".2g", gradientLength=200)),
            tooltip=tooltips(
                layer=(translate("axis-layer"), None),
                kind=(translate("axis-kind"), None),
                value=(measure, ".4g"),
            ),
        )
        .add_params(choice_menu(translate, choice.labels, choice.first))
        .transform_filter(CHOSEN)
        # All layers within about 600 pixels.
        .properties(width="container", height=layers * max(10, min(26, 600 // layers)))
    )  # fmt: skip
    caption = translate("caption-heatmap", model=model, measure=measure, label=choice.first)
    return Figure(chart, caption + shown_note(translate, len(choice.labels), choice.total))


@dataclass(frozen=True)
class Measure:
    """A column of the frame `similarity`: the ends and the middle of its colours.

    `most` is None where it follows from the data; `own` is the value of a model with itself.
    """

    column: str
    least: float
    most: float | None
    middle: float
    own: float | None


MEASURES: dict[str, Measure] = {
    "similarity": Measure("cosine", -1.0, 1.0, 0.0, 1.0),
    "signs": Measure("sign_agreement", 0.0, 1.0, 0.5, 1.0),
    "overlap": Measure("over_chance", 0.0, None, 1.0, None),
}


def similarity_figure(measure: str) -> Callable[[Translator, Frames, str], Figure | None]:
    """The function that draws one of MEASURES."""
    return partial(_similarity_figure, measure)


def _similarity_figure(
    name: str, translate: Translator, frames: Frames, model: str
) -> Figure | None:
    measure = MEASURES[name]
    pairs = rows_of_model(frames, "similarity", model)
    pairs = [row for row in pairs if finite(row[measure.column]) is not None]
    models = rows_of_model(frames, "neighbours", model)
    if not pairs:
        return None
    are_recipes = len(models) > MAX_MODELS
    labels = {row["name"]: str(row["label"]) for row in models}
    if are_recipes:
        labels = {key: label.rpartition(", ")[0] for key, label in labels.items()}
    order = list(dict.fromkeys(labels.values()))
    factors = ("method", "data") if are_recipes else ("method", "data", "seed")
    # The marks of a model stand in the same grid as its likenesses, before them.
    columns = [translate.factor(factor) for factor in factors]
    levels = {
        (column, labels[row["name"]]): str(row[factor])
        for row in models
        for column, factor in zip(columns, factors, strict=True)
    }
    marks = [{"a": column, "b": label, "mark": level} for (column, label), level in levels.items()]
    sort = [
        level
        for column in columns
        for level in dict.fromkeys(v for (own, _), v in levels.items() if own == column)
    ]
    y = alt.Y("b:N", title=None, sort=order)
    x = alt.X("a:N", title=None, sort=[*columns, *order], axis=alt.Axis(labelAngle=-60))
    color = alt.Color("mark:N", title=None, sort=sort, legend=alt.Legend(columns=8))  # fmt: skip
    hover = tooltips(b=(translate.column("label"), None), mark=(translate("axis-mark"), None))
    strip = alt.Chart(data_of(marks)).mark_rect().encode(x=x, y=y, color=color, tooltip=hover)
    cells = _cells(pairs, labels, order, measure)
    title = translate(f"axis-{measure.column}")
    hover = tooltips(a=("a", None), b=("b", None), value=(title, ".3f"))
    color = _color(measure, cells, title)
    matrix = alt.Chart(data_of(cells)).mark_rect().encode(x=x, y=y, color=color, tooltip=hover)
    chart = alt.layer(strip, matrix).resolve_scale(color="independent")
    height = len(order) * max(9, min(18, 700 // len(order)))
    left = translate("caption-similarity-recipes", models=len(models)) if are_recipes else ""
    caption = translate(f"caption-{name}", model=model, left=left)
    return Figure(chart.properties(width="container", height=height), caption)


def _color(measure: Measure, cells: Sequence[Mapping[str, Any]], title: str) -> alt.Color:
    most = measure.most or max(2 * measure.middle, *(cell["value"] for cell in cells))
    scale = alt.Scale(scheme="blueorange", domain=[measure.least, most], domainMid=measure.middle)
    return alt.Color("value:Q", title=title, scale=scale, legend=alt.Legend(gradientLength=200))


def _cells(
    pairs: Rows, labels: Mapping[str, str], order: Sequence[str], measure: Measure
) -> list[dict[str, Any]]:
    """Both halves of the matrix and its diagonal; pairs of equal labels are averaged."""
    values: dict[tuple[str, str], list[float]] = {}
    for row in pairs:
        a, b = labels[row["a"]], labels[row["b"]]
        for key in dict.fromkeys([(a, b), (b, a)]):
            values.setdefault(key, []).append(row[measure.column])
    if measure.own is not None:
        for name in order:
            values.setdefault((name, name), [measure.own])
    return [
        {"a": a, "b": b, "value": round(mean(found) or 0.0, 4)} for (a, b), found in values.items()
    ]
