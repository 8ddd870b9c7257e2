"""Every figure of a whole study against Altair's schema of Vega-Lite."""

from __future__ import annotations

import altair as alt
import pytest

from raylab.report.figures import FIGURES
from raylab.report.figures.drawing import Drawing, unvalidated
from raylab.report.findings import find_all
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from tests.report.conftest import MODEL


@pytest.fixture(scope="module")
def findings(whole_tables):
    return find_all(Tables.of(whole_tables))


@pytest.mark.parametrize("name", FIGURES)
def test_figure_of_a_whole_study_is_valid(findings, name):
    kind = FIGURES[name]
    # Altair validates each part as it is made, and the whole at the end.
    figure = kind.draw(translator("en"), findings[kind.finding].frames, MODEL)
    assert figure.chart.to_dict()
    with unvalidated():
        same = kind.draw(translator("en"), findings[kind.finding].frames, MODEL)
    assert Drawing.of(same.chart) == Drawing.of(figure.chart)


def test_unvalidated_ends_with_its_block():
    with unvalidated():
        alt.Scale(type="no-such")
    with pytest.raises(Exception, match="no-such"):
        alt.Scale(type="no-such")
