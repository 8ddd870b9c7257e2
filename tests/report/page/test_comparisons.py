"""Comparisons that were not measured, and published norms beside those measured."""

from __future__ import annotations

from raylab.report.findings.every_finding import find_all
from raylab.report.page.comparisons import left_out_blocks, published_blocks
from raylab.report.page.page import make_page
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from tests.report.conftest import make_norms, make_study, make_trials

DPO = {"pair": ["dpo-d0", "dpo-d1"], "seed": 42, "source": "table 1"}


def lines(norms, *reference):
    (grid,) = published_blocks(translator(), make_study(reference=reference), norms)
    return grid.rows


def measured(a="dpo-d0.s42", b="dpo-d1.s42"):
    names = {key: f"{row}" for key, row in (("a", a), ("b", b))}
    base = next(iter(make_study().base_models))
    row = {key: f"{base}.{name}" for key, name in names.items()}
    return [row | {"level": "all", "view": "delta", "l1": 30.0, "l2": 4.0}]


def test_reference_stands_beside_what_was_measured_with_the_ratio():
    (line,) = lines(measured(), DPO | {"l1": 20.0, "l2": 8.0})
    assert line == (
        *("dpo-d0 vs dpo-d1", "42", "20.00", "30.00", "1.500", "8.000", "4.000", "0.5000"),
        "table 1",
    )


def test_reference_is_found_whichever_side_comes_first():
    turned = measured(a="dpo-d1.s42", b="dpo-d0.s42")
    assert lines(turned, DPO | {"l2": 8.0})[0][6:8] == ("4.000", "0.5000")


def test_reference_that_was_not_measured_has_a_row_of_dashes():
    assert lines([], DPO | {"l2": 8.0})[0][2:8] == ("–", "–", "–", "8.000", "–", "–")


def test_page_without_reference_has_no_table_of_it():
    tables = Tables.of({"trials": make_trials(), "norms": make_norms()})
    for study, there in ((make_study(), False), (make_study(reference=[DPO | {"l2": 8.0}]), True)):
        page = make_page(study, tables, find_all(tables), translator())
        (blocks,) = (section.blocks for section in page.sections if section.key == "seeds")
        titles = [getattr(block, "title", "") for block in blocks]
        assert ("Measured and published norms" in titles) is there


def test_left_out_comparisons_give_their_reason_and_others_do_not():
    left = {"comparison": "a~b", "message": "left out: a is marked (why)"}
    undone = {"comparison": "c~d", "message": "c is not done"}
    (block,) = left_out_blocks({"comparisons": [left, undone, {**left, "message": None}]})
    assert [(item.head, item.text) for item in block.items] == [("a~b", left["message"])]
    assert list(left_out_blocks({"comparisons": []})) == []
