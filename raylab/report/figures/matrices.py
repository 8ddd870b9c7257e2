"""Figures of all pairs of models: how alike they are, with what each of them is.

Model: a figure is a row of MEASURES. Models come in the order of their clustering by cosine; a
strip on the left marks the method, the data and the seed of each. With more models than
MOST_MODELS a cell is a recipe's mean over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt

from raylab.report.figures.context import Frames, Sketch, data_of, rows_of_model, tooltips
from raylab.report.findings.finding import finite, mean
from raylab.report.findings.seed_tables import Row
from raylab.report.words.translator import Voice

MOST_MODELS = 40
_MARKED = ("method", "data", "seed")


@dataclass(frozen=True)
class Measure:
    """A column of the frame `similarity`: the ends and the middle of its colours.

    `least` and `most` are None where the data say; `own` is a model's likeness to itself.
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


def similarity_chart(measure: str) -> Callable[[Voice, Frames, str], Sketch | None]:
    """How one of MEASURES is drawn."""
    return partial(_chart, measure)


def _chart(name: str, voice: Voice, frames: Frames, model: str) -> Sketch | None:
    measure = MEASURES[name]
    rows = [
        row
        for row in rows_of_model(frames, "similarity", model)
        if finite(row[measure.column]) is not None
    ]
    members = rows_of_model(frames, "neighbours", model)
    if not rows:
        return None
    several = len(members) > MOST_MODELS
    left = voice("caption.similarity.recipes", models=len(members)) if several else ""
    labels = {row["name"]: _label(row, several) for row in members}
    order = list(dict.fromkeys(labels.values()))
    # A model's marks stand in the same grid as its likenesses, before them.
    marks = [voice.factor(factor) for factor in _MARKED[: 2 if several else 3]]
    y = alt.Y("b:N", title=None, sort=order)
    x = alt.X("a:N", title=None, sort=[*marks, *order], axis=alt.Axis(labelAngle=-60))
    title = voice(f"axis.{measure.column}")
    cells = _cells(rows, labels, order, measure)
    strip = _marks(voice, members, labels, several)
    kinds = [kind for mark in marks for kind in dict.fromkeys(
        cell["mark"] for cell in strip if cell["a"] == mark)]  # fmt: skip
    chart = alt.layer(
        alt.Chart(data_of(strip))
        .mark_rect()
        .encode(x=x, y=y, color=alt.Color("mark:N", title=None, sort=kinds,
                                          legend=alt.Legend(columns=8)),
                tooltip=tooltips(b=(voice.column("label"), None), mark=(voice("axis.mark"), None))),
        alt.Chart(data_of(cells))
        .mark_rect()
        .encode(x=x, y=y, color=_colours(measure, cells, title),
                tooltip=tooltips(a=("a", None), b=("b", None), value=(title, ".3f"))),
    ).resolve_scale(color="independent")  # fmt: skip
    sized = chart.properties(
        width="container", height=len(order) * max(9, min(18, 700 // len(order)))
    )
    return Sketch(sized, voice(f"caption.{name}", model=model, left=left))


def _label(row: Row, several: bool) -> str:
    return str(row["label"]).rpartition(", ")[0] if several else str(row["label"])


def _colours(measure: Measure, cells: Sequence[Mapping[str, Any]], title: str) -> alt.Color:
    most = measure.most or max(2 * measure.middle, *(cell["value"] for cell in cells))
    scale = alt.Scale(scheme="blueorange", domain=[measure.least, most], domainMid=measure.middle)
    return alt.Color("value:Q", title=title, scale=scale, legend=alt.Legend(gradientLength=200))


def _marks(
    voice: Voice, members: Sequence[Row], labels: Mapping[str, str], several: bool
) -> list[dict[str, Any]]:
    """The method, data and seed of each model; of recipes the first two."""
    found = {
        (labels[row["name"]], factor): str(row[factor])
        for row in members
        for factor in _MARKED[: 2 if several else 3]
    }
    return [
        {"a": voice.factor(factor), "b": label, "mark": value}
        for (label, factor), value in found.items()
    ]


def _cells(
    rows: Sequence[Row], labels: Mapping[str, str], order: Sequence[str], measure: Measure
) -> list[dict[str, Any]]:
    """Both halves of the matrix and its diagonal; pairs of equal labels are averaged."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        a, b = labels[row["a"]], labels[row["b"]]
        for key in {(a, b), (b, a)}:
            found.setdefault(key, []).append(row[measure.column])
    if measure.own is not None:
        for name in order:
            found.setdefault((name, name), [measure.own])
    return [
        {"a": a, "b": b, "value": round(mean(values) or 0.0, 4)} for (a, b), values in found.items()
    ]
