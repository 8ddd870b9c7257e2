from __future__ import annotations

import xml.etree.ElementTree as ET

from raylab.report.figures import curve_figure, heat_figure, inline_svg, seed_figure
from raylab.report.summary import heat, seed_tables

from .conftest import comparison_of, make_curve, make_norms, make_trials


def _rows(norms=None):
    return seed_tables(make_trials(), norms or make_norms()).rows


def test_seed_figure_same_rows_give_the_same_bytes():
    first, second = seed_figure(_rows()), seed_figure(_rows())

    assert first == second
    assert first.png.startswith(b"\x89PNG")
    assert b"dc:date" not in first.svg


def test_seed_figure_shows_every_norm():
    svg = seed_figure(_rows()).svg.decode()

    assert all(text in svg for text in ("2.200", "2.218", "16.66", "45.29", "2.761", "2.696"))


def test_seed_figure_missing_and_zero_norms_are_told_apart():
    norms = [row for row in make_norms() if row["comparison"] != comparison_of(5, 6, 100)]
    for row in norms:
        if row["comparison"] == comparison_of(5, 6, 42):
            row["l2"] = 0.0

    svg = seed_figure(_rows(norms)).svg.decode()

    assert "not measured" in svg
    assert ">0</text>" in svg


def test_seed_figure_wide_span_has_a_log_axis():
    norms = make_norms()
    for row in norms:
        if row["comparison"] == comparison_of(1, 3, 100):
            row["l2"] = 9000.0

    svg = seed_figure(_rows(norms)).svg.decode()

    assert ">1000</text>" in svg
    assert ">4000</text>" not in svg


def test_heat_figure_without_values_is_drawn():
    norms = [row | {"l2": 0.0, "relative_l2": None} for row in make_norms()]
    found = heat(norms, comparison_of(5, 6, 42))

    ET.fromstring(heat_figure([found], ["DPO(D0) vs DPO(D1)"]).svg)


def test_curve_figure_null_shares_are_drawn_as_nothing():
    rows = [row | {"l1_share": None, "l2_share": None} for row in make_curve(4)]

    ET.fromstring(curve_figure({"a": rows}).svg)


def test_inline_svg_has_no_addresses_and_its_own_ids():
    svg = seed_figure(_rows()).svg

    text = inline_svg(svg, "one", 'norms of "a" & <b>')

    assert "http" not in text
    assert 'aria-label="norms of &quot;a&quot; &amp; &lt;b>"' in text
    assert "currentColor" in text
    ids = {part.split('"')[0] for part in text.split(' id="')[1:]}
    assert ids
    assert all(name.startswith("one-") for name in ids)
