"""The figure of the loss along lines between models, above the straight line between their ends."""

from __future__ import annotations

from raylab.report.figures.figure import (
    CHOSEN,
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
from raylab.report.findings.connectivity import DIFFERENCE, SEEDS
from raylab.report.study_tables import Row
from raylab.report.words import Translator

MAX_LABELS = 12


def connectivity_figure(
    translate: Translator, frames: Frames, model: str, data: str | None = None
) -> Figure | None:
    """The excess of the held-out loss along each line, on one data set that the reader chooses.

    `data` is the one shown first; without it, the one with the highest barrier.
    """
    rows = [row for row in rows_of_model(frames, "lines", model) if row["excess"] is not None]
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: row["what"] == SEEDS)
    labels = list(dict.fromkeys(_label(translate, row) for row in ordered))
    shown = labels[:MAX_LABELS]
    sets: list[str] = list(dict.fromkeys(row["data"] for row in rows))
    highest: str = max(rows, key=lambda row: row["excess"])["data"]
    first = data if data is not None and data in sets else highest
    points = [
        {"of": row["data"], "label": label, "line": f"{row['a']} ~ {row['b']}",
         "what": translate(f"line-{row['what']}"), "t": row["t"], "loss": row["loss"],
         "excess": row["excess"]}
        for row in ordered if (label := _label(translate, row)) in shown
    ]  # fmt: skip
    kinds = [translate(f"line-{what}") for what in (DIFFERENCE, SEEDS)]
    color = field("label:N", title=translate("legend-line"), sort=shown,
                      legend=part(columns=2, labelLimit=300))  # fmt: skip
    dash = field("what:N", title=None, sort=kinds, legend=None,
                          scale=part(domain=kinds, range=[[1, 0], [5, 4]]))  # fmt: skip
    chart = (
        Chart(data_of(points))
        .mark("line", point=True)
        .encode(
            x=field("t:Q", title=translate("axis-t"), scale=part(domain=[0, 1])),
            y=field("excess:Q", title=translate("axis-excess")),
            color=color,
            strokeDash=dash,
            detail="line:N",
            tooltip=tooltips(
                line=(translate("legend-line"), None),
                t=(translate("axis-t"), ".3f"),
                loss=(translate("axis-loss"), ".4f"),
                excess=(translate("axis-excess"), ".4f"),
            ),
        )
        .params(choice_menu(translate, sets, first))
        .filter(CHOSEN)
        .properties(width="container", height=300)
    )
    caption = translate("caption-connectivity", model=base_in_caption(frames, model), label=first)
    return Figure(chart, caption + shown_note(translate, len(shown), len(labels)))


def _label(translate: Translator, row: Row) -> str:
    """The label of a line in the legend; that of two seeds says so."""
    label: str = row["label"]
    return translate("line-of_seeds", label=label) if row["what"] == SEEDS else label
