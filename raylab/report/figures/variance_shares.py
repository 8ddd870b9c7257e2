"""The figure of shares of variance: as a whole, by layer and by module kind."""

from __future__ import annotations

import altair as alt

from raylab.report.figures.context import Frames, Sketch, data_of, rows_of_model, tooltips
from raylab.report.words.translator import Voice

_PREFERRED = ("log_l2", "log_relative_l2", "cosine")


def attribution_chart(
    voice: Voice, frames: Frames, model: str, response: str | None = None
) -> Sketch | None:
    """A bar for each place, cut by factor; of log L2 unless another response is asked for."""
    found = rows_of_model(frames, "attribution", model)
    responses = [name for name in _PREFERRED if any(row["response"] == name for row in found)]
    if not responses:
        return None
    wanted = response or responses[0]
    rows = [row for row in found if row["response"] == wanted]
    bars = [
        {
            "place": voice("place.all") if row["level"] == "all" else row["key"],
            "factor": voice.factor(row["factor"]),
            "share": row["share"],
        }
        for row in rows
    ]
    factors = list(dict.fromkeys(bar["factor"] for bar in bars))
    places = list(dict.fromkeys(bar["place"] for bar in bars))
    chart = (
        alt.Chart(data_of(bars))
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title=voice("axis.share"), axis=alt.Axis(format="%"), stack="zero"),
            y=alt.Y("place:N", title=None, sort=places),
            color=alt.Color("factor:N", title=voice("legend.factor"), sort=factors),
            order=alt.Order("rank:Q"),
            tooltip=tooltips(
                place=(voice.column("key"), None),
                factor=(voice("legend.factor"), None),
                share=(voice.column("share"), ".2%"),
            ),
        )
        .transform_calculate(rank=f"indexof({factors!r}, datum.factor)")
        .properties(width="container", height=16 * len(places))
    )
    return Sketch(chart, voice("caption.attribution", model=model, response=wanted))
