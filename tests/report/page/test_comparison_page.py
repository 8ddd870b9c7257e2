"""Two studies side by side as a page: its answer, dots, verdicts, tables and names."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from raylab.report.compare import compare
from raylab.report.page.blocks import Grid, Items, Text
from raylab.report.page.comparison_page import comparison_page, side_names
from raylab.report.page.comparison_screen import Side
from raylab.report.page.render import render_html, render_markdown
from raylab.report.study_tables import Tables
from raylab.report.words import LANGUAGES, translator
from tests.report.conftest import make_norms, make_study, make_trials, name_of

DPO = name_of("dpo-d0", 42)


def tables(seeds=(42, 100), **changes):
    """Trials whose L2 is 10 at seed 42 and 12 at 100, so that the spread is 2."""
    trials = make_trials(seeds)
    for row in trials:
        row.update(l2=10.0 if row["seed"] == 42 else 12.0, eval_loss=1.0, train_loss=None)
        row.update(changes.get(row["name"], {}))
    return Tables.of({"trials": trials, "norms": make_norms(seeds)})


def page(*others, study=None, language="en", mine=None, **changes):
    one, other = mine or tables(), others[0] if others else tables(**changes)
    studies = make_study(), study or make_study()
    sides = Side("one", studies[0], one), Side("two", studies[1], other)
    found = compare((studies[0], one), (studies[1], other))
    return comparison_page(translator(language), sides, found)


def grid(found, name):
    return next(grid for grid in found.grids if grid.name == name)


def keys(found):
    return [section.key for section in found.sections]


def texts(found):
    """Every sentence that the page says outside of tables."""
    said = [*found.first.answers, *(item.text for item in found.first.cautions)]
    said += [block.text for block in found.blocks if isinstance(block, Text)]
    return said + [item.text for block in found.blocks if isinstance(block, Items)
                   for item in block.items]  # fmt: skip


def test_answer_counts_what_moved_and_names_the_largest():
    both = {name_of("dpo-d0", seed): {"l2": 30.0 + seed / 100} for seed in (42, 100)}
    found = page(**both)
    total = len(compare((make_study(), tables()), (make_study(), tables())).numbers)
    # From 10 to 30.42 and from 12 to 31, over a spread of 2.
    assert found.first.answers[0] == (
        f"2 of {total} numbers moved by more than the seed; the largest change is that of L2 of "
        f"{DPO}, from 10 to 30.4, 10.2× the seed-to-seed spread."
    )
    assert [row[:2] for row in grid(found, "moved").rows] == [
        (DPO, "L2"), (name_of("dpo-d0", 100), "L2"),
    ]  # fmt: skip
    assert grid(found, "moved").rows[0][2:] == ("10.00", "30.42", "2.000", "10.2×",
                                                "more than the seed")  # fmt: skip


def test_answer_of_the_same_tables_says_so_and_draws_nothing():
    found = page()
    assert found.first.answers[0].startswith("All ")
    assert found.first.chart is None and "moved" not in keys(found) and not found.first.cautions


def test_answer_without_a_change_beyond_the_seed_names_the_largest_within():
    found = page(**{DPO: {"l2": 11.0}})
    assert found.first.answers[0].startswith("No number moved by more than the seed: 1 of ")
    assert "from 10 to 11, 0.5× the seed-to-seed spread" in found.first.answers[0]
    assert grid(found, "within").rows == ((DPO, "L2", "10.00", "11.00", "2.000", "0.5×"),)


def test_change_where_all_seeds_agree_stands_at_the_end_of_the_axis():
    both = {name_of("dpo-d0", seed): {"eval_loss": 1.5} for seed in (42, 100)}
    found = page(**both)
    ((_, _, dots),) = found.first.chart.rows
    assert [dot.place for dot in dots] == [100, 100]
    assert "beyond the seed-to-seed spread" in found.first.answers[0]
    assert {row[5] for row in grid(found, "moved").rows} == {"∞×"}


def test_change_by_rounding_alone_stands_at_the_start_of_the_axis():
    found = page(**{DPO: {"l2": 10.0 + 1e-9}, name_of("sft-d0", 42): {}})
    ((_, _, (dot,)),) = found.first.chart.rows
    assert dot.place == 0 and len(found.first.chart.ticks) <= 4


def test_single_seeds_leave_the_part_of_the_seed_open():
    found = page(tables((42,), **{DPO: {"l2": 13.0}}), mine=tables((42,)))
    assert "no seed-to-seed spread is known" in found.first.answers[0]
    assert found.first.chart is None
    assert [item.head for item in found.first.cautions] == ["unknown"]
    assert grid(found, "unknown").rows == ((DPO, "L2", "10.00", "13.00"),)


def test_studies_that_share_nothing_are_a_page():
    other = Tables.of({"trials": [], "norms": []})
    found = page(other)
    assert found.first.answers == ("The two studies share no number.",)
    assert "two" not in [column.name for column in grid(found, "only_one").columns]
    assert len(grid(found, "only_one").rows) == len(
        compare((make_study(), tables()), (make_study(), other)).numbers
    )


def test_every_number_is_counted_once_and_every_change_is_a_dot():
    changes = {row["name"]: {"l2": row["l2"], "l1": row["l1"] * 1.01} for row in make_trials()[:9]}
    other = tables((42, 100, 7), **changes)
    result = compare((make_study(), tables()), (make_study(), other))
    found = page(other)
    counts = Counter(row.verdict for row in result.numbers)
    rows = {one.name: len(one.rows) for one in found.grids}
    assert rows.get("moved", 0) == counts["beyond"] + counts["near"]
    assert (rows.get("within", 0), rows["only_other"]) == (counts["within"], counts["only_other"])
    dots = [dot for _, _, of in found.first.chart.rows for dot in of]
    assert len(dots) == counts["beyond"] + counts["near"] + counts["within"] > 9
    (same,) = (text for text in texts(found) if "to the last bit" in text)
    assert same.startswith(f"{counts['same']} numbers")


def test_fields_that_differ_are_written_as_in_a_study():
    found = page(study=make_study(held_out=0.3, seeds=[42, 100, 7]))
    assert grid(found, "asked").rows == (
        ("held_out", "0.1", "0.3"), ("seeds", "42, 100", "42, 100, 7"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(whole_tables):
    """The page of the whole study beside itself without predictions and with a larger delta."""
    trials = [dict(row) for row in whole_tables["trials"]]
    for row in trials:
        if row["l2"] and row["method"] == "dpo":
            row["l2"] *= 1.5
    other = {**whole_tables, "trials": trials, "functions": []}
    return page(Tables.of(other), mine=Tables.of(whole_tables))


def test_verdicts_of_both_studies_stand_one_below_the_other(whole):
    for factor, lines in whole.first.by_group:
        assert factor and [line.name for line in lines] == ["one", "two"]
        assert lines[0].cells[2].word != lines[1].cells[2].word == "not measured"
    differing = sum(
        a.word != b.word
        for _, (one, two) in whole.first.by_group
        for a, b in zip(one.cells, two.cells, strict=True)
    )
    assert whole.first.answers[1].startswith(f"{differing} of ")


def test_every_cell_leads_to_a_sentence_of_its_own(whole):
    items = [item for block in whole.blocks if isinstance(block, Items) for item in block.items]
    places = [item.place for item in items]
    assert len(set(places)) == len(places) > 5
    cells = [cell for line in whole.first.lines for cell in line.cells]
    assert {cell.place for cell in cells if cell.number} == set(places)
    assert all(not cell.place for cell in cells if not cell.number)


def test_no_sentence_stands_twice(whole):
    said = texts(whole)
    assert [text for text, count in Counter(said).items() if count > 1] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_is_written_in_every_language(whole, language):
    both = {name_of("dpo-d0", seed): {"l2": 30.0} for seed in (42, 100)}
    found = page(language=language, study=make_study(held_out=0.3, seeds=[7]), **both)
    html, markdown = render_html(found), render_markdown(found)
    for text in (html, markdown):
        assert DPO in text and "held" in text and not re.search(r"\{ ?\$", text)
    assert 'class="plot"' in html and "vegaEmbed = " not in html


@pytest.mark.parametrize(
    ("studies", "addresses", "names"),
    [
        (("a", "b"), ("runs/x", "runs/x"), ("a", "b")),
        (("a", "a"), ("runs/x", "runs/y"), ("x", "y")),
        (("a", "a"), ("one/x", "two/x"), ("one/x", "two/x")),
        (("a", "a"), ("runs/x", "runs/x"), ("a (1)", "a (2)")),
    ],
)
def test_side_names_differ(studies, addresses, names):
    assert side_names(studies, addresses) == names


def test_grid_longer_than_a_page_says_what_has_the_rest():
    seeds = tuple(range(1, 40))
    found = page(Tables.of({"trials": [], "norms": []}), mine=tables(seeds))
    only = grid(found, "only_one")
    assert isinstance(only, Grid) and len(only.rows) == 500
    assert only.note.startswith("500 of ") and "raylab compare --json" in only.note
