"""The first screen: places on its axes, its lines, dots and cautions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.report.findings.every_finding import find_all
from raylab.report.page.blocks import Items
from raylab.report.page.first_screen import Axis, first_screen
from raylab.report.page.page import make_page
from raylab.report.study_tables import Tables
from raylab.report.verdicts import cautions, verdict_rows
from raylab.report.words import LANGUAGES, translator
from tests.report.conftest import MODEL, make_study


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20))
def test_axis_keeps_the_order_of_values_within_its_ends(values):
    axis = Axis.of(values)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in [*places, axis.place(1)])


def test_axis_places_are_proportional_to_logarithms():
    axis = Axis(0.1, 1000.0)
    assert [axis.place(value) for value in (0.1, 1, 10, 100, 1000)] == [0, 25, 50, 75, 100]
    assert axis.place(math.inf) == 100
    assert axis.place(0.0) == 0


@given(st.floats(1e-3, 0.9), st.floats(1.1, 1e7))
def test_axis_ticks_are_round_and_on_the_axis(low, high):
    ticks = Axis(low, high).ticks
    assert all(low <= tick <= high for tick in ticks)
    assert {f"{tick:.0e}"[0] for tick in ticks} <= {"1", "2", "5"}


@given(st.floats(1e-12, 0.5), st.floats(2.1, 1e12))
def test_axis_ticks_are_few_and_have_the_baseline(low, high):
    ticks = Axis(low, high).ticks
    assert 1.0 in ticks and len(ticks) <= 8


@pytest.mark.parametrize("language", LANGUAGES)
def test_first_screen_has_every_factor_and_every_pair_of_the_frames(whole_tables, language):
    findings = find_all(Tables.of(whole_tables))
    translate = translator(language)
    screen = first_screen(translate, findings)
    rows = verdict_rows(findings["effects"].frames["effects"])
    assert [line.name for line in screen.lines] == [translate.factor(row.factor) for row in rows]
    for line, row in zip(screen.lines, rows, strict=True):
        for cell, verdict in zip(line.cells, row.verdicts, strict=True):
            above = verdict.times is not None and verdict.times > 1
            assert (cell.width > 0) == (verdict.times not in (None, 1.0))
            assert (cell.start >= screen.baseline) == (above or cell.width == 0)
    pairs = [
        row
        for row in findings["effects"].frames["effect_pairs"]
        if row["times"] and row["space"] != "delta"
    ]
    dots = [dot for _, _, found in screen.chart.rows for dot in found]
    assert len(dots) == len(pairs)
    low, high = screen.chart.band
    above = sum(dot.place > high for dot in dots)
    assert above == sum(row["times"] > 1.25 for row in pairs)
    assert f"{above}" in screen.chart.title and f"{len(pairs)}" in screen.chart.title
    assert low < high


def test_first_screen_has_three_cautions_and_the_number_of_the_others(whole_tables):
    findings = find_all(Tables.of(whole_tables))
    found = cautions(findings)
    screen = first_screen(translator(), findings)
    assert len(screen.cautions) == 3
    assert screen.more_cautions == len(found) - 3 > 0
    assert screen.cautions[0].text == translator().sentence(found[0])


def test_first_screen_of_nothing_says_that_nothing_was_measured():
    screen = first_screen(translator(), find_all(Tables.of({"trials": []})))
    (answer,) = screen.answers
    assert answer.startswith("No two recipes that differ in one factor alone were measured")
    assert (screen.lines, screen.chart, screen.cautions) == ((), None, ())


def test_first_screen_of_two_base_models_names_both_where_one_has_no_result(whole_tables):
    findings = find_all(Tables.of(whole_tables))
    screen = first_screen(translator(), findings, bases=[MODEL, "other"])
    assert [answer.split(":")[0] for answer in screen.answers] == [MODEL, "other"]
    assert {line.group for line in screen.lines} == {MODEL}
    assert {group for group, _, _ in screen.chart.rows} == {MODEL}


def test_sentences_of_verdicts_name_the_base_model_where_there_are_two(whole_tables):
    other = {**whole_tables["trials"][0], "model": "other", "name": "other.x.s1"}
    for trials, start in (([other], f"{MODEL}: "), ([], "")):
        tables = Tables.of(whole_tables | {"trials": [*whole_tables["trials"], *trials]})
        page = make_page(make_study(), tables, find_all(tables), translator())
        found = [item for block in page.blocks if isinstance(block, Items)
                 for item in block.items if item.place]  # fmt: skip
        assert found[0].head == f"{start}learning rate"
