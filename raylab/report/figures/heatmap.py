"""The figure of places: norms by layer and module kind."""

from __future__ import annotations

import altair as alt

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
from raylab.report.findings.tensor_location import kind_order
from raylab.report.words.translator import Voice

MOST_SUBJECTS = 30
WIDE_SPAN = 10


def heatmap_chart(
    voice: Voice, frames: Frames, model: str, recipe: str | None = None
) -> Sketch | None:
    """Norms by layer and module kind of one recipe or difference, which the reader chooses.

    `recipe` is the one shown first: a recipe, or two joined by "~". Raises InputError where it
    was not measured.
    """
    found = [row for row in rows_of_model(frames, "where", model) if row["layer"] is not None]
    if not found:
        return None
    subjects = {row["name"]: row["label"] for row in sorted(found, key=_differences_first)}
    shown = subject_of(subjects, model, recipe)
    first, kept = subjects[shown], {*list(subjects)[:MOST_SUBJECTS], shown}
    cells = [
        {"of": row["label"], "layer": row["layer"], "kind": row["kind"],
         "value": row["value"] and float(f"{row['value']:.4g}")}
        for row in found if row["name"] in kept
    ]  # fmt: skip
    options = list(dict.fromkeys(subjects[key] for key in subjects if key in kept))
    values = [cell["value"] for cell in cells if finite(cell["value"])]
    wide = bool(values) and max(values) / min(values) > WIDE_SPAN
    # A cell that did not move has no place on a logarithmic scale, and is left blank.
    ends = {"type": "log", "domain": [min(values), max(values)]} if wide else {"type": "linear"}
    scale = alt.Scale(scheme="viridis", **ends)
    layers = len({cell["layer"] for cell in cells})
    measure = voice(f"measure.{found[0]['measure']}")
    hover = {"layer": (voice("axis.layer"), None), "kind": (voice("axis.kind"), None),
             "value": (measure, ".4g")}  # fmt: skip
    chart = (
        alt.Chart(data_of(cells))
        .mark_rect()
        .encode(
            x=alt.X("kind:N", title=None, axis=alt.Axis(labelAngle=-30),
                    sort=sorted({cell["kind"] for cell in cells}, key=kind_order)),
            y=alt.Y("layer:O", title=voice("axis.layer"), sort="descending"),
            color=alt.Color("value:Q", title=measure,
                            scale=scale,
                            legend=alt.Legend(format=".2g", gradientLength=200)),
            tooltip=tooltips(**hover),
        )
        .add_params(choice_of(voice, options, first))
        .transform_filter("datum.of == chosen")
        .properties(width="container", height=layers * _step(layers))
    )  # fmt: skip
    caption = voice("caption.heatmap", model=model, measure=found[0]["measure"], label=first)
    caption += cut(voice, len(options), len(set(subjects.values())))
    return Sketch(chart, caption)


def _step(layers: int) -> int:
    """The height of a layer: all of them within about 600 pixels."""
    return max(10, min(26, 600 // layers))


def _differences_first(row: Row) -> bool:
    return bool(row["what"] != "difference")
