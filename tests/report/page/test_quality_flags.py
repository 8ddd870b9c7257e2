"""What the report says of marked models, of what was left out, and of likelihoods."""

from __future__ import annotations

import io

from rich.console import Console

from raylab.report.findings import find_all
from raylab.report.page.page import make_page
from raylab.report.page.quality_flags import left_out_blocks, likelihood_blocks, mark_blocks
from raylab.report.study_tables import Tables
from raylab.report.terminal.printing import print_left_out
from raylab.report.words import translator
from raylab.store.schemas import SCHEMAS
from tests.report.conftest import make_norms, make_study, make_trials

VOICE = translator()
MARKS = "answers in Japanese: 12 %, at least 50 % asked, such as 'The sky'"


def tables(**changed):
    return {name: [] for name in SCHEMAS} | changed


def marked_trials():
    trials = make_trials()
    trials[0] |= {"marked": True, "marks": MARKS}
    return trials


def test_mark_blocks_name_marks_and_what_rests_on_the_model():
    trials = marked_trials()
    (block,) = mark_blocks(VOICE, tables(trials=trials, norms=make_norms()))
    (item,) = block.items
    assert item.head == trials[0]["name"]
    assert MARKS in item.text and f"Compared in {trials[0]['name']}~" in item.text


def test_blocks_without_anything_to_say_are_none():
    nothing = tables(trials=make_trials())
    assert list(left_out_blocks(nothing)) == []
    for make in (mark_blocks, likelihood_blocks):
        assert list(make(VOICE, nothing)) == []


def test_left_out_comparisons_give_their_reason_and_others_do_not():
    left = {"comparison": "a~b", "message": "left out: a is marked (why)"}
    undone = {"comparison": "c~d", "message": "c is not done"}
    (block,) = left_out_blocks(tables(comparisons=[left, undone, {**left, "message": None}]))
    assert [(item.head, item.text) for item in block.items] == [("a~b", left["message"])]


def test_likelihoods_stand_side_by_side_by_data_set():
    rows = [
        {"name": name, "data": data, "log_probability": value}
        for name, data, value in (("x", "D0", -1.5), ("x", "D1", -3.0), ("y", "D0", None))
    ]
    (grid,) = likelihood_blocks(VOICE, tables(likelihoods=rows))
    assert [column.name for column in grid.columns] == ["trial", "D0", "D1"]
    assert [row[0] for row in grid.rows] == ["x", "y"]
    assert grid.rows[0][1:] == ("-1.500", "-3.000")


def test_page_shows_marks_where_trust_is_told():
    found = Tables.of({"trials": marked_trials(), "norms": make_norms()})
    page = make_page(make_study(), found, find_all(found), VOICE)
    texts = [
        item.text
        for section in page.sections
        if section.key == "trust"
        for block in section.blocks
        for item in getattr(block, "items", ())
    ]
    assert any(MARKS in text for text in texts)


def test_terminal_names_comparisons_that_were_not_measured():
    text = io.StringIO()
    done = {"comparison": "x~y", "status": "done", "message": None}
    left = {"comparison": "a~b", "status": "blocked", "message": "left out: a is marked (why)"}
    print_left_out([done, left], Console(file=text, width=120))
    assert text.getvalue() == "a~b not measured: left out: a is marked (why)\n"
