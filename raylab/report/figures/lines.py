"""Figures of lines: how concentrated, and along the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
from scipy import stats

from raylab.report.figures.context import (
    Frames,
    Sketch,
    choice_of,
    cut,
    data_of,
    rows_of_model,
    subject_of,
    tooltips,
)
from raylab.report.findings.finding import finite
from raylab.report.findings.seed_tables import Row
from raylab.report.words.translator import Voice

MOST = 8
MOST_PATHS = 20


_NORMS = ("L2", "L1")


def curve_chart(voice: Voice, frames: Frames, model: str, norm: str = "L2") -> Sketch | None:
    """The share of a norm in the largest entries of each difference, beside that of normal ones."""
    found = rows_of_model(frames, "curves", model)
    subjects: dict[str, str] = {}
    for row in sorted(found, key=lambda row: row["what"] != "difference"):
        if row["seed"] is not None:
            subjects.setdefault(row["label"], row["comparison"])
    kept = set(list(subjects.values())[:MOST])
    points = _shares([row for row in found if row["comparison"] in kept])
    if not points:
        return None
    at_densities = rows_of_model(frames, "densities_of", model)
    marked = _shares([row for row in at_densities if row["comparison"] in kept])
    names = list(dict.fromkeys(point["label"] for point in points))
    lowest = min(point["density"] for point in points)
    normal = [{**point, "label": voice("normal")} for point in normal_curve(lowest)]
    x = alt.X("density:Q", title=voice("axis.kept"), scale=alt.Scale(type="log"),
              axis=alt.Axis(format="~%"))  # fmt: skip
    # A share that is rounded to just above one would add a tick.
    y = alt.Y("share:Q", title=voice("axis.norm_share"), axis=alt.Axis(format="%"),
              scale=alt.Scale(domain=[0, 1]))  # fmt: skip
    colour = alt.Color("label:N", title=voice("legend.comparison"), sort=names,
                       legend=alt.Legend(columns=2))  # fmt: skip
    hover = tooltips(
        label=(voice("legend.comparison"), None),
        density=(voice("axis.kept"), ".3%"),
        share=(voice("axis.norm_share"), ".1%"),
    )
    lines = alt.Chart(data_of(points)).mark_line().encode(x=x, y=y, color=colour, tooltip=hover)
    dots = alt.Chart(data_of(marked)).mark_point(filled=True, size=45)
    dotted = alt.Chart(data_of(normal)).mark_line(strokeDash=[2, 3], color="#8a8a8a")
    layers = (
        dotted.encode(x=x, y=y, tooltip=hover),
        lines,
        dots.encode(x=x, y=y, color=colour, tooltip=hover),
    )
    chart = (
        alt.layer(*(layer.transform_filter("datum.of == chosen") for layer in layers))
        .add_params(choice_of(voice, _NORMS, norm))
        .properties(width="container", height=300)
    )
    values = {"model": model, "shown": len(names), "total": len(subjects), "norm": norm}
    return Sketch(chart, voice("caption.curve", **values))


def _shares(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Both norms' shares of rows of a density, those that are known."""
    return [
        {"of": norm, "label": row["label"], "density": row["density"], "share": round(share, 5)}
        for norm in _NORMS
        for row in rows
        if (share := finite(row[f"{norm.lower()}_share"])) is not None
    ]


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
    """The shares of L2 and L1 in the largest entries of independent normal ones, from a density on.

    With 2 (1 - Phi(z)) = d the share of the squares is d + 2 z phi(z), that of the magnitudes
    exp(-z^2 / 2).
    """
    densities = np.geomspace(lowest, 1, points)
    z = stats.norm.isf(densities / 2)
    shares = {
        "L2": np.sqrt(densities + 2 * z * stats.norm.pdf(z)),
        "L1": np.exp(-(z**2) / 2),
    }
    return [
        {"of": norm, "density": density, "share": share}
        for norm, found in shares.items()
        for density, share in zip(densities.tolist(), found.tolist(), strict=True)
    ]
