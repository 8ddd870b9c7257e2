"""Figures of lines: the concentration of norms, and norms along trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raylab.report.figures.figure import (
    CHOSEN,
    Choice,
    Figure,
    Frames,
    base_in_caption,
    choice_menu,
    data_of,
    rows_of_model,
    shown_note,
    tooltips,
)
from raylab.report.figures.vega_lite import Chart, field, layered, part
from raylab.report.study_tables import Row, finite
from raylab.report.words import Translator

MAX_CURVES = 8
MAX_TRAJECTORIES = 20
_NORMS = ("L2", "L1")


def concentration_figure(
    translate: Translator, frames: Frames, model: str, norm: str = "L2"
) -> Figure | None:
    """The share of a norm in the largest entries of each difference, beside that of normal ones."""
    rows = rows_of_model(frames, "curves", model)
    comparisons: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row["what"] != "difference"):
        if row["seed"] is not None:
            comparisons.setdefault(row["label"], row["comparison"])
    kept = set(list(comparisons.values())[:MAX_CURVES])
    points = _shares([row for row in rows if row["comparison"] in kept])
    if not points:
        return None
    densities = rows_of_model(frames, "densities_of", model)
    at_densities = _shares([row for row in densities if row["comparison"] in kept])
    labels = list(dict.fromkeys(point["label"] for point in points))
    lowest = min(point["density"] for point in points)
    normal = [{**point, "label": translate("normal")} for point in normal_curve(lowest)]
    x = field("density:Q", title=translate("axis-kept"), scale=part(type="log"),
              axis=part(format="~%"))  # fmt: skip
    # A share that is rounded to just above one would add a tick.
    y = field("share:Q", title=translate("axis-norm_share"), axis=part(format="%"),
              scale=part(domain=[0, 1]))  # fmt: skip
    color = field("label:N", title=translate("legend-comparison"), sort=labels,
                      legend=part(columns=2))  # fmt: skip
    hover = tooltips(
        label=(translate("legend-comparison"), None),
        density=(translate("axis-kept"), ".3%"),
        share=(translate("axis-norm_share"), ".1%"),
    )
    dotted = Chart(data_of(normal)).mark("line", strokeDash=[2, 3], color="#8a8a8a")
    lines = Chart(data_of(points)).mark("line")
    dots = Chart(data_of(at_densities)).mark("point", filled=True, size=45)
    layers = (
        dotted.encode(x=x, y=y, tooltip=hover),
        lines.encode(x=x, y=y, color=color, tooltip=hover),
        dots.encode(x=x, y=y, color=color, tooltip=hover),
    )
    chart = (
        layered(*(layer.filter(CHOSEN) for layer in layers))
        .params(choice_menu(translate, _NORMS, norm))
        .properties(width="container", height=300)
    )
    base = base_in_caption(frames, model)
    values = {"model": base, "shown": len(labels), "total": len(comparisons), "norm": norm}
    return Figure(chart, translate("caption-curve", **values))


def _shares(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The points of both norms that are known, for rows with a density."""
    return [
        {"of": norm, "label": row["label"], "density": row["density"], "share": round(share, 5)}
        for norm in _NORMS
        for row in rows
        if (share := finite(row[f"{norm.lower()}_share"])) is not None
    ]


def normal_curve(lowest: float, points: int = 40) -> list[dict[str, Any]]:
    """The shares of L2 and L1 in the largest of independent normal entries, from a density on.

    With 2 (1 - Phi(z)) = d the share of the squares is d + 2 z phi(z), that of the magnitudes
    exp(-z^2 / 2).
    """
    from scipy import special

    densities = np.geomspace(lowest, 1, points)
    z = -special.ndtri(densities / 2)
    phi = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    shares = {
        "L2": np.sqrt(densities + 2 * z * phi),
        "L1": np.exp(-(z**2) / 2),
    }
    return [
        {"of": norm, "density": density, "share": share}
        for norm, of_norm in shares.items()
        for density, share in zip(densities.tolist(), of_norm.tolist(), strict=True)
    ]


def trajectories_figure(
    translate: Translator, frames: Frames, model: str, recipe: str | None = None
) -> Figure | None:
    """The norm of each layer at the recorded steps, of one recipe that the reader chooses."""
    rows = [row for row in rows_of_model(frames, "path_points", model) if row["share"] is not None]
    if not rows:
        return None
    recipes = {row["name"].rpartition(".s")[0]: row["label"] for row in rows}
    choice = Choice.of(recipes, model, recipe, MAX_TRAJECTORIES)
    points = [
        {"of": row["label"], "layer": row["layer"], "step": row["step"],
         "share": round(row["share"], 4)}
        for row in rows if row["name"].rpartition(".s")[0] in choice.keys
    ]  # fmt: skip
    layers = dict.fromkeys(point["layer"] for point in points)
    ranks = {layer: rank for rank, layer in enumerate(layers)}
    chart = (
        Chart(data_of([{**point, "rank": ranks[point["layer"]]} for point in points]))
        .mark("line")
        .encode(
            x=field("step:Q", title=translate("axis-step")),
            y=field("share:Q", title=translate("axis-path"), axis=part(format="%")),
            color=field("rank:O", title=translate("legend-layer"), legend=None,
                            scale=part(scheme="viridis")),
            detail="layer:N",
            tooltip=tooltips(
                layer=(translate("legend-layer"), None),
                step=(translate("axis-step"), "d"),
                share=(translate("axis-path"), ".1%"),
            ),
        )
        .params(choice_menu(translate, choice.labels, choice.first))
        .filter(CHOSEN)
        .properties(width="container", height=280)
    )  # fmt: skip
    caption = translate("caption-paths", model=base_in_caption(frames, model), label=choice.first)
    return Figure(chart, caption + shown_note(translate, len(choice.labels), choice.total))
