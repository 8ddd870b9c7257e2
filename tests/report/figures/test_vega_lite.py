"""Charts against those of Altair, part by part."""

from __future__ import annotations

import altair as alt

from raylab.report.figures.vega_lite import Chart, expression, field, layered, part

ROWS = [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}]


def of_altair(chart):
    found = chart.to_dict()
    return {name: of for name, of in found.items() if name not in ("$schema", "config")}


def test_chart_of_one_mark_is_that_of_altair():
    data = part(values=ROWS)
    ours = (
        Chart(data)
        .mark("point", filled=True)
        .filter("datum.a > c")
        .calculate(d="datum.a * 2")
        .encode(
            x=field("a:Q", title=None, scale=part(type="log", domain=[1, 2])),
            y=field("b:N", axis=part(labelAngle=-30)),
            detail="b:O",
            color=field("d:Q", legend=part(columns=expression("1 + 1"))),
        )
        .params(part(name="c", value=0))
        .properties(width=300, title=part(text="Title"))
    )
    theirs = (
        alt.Chart(alt.Data(values=ROWS))
        .mark_point(filled=True)
        .transform_filter("datum.a > c")
        .transform_calculate(d="datum.a * 2")
        .encode(
            x=alt.X("a:Q", title=None, scale=alt.Scale(type="log", domain=[1, 2])),
            y=alt.Y("b:N", axis=alt.Axis(labelAngle=-30)),
            detail="b:O",
            color=alt.Color("d:Q", legend=alt.Legend(columns=alt.ExprRef(expr="1 + 1"))),
        )
        .add_params(alt.param(name="c", value=0))
        .properties(width=300, title=alt.TitleParams(text="Title"))
    )
    assert ours.spec == of_altair(theirs)


def test_layers_of_shared_data_are_those_of_altair():
    base = Chart(part(values=ROWS)).encode(y="b:N")
    ours = layered(base.mark("rule").encode(x="a:Q", x2="a"), base.mark("bar"))
    theirs = alt.Chart(alt.Data(values=ROWS)).encode(y="b:N")
    theirs = alt.layer(theirs.mark_rule().encode(x="a:Q", x2="a:Q"), theirs.mark_bar())
    assert ours.resolve_scale(x="independent").spec == of_altair(
        theirs.resolve_scale(x="independent")
    )


def test_layers_of_two_data_keep_their_own():
    first, second = (Chart(part(values=ROWS[:n])).mark("point") for n in (1, 2))
    assert layered(first, second).spec == {"layer": [first.spec, second.spec]}


def test_chart_stays_as_it_was():
    chart = Chart(part(values=ROWS)).mark("point").encode(x="a:Q")
    before = repr(chart.spec)
    chart.encode(y="b:N").filter("true").params(part(name="c")).properties(width=1)
    layered(chart, chart)
    assert repr(chart.spec) == before
