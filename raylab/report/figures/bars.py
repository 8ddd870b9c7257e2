"""Figures of lengths: differences against the seed, norms over seeds, the parts of chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from raylab.number_format import setting
from raylab.report.figures.context import (
    Frames,
    Sketch,
    axis_for,
    cut,
    data_of,
    rows_of_model,
    tooltips,
)
from raylab.report.findings.finding import finite
from raylab.report.words.translator import Voice

MOST = 40
_STEP = 18
_PARTS = ("l2_parent", "l2_child", "l2")


def floor_chart(voice: Voice, frames: Frames, model: str) -> Sketch | None:
    """How many times farther than another seed: a point for each difference, by factor."""
    found = [row for row in rows_of_model(frames, "differences", model) if finite(row["ratio"])]
    if not found:
        return None
    rows = sorted(found, key=lambda row: row["ratio"])
    rows = rows if len(rows) <= MOST else _spread(rows)
    # Two differences of one label would share a line of the figure.
    shown = [
        {**row, "said": voice.factor(row["factor"]),
         "line": f"{row['label']} ({voice.factor(row['factor'])})",
         "from": row["low"] and row["low"] / row["seed_distance"],
         "to": row["high"] and row["high"] / row["seed_distance"]}
        for row in rows
    ]  # fmt: skip
    ratios = [row["ratio"] for row in shown]
    ends = [min(*ratios, 1.0) / 1.2, max(*ratios, 1.0) * 1.2]
    scale = alt.Scale(type="log", domain=ends, nice=False)
    x = alt.X("ratio:Q", title=voice("axis.ratio"), scale=scale)
    y = alt.Y("line:N", title=None, sort=[row["line"] for row in shown])
    colour = alt.Color("said:N", title=voice("legend.factor"))
    base = alt.Chart(data_of(shown))
    points = base.mark_point(filled=True, size=90).encode(
        x=x,
        y=y,
        color=colour,
        tooltip=tooltips(
            line=(voice.column("difference"), None),
            ratio=(voice.column("ratio"), ".3g"),
            distance=(voice.column("distance"), ".4g"),
            seed_distance=(voice.column("seed_distance"), ".4g"),
            seeds=(voice.column("seeds"), "d"),
        ),
    )
    spans = base.mark_rule().encode(x="from:Q", x2="to:Q", y=y, color=colour)
    line = alt.Chart(data_of([{"at": 1.0}])).mark_rule().encode(x="at:Q")
    layers = [line, *([spans] if any(row["from"] for row in shown) else []), points]
    chart = alt.layer(*layers).properties(width="container", height=_STEP * len(shown))
    return Sketch(chart, voice("caption.floor", model=model) + cut(voice, len(shown), len(found)))


def _spread(rows: Sequence[Any]) -> list[Any]:
    """As many as fit, spread evenly over their order, both ends among them."""
    return [rows[round(place * (len(rows) - 1) / (MOST - 1))] for place in range(MOST)]


def seeds_chart(voice: Voice, frames: Frames, model: str) -> Sketch | None:
    """L2 of each data pair, one bar for each seed."""
    found = {
        row["recipes"]: row
        for name in ("seeds_like", "seeds_unlike")
        for row in rows_of_model(frames, name, model)
    }
    bars = [
        {"pair": f"{row['pair']}, {setting(row['learning_rate'])}", "seed": name[4:], "l2": value}
        for row in list(found.values())[:MOST]
        for name, value in row.items()
        if name.startswith("l2_s")
    ]
    if not bars:
        return None
    shown = min(len(found), MOST)
    caption = voice("caption.seeds", model=model) + cut(voice, shown, len(found))
    return Sketch(_grouped(voice, bars, "pair", "seed", "axis.l2", "legend.seed"), caption)


def chains_chart(voice: Voice, frames: Frames, model: str) -> Sketch | None:
    """L2 of the parent's part, the child's and the whole."""
    found = rows_of_model(frames, "chains", model)
    bars = [
        {"trial": f"{row['label']}, {row['seed']}", "part": voice(f"part.{part}"), "l2": row[part]}
        for row in found[:MOST]
        for part in _PARTS
    ]
    if not bars:
        return None
    caption = voice("caption.chains", model=model) + cut(voice, min(len(found), MOST), len(found))
    return Sketch(_grouped(voice, bars, "trial", "part", "axis.l2_part", "legend.part"), caption)


def _grouped(
    voice: Voice, bars: Sequence[dict[str, Any]], line: str, group: str, axis: str, legend: str
) -> alt.LayerChart:
    """Horizontal bars: `line` by `group`, their values beside them."""
    scale = axis_for([bar["l2"] for bar in bars])
    groups = list(dict.fromkeys(bar[group] for bar in bars))
    base = alt.Chart(data_of(bars)).encode(
        y=alt.Y(f"{line}:N", title=None, sort=list(dict.fromkeys(bar[line] for bar in bars))),
        yOffset=alt.YOffset(f"{group}:N", sort=groups),
        x=alt.X("l2:Q", title=voice(axis), scale=scale),
    )
    marks = base.mark_bar().encode(
        color=alt.Color(f"{group}:N", title=voice(legend), sort=groups),
        tooltip=tooltips(**{
            line: (voice.column(line), None),
            group: (voice(legend), None),
            "l2": (voice.column("l2"), ".4g"),
        }),
    )  # fmt: skip
    texts = base.mark_text(align="left", dx=3).encode(text=alt.Text("l2:Q", format=".4~g"))
    lines = len({bar[line] for bar in bars})
    height = lines * (_STEP if len(groups) < 2 else 16 * len(groups) + 6)
    return alt.layer(marks, texts).properties(width="container", height=height)
