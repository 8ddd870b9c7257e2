"""The figure of the likenesses of all pairs of models: one matrix, and a menu of its measures.

Model: a measure is a row of MEASURES: a column of the frame `similarity`, and the ends and the
middle of its colours; orange is alike. Rows and columns come in the order of the clustering by
cosine, whatever is shown; strips before them mark the method, the data and the seed of each model.
With more models than MAX_MODELS a cell is a recipe's mean over seeds.
Invariant: a measure without a value is not offered, and the colours of a measure are of its own
values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from raylab.number_format import short
from raylab.report.figures.drawing import PALETTE
from raylab.report.figures.figure import (
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
from raylab.report.figures.vega_lite import Chart, Part, expression, field, layered, part
from raylab.report.findings.statistics import mean
from raylab.report.study_tables import Row, Rows, finite
from raylab.report.words import Translator

MAX_MODELS = 40
_MAX_ROW, _MIN_ROW, _MATRIX_HEIGHT = 18, 9, 700
_STRIP = 15
"""Pixels that a strip is wide."""
_STRIP_COLOURS = {
    "method": PALETTE,
    # Tol's muted colours, which colour-blind readers can tell apart as well.
    "data": ("#88ccee", "#cc6677", "#44aa99", "#aa4499", "#ddcc77", "#882255", "#999933",
             "#332288"),
    "seed": ("#5f5f5f", "#b9b9b9", "#8b8b8b", "#d6d6d6", "#747474", "#a2a2a2"),
}  # fmt: skip

# A third of a narrow window; a file has no container.
_LABEL_LIMIT = expression(
    "isFinite(containerSize()[0]) ? clamp(containerSize()[0] / 3, 90, 220) : 220"
)

Ends = tuple[float, float, float]


@dataclass(frozen=True)
class Measure:
    """A column of the frame `similarity`, and its colours.

    `colours(values, chance)` are the values of the first, the middle and the last colour, out of
    those of two different models and the mean that unrelated models would have. `own` is the value
    of a model with itself, None where it has none.
    """

    column: str
    own: float | None
    colours: Callable[[Sequence[float], float], Ends]
    scheme: str = "blueorange"
    chance: str = ""


def _around_half(values: Sequence[float], chance: float) -> Ends:
    reach = max(abs(value - 0.5) for value in values) or 0.5
    return 0.5 - reach, 0.5, 0.5 + reach


def _above(values: Sequence[float], chance: float) -> Ends:
    """From zero over what chance gives to the largest."""
    return 0.0, chance, max(*values, 2 * chance)


def _down_to_zero(values: Sequence[float], chance: float) -> Ends:
    """Half of the values in either half of the colours, as divergences differ by decades."""
    largest, middle = max(values) or 1.0, median(values)
    return largest, middle if 0 < middle < largest else largest / 2, 0.0


MEASURES: dict[str, Measure] = {
    "cosine": Measure("cosine", 1.0, lambda values, chance: (-1.0, 0.0, 1.0)),
    "where": Measure("output_overlap", 1.0, _above, chance="output_by_chance"),
    "function": Measure("divergence", 0.0, _down_to_zero, scheme="oranges"),
    "signs": Measure("sign_agreement", 1.0, _around_half),
    "overlap": Measure("over_chance", None, lambda values, chance: _above(values, 1.0)),
}
"""By name: what a reader can choose, in the order of the menu."""


def similarity_figure(
    translate: Translator, frames: Frames, model: str, measure: str | None = None
) -> Figure | None:
    """Likenesses of all pairs of models by one of MEASURES, which the reader chooses.

    `measure` is the one shown first. Raises InputError where it was not measured.
    """
    pairs = rows_of_model(frames, "similarity", model)
    models = rows_of_model(frames, "neighbours", model)
    measured = {
        name: row
        for name, row in MEASURES.items()
        if any(finite(pair[row.column]) is not None for pair in pairs)
    }
    if not measured:
        return None
    are_recipes = len(models) > MAX_MODELS
    labels = {row["name"]: str(row["label"]) for row in models}
    if are_recipes:
        labels = {key: label.rpartition(", ")[0] for key, label in labels.items()}
    order = list(dict.fromkeys(labels.values()))
    places = {name: order.index(label) for name, label in labels.items()}
    factors = ("method", "data") if are_recipes else ("method", "data", "seed")
    said = {name: translate(f"likeness-{name}") for name in measured}
    first = option_asked(measure, said)
    colours = {said[name]: _colours_of(row, pairs) for name, row in measured.items()}
    readings = {
        label: [label, translate(f"reading-{name}", middle=short(colours[label][1]))]
        for name, label in said.items()
    }
    y = field("b:N", title=None, scale=part(domain=list(range(len(order)))), axis=_axis())
    row_height = max(_MIN_ROW, min(_MAX_ROW, _MATRIX_HEIGHT // len(order)))
    chart = (
        layered(
            _strips(translate, models, places, y, factors),
            _matrix(translate, _cells(pairs, places, measured), y, _STRIP * len(factors) + 9)
            .encode(color=_color(colours, {said[name]: measured[name].scheme for name in said})),
        )
        .params(
            choice_menu(translate, list(said.values()), first),
            part(name="column", expr=by_choice({said[name]: name for name in said})["expr"]),
            part(name="labels", value=order),
        )
        .resolve_scale(x="independent", color="independent")
        .properties(width="container", height=row_height * len(order),
                    title=part(text=by_choice(readings)))
    )  # fmt: skip
    left = translate("caption-similarity-recipes", models=len(models)) if are_recipes else ""
    caption = translate(
        "caption-similarity", model=base_in_caption(frames, model), left=left, label=first
    )
    return Figure(chart, caption)


def _axis(**options: Any) -> Part:
    """An axis of models, which are known by their places in the order."""
    return part(labelExpr="labels[datum.value]", labelLimit=_LABEL_LIMIT, **options)


def _strips(
    translate: Translator,
    models: Rows,
    places: Mapping[str, int],
    y: Part,
    factors: Sequence[str],
) -> Chart:
    """A column for each factor, with colours and a legend of its own."""
    titles = [translate.factor(factor) for factor in factors]
    x = field(
        "strip:N",
        title=None,
        scale=part(domain=titles, range=[0, _STRIP * len(titles)], paddingInner=0.15),
        axis=part(orient="top", labelAngle=-90, domain=False, ticks=False),
    )
    charts = []
    for factor, title in zip(factors, titles, strict=True):
        levels = {places[row["name"]]: str(row[factor]) for row in models}
        marks = [{"b": place, "strip": title, "level": level} for place, level in levels.items()]
        names = sorted(set(levels.values()), key=_level_order)
        colours = [colour for colour, _ in zip(itertools.cycle(_STRIP_COLOURS[factor]), names)]
        color = field(
            "level:N",
            title=title,
            scale=part(domain=names, range=colours),
            legend=part(symbolType="square", titleOrient="left", columns=legend_columns(names)),
        )
        charts.append(
            Chart(data_of(marks))
            .mark("rect")
            .calculate(label="labels[datum.b]")
            .encode(x=x, y=y, color=color,
                    tooltip=tooltips(label=(translate.column("label"), None), level=(title, None)))
        )  # fmt: skip
    return layered(*charts).resolve_scale(color="independent")


def _level_order(level: str) -> tuple[bool, int, str]:
    """Numbers by their size, then the others by the alphabet."""
    return (not level.isdigit(), len(level) if level.isdigit() else 0, level)


def _matrix(
    translate: Translator, cells: Sequence[Mapping[str, Any]], y: Part, start: int
) -> Chart:
    """The cells, from `start` pixels on; the parameter `column` is the measure that they show."""
    places = list(dict.fromkeys(cell["b"] for cell in cells))
    # Evaluated anew with the width of the window. Whole pixels leave no seams between cells.
    end = f"{start} + {len(places)} * max(1, floor((width - {start}) / {len(places)}))"
    x = field(
        "a:N",
        title=None,
        scale=part(domain=places, range=[start, expression(end)]),
        axis=_axis(orient="bottom", labelAngle=-90, labelOverlap="greedy"),
    )
    measured = [name for name in MEASURES if name in cells[0]]
    hover = tooltips(
        of=(translate("axis-of"), None),
        other=(translate("axis-with"), None),
        **{name: (translate(f"likeness-{name}"), ".3g") for name in measured},
    )
    return (
        Chart(data_of(cells))
        .mark("rect")
        .calculate(
            value="datum[column]", of="labels[datum.b]", other="labels[datum.a]"
        )
        .filter("isValid(datum.value)")
        .encode(x=x, y=y, tooltip=hover)
    )  # fmt: skip


def _color(colours: Mapping[str, Ends], schemes: Mapping[str, str]) -> Part:
    """The colours of what is chosen, by its label."""
    return field(
        "value:Q",
        title=None,
        scale=part(domain=by_choice(colours), scheme=by_choice(schemes), clamp=True),
        legend=part(gradientLength=200, format=".2~g"),
    )


def _cells(
    pairs: Rows, places: Mapping[str, int], measured: Mapping[str, Measure]
) -> list[dict[str, Any]]:
    """Both halves of the matrix and its diagonal; pairs of equal places are averaged."""
    by_cell: dict[tuple[int, int], list[Row]] = {}
    for row in pairs:
        a, b = places[row["a"]], places[row["b"]]
        for key in dict.fromkeys([(a, b), (b, a)]):
            by_cell.setdefault(key, []).append(row)
    cells = []
    for b, a in itertools.product(sorted(set(places.values())), repeat=2):
        cell: dict[str, Any] = {"a": a, "b": b}
        for name, measure in measured.items():
            found = [row[measure.column] for row in by_cell.get((a, b), [])]
            value = mean([one for one in found if finite(one) is not None])
            value = measure.own if value is None and a == b else value
            cell[name] = None if value is None else float(f"{value:.4g}")
        cells.append(cell)
    return cells


def _colours_of(measure: Measure, pairs: Rows) -> Ends:
    """The values of the first, the middle and the last colour."""
    values = [row[measure.column] for row in pairs if finite(row[measure.column]) is not None]
    chances = [row[measure.chance] for row in pairs] if measure.chance else []
    chance = mean([one for one in chances if finite(one) is not None]) or 0.0
    first, middle, last = (float(f"{x:.4g}") for x in measure.colours(values, chance))
    return first, middle, last
