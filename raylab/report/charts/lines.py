"""Figures of lines: how concentrated, and along the way."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
from scipy import stats

from raylab.report.charts.sketch import (
    Frames,
    Sketch,
    choice_of,
    cut,
    data_of,
    rows_of_model,
    subject_of,
    tooltips,
)
from raylab.report.words.voice import Voice

MOST = 8
MOST_PATHS = 20


def curve_chart(voice: Voice, frames: Frames, model: str) -> Sketch | None:
    """The share of L2 in the largest entries of each difference, beside that of normal ones."""
    found = rows_of_model(frames, "curves", model)
    if not found:
        return None
    subjects: dict[str, str] = {}
    for row in sorted(found, key=lambda row: row["what"] != "difference"):
        if row["seed"] is not None:
            subjects.setdefault(row["label"], row["comparison"])
    kept = set(list(subjects.values())[:MOST])
    points = [
        {"label": row["label"], "density": row["density"], "share": round(row["l2_share"], 5)}
        for row in found if row["comparison"] in kept
    ]  # fmt: skip
    if not points:
        return None
    marked = [
        {"label": row["label"], "density": row["density"], "share": row["l2_share"]}
        for row in rows_of_model(frames, "densities_of", model)
        if row["comparison"] in kept and row["l2_share"] is not None
    ]
    names = list(dict.fromkeys(point["label"] for point in points))
    lowest = min(point["density"] for point in points)
    normal = [{**point, "label": voice("normal")} for point in normal_curve(lowest)]
    x = alt.X("density:Q", title=voice("axis.kept"), scale=alt.Scale(type="log"),
              axis=alt.Axis(format="~%"))  # fmt: skip
    # A share that is rounded to just above one would add a tick.
    y = alt.Y("share:Q", title=voice("axis.l2_share"), axis=alt.Axis(format="%"),
              scale=alt.Scale(domain=[0, 1]))  # fmt: skip
    colour = alt.Color("label:N", title=voice("legend.comparison"), sort=names,
                       legend=alt.Legend(columns=2))  # fmt: skip
    hover = tooltips(
        label=(voice("legend.comparison"), None),
        density=(voice("axis.kept"), ".3%"),
        share=(voice("axis.l2_share"), ".1%"),
    )
    lines = alt.Chart(data_of(points)).mark_line().encode(x=x, y=y, color=colour, tooltip=hover)
    dots = alt.Chart(data_of(marked)).mark_point(filled=True, size=45)
    dotted = alt.Chart(data_of(normal)).mark_line(strokeDash=[2, 3], color="#8a8a8a")
    chart = alt.layer(
        dotted.encode(x=x, y=y, tooltip=hover),
        lines,
        dots.encode(x=x, y=y, color=colour, tooltip=hover),
    ).properties(width="container", height=300)
    caption = voice("caption.curve", model=model, shown=len(names), total=len(subjects))
    return Sketch(chart, caption)


def paths_chart(
    voice: Voice, frames: Frames, model: str, recipe: str | None = None
) -> Sketch | None:
    """The norm of each layer at the recorded steps, of one recipe that the reader chooses."""
    found = [row for row in rows_of_model(frames, "path_points", model) if row["share"] is not None]
    if not found:
        return None
    names = {row["name"].rpartition(".s")[0]: row["label"] for row in found}
    shown = subject_of(names, model, recipe)
    first, kept = names[shown], {*list(names.values())[:MOST_PATHS], names[shown]}
    points = [
        {"of": row["label"], "layer": row["layer"], "step": row["step"],
         "share": round(row["share"], 4)}
        for row in found if row["label"] in kept
    ]  # fmt: skip
    options = list(dict.fromkeys(point["of"] for point in points))
    layers = list(dict.fromkeys(point["layer"] for point in points))
    ranks = {layer: place for place, layer in enumerate(layers)}
    chart = (
        alt.Chart(data_of([{**point, "rank": ranks[point["layer"]]} for point in points]))
        .mark_line()
        .encode(
            x=alt.X("step:Q", title=voice("axis.step")),
            y=alt.Y("share:Q", title=voice("axis.path"), axis=alt.Axis(format="%")),
            color=alt.Color("rank:O", title=voice("legend.layer"), legend=None,
                            scale=alt.Scale(scheme="viridis")),
            detail="layer:N",
            tooltip=tooltips(
                layer=(voice("legend.layer"), None),
                step=(voice("axis.step"), "d"),
                share=(voice("axis.path"), ".1%"),
            ),
        )
        .add_params(choice_of(voice, options, first))
        .transform_filter("datum.of == chosen")
        .properties(width="container", height=280)
    )  # fmt: skip
    caption = voice("caption.paths", model=model, label=first)
    return Sketch(chart, caption + cut(voice, len(options), len(set(names.values()))))


def normal_curve(lowest: float, points: int = 40) -> list[dict[str, Any]]:
    """The share of L2 in the largest entries of independent normal ones, from a density on.

    With 2 (1 - Phi(z)) = d the share of the squares is d + 2 z phi(z).
    """
    densities = np.geomspace(lowest, 1, points)
    z = stats.norm.isf(densities / 2)
    shares = np.sqrt(densities + 2 * z * stats.norm.pdf(z))
    return [
        {"density": float(d), "share": float(s)} for d, s in zip(densities, shares, strict=True)
    ]
