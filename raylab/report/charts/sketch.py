"""What figures are drawn with: their words, the frames of a finding, one base model.

Invariant: a figure shows values of frames, and nothing of its own; where it cannot show all of
them its caption says how many of how many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from raylab.report.summary import Row, Rows

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
    """Rows as a chart's data."""
    return alt.Data(values=[dict(row) for row in rows])


def tooltips(**fields: tuple[str, str | None]) -> list[alt.Tooltip]:
    """Field -> (title, format) as what a pointer shows."""
    return [
        alt.Tooltip(field=name, type="quantitative" if form else "nominal", title=title,
                    **({"format": form} if form else {}))
        for name, (title, form) in fields.items()
    ]  # fmt: skip


def axis_for(values: Sequence[float | None]) -> alt.Scale:
    """A scale for lengths: logarithmic where they span over 30 times."""
    positive = [value for value in values if value]
    if positive and max(positive) / min(positive) > 30:
        return alt.Scale(type="log", domain=[min(positive) / 2, max(positive) * 2])
    return alt.Scale(type="linear", zero=True)
