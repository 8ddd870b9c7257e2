"""The figure of norms by layer and module kind: a cell for each, of one recipe or difference."""

from __future__ import annotations

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
from raylab.report.figures.vega_lite import Chart, field, part
from raylab.report.findings.by_layer import kind_order
from raylab.report.study_tables import finite
from raylab.report.words import Translator

MAX_SUBJECTS = 30
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
        Chart(data_of(cells))
        .mark("rect")
        .encode(
            x=field("kind:N", title=None, axis=part(labelAngle=-30),
                    sort=sorted({cell["kind"] for cell in cells}, key=kind_order)),
            y=field("layer:O", title=translate("axis-layer"), sort="descending"),
            color=field("value:Q", title=measure, scale=part(scheme="viridis", **ends),
                            legend=part(format=".2g", gradientLength=200)),
            tooltip=tooltips(
                layer=(translate("axis-layer"), None),
                kind=(translate("axis-kind"), None),
                value=(measure, ".4g"),
            ),
        )
        # All layers within about 600 pixels.
        .properties(width="container", height=layers * max(10, min(26, 600 // layers)))
    )  # fmt: skip
    if len(choice.labels) > 1:
        menu = choice_menu(translate, choice.labels, choice.first)
        chart = chart.params(menu).filter(CHOSEN)
    caption = translate(
        "caption-heatmap", model=base_in_caption(frames, model), measure=measure, label=choice.first
    )
    return Figure(chart, caption + shown_note(translate, len(choice.labels), choice.total))
