"""What figures are drawn with: their words, the frames of a finding, one base model.

A figure fills its container's width; its height is a number, for Vega-Lite 6 warns in a reader's
console of rows that set it.
Invariant: a figure shows values of frames, and nothing of its own; where it cannot show all of
them its caption says how many of how many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from raylab.errors import InputError
from raylab.report.findings.seed_tables import Row, Rows
from raylab.report.words.translator import Voice

Frames = Mapping[str, Rows]


@dataclass(frozen=True)
class Sketch:
    """A figure before it is drawn, and what it shows."""

    chart: alt.TopLevelMixin
    caption: str


Draw = Callable[..., Sketch | None]


@dataclass(frozen=True)
class Chart:
    """`draw(voice, frames, base model, **choice)`; None where the frames lack that model."""

    finding: str
    draw: Draw


def rows_of_model(frames: Frames, name: str, model: str) -> list[Row]:
    """The rows of a frame that are of one base model."""
    return [row for row in frames.get(name, ()) if row["model"] == model]


def data_of(rows: Sequence[Mapping[str, Any]]) -> alt.Data:
    """Rows as a chart's data; what is not finite has no place in JSON, and none in a figure."""
    return alt.Data(values=[{name: _shown(row[name]) for name in row} for row in rows])


def _shown(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tooltips(**fields: tuple[str, str | None]) -> list[alt.Tooltip]:
    """Field -> (title, format) as what a pointer shows."""
    return [
        alt.Tooltip(field=name, type="quantitative" if form else "nominal", title=title,
                    **({"format": form} if form else {}))
        for name, (title, form) in fields.items()
    ]  # fmt: skip


def axis_for(values: Sequence[float | None]) -> alt.Scale:
    """A scale for lengths: logarithmic where they span over 30 times."""
    positive = [value for value in values if value and math.isfinite(value)]
    if positive and max(positive) / min(positive) > 30:
        return alt.Scale(type="log", domain=[min(positive) / 2, max(positive) * 2])
    return alt.Scale(type="linear", zero=True)


def subject_of(subjects: Mapping[str, str], model: str, recipe: str | None) -> str:
    """The key of a recipe or of a difference of two, with or without its base model's name."""
    if recipe is None:
        return next(iter(subjects))
    parts = [part.removeprefix(f"{model}.") for part in recipe.split("~")]
    key = "~".join(f"{model}.{part}" for part in parts)
    if key not in subjects:
        raise InputError("this was not measured", found=recipe,
                         expected=", ".join(subjects))  # fmt: skip
    return key


def choice_of(voice: Voice, options: Sequence[str], first: str) -> alt.Parameter:
    """What a reader chooses between, as the parameter `chosen`."""
    bound = alt.binding_select(options=list(options), name=f"{voice('choose')} ")
    return alt.param(name="chosen", value=first, bind=bound)


def cut(voice: Voice, shown: int, total: int) -> str:
    """What a caption adds where not everything is shown."""
    return "" if shown == total else " " + voice("chart.cut", shown=shown, total=total)
