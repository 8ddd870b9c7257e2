"""Every figure of a whole study against Altair's schema of Vega-Lite."""

from __future__ import annotations

import altair as alt
import pytest

from raylab.report.figures import FIGURES
from raylab.report.figures.drawing import CONFIG, Drawing, themed
from raylab.report.figures.vega_lite import Chart, field, part
from raylab.report.findings.every_finding import find_all
from raylab.report.words import translator
from tests.report.conftest import MODEL
from tests.report.whole_merges import with_merges


@pytest.fixture(scope="module")
def findings(whole_tables):
    return find_all(with_merges(whole_tables))


@pytest.mark.parametrize("name", FIGURES)
def test_figure_of_a_whole_study_is_valid(findings, name):
    kind = FIGURES[name]
    figure = kind.draw(translator("en"), findings[kind.finding].frames, MODEL)
    spec = themed(figure.chart)
    assert alt.Chart.from_dict(spec).to_dict()["config"]


def test_chart_that_is_not_valid_is_refused_by_altair():
    chart = Chart(part(values=[])).mark("point").encode(x=field("a:Q", scale=part(type="none")))
    with pytest.raises(Exception, match="none"):
        alt.Chart.from_dict(chart.spec)


def test_drawing_of_a_value_that_json_lacks_raises():
    with pytest.raises(ValueError, match="JSON"):
        Drawing.of(Chart({"values": [{"a": float("nan")}]}))


def test_drawing_leaves_the_theme_as_it_was():
    before = repr(CONFIG)
    Drawing.of(Chart({"values": []}).mark("point"))
    assert repr(CONFIG) == before
