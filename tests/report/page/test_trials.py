"""Merges in a report: named for what they are, beside trials, never as a data pair."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from raylab.report.findings.every_finding import find_all
from raylab.report.findings.over_seeds import seed_tables
from raylab.report.page.answers import answers_side_by_side, titles
from raylab.report.page.page import make_page
from raylab.report.page.render import build_report, render_markdown
from raylab.report.page.trials import flag_blocks, merge_blocks, trial_count
from raylab.report.study_tables import Tables
from raylab.report.terminal.printing import print_trials
from raylab.report.words import translator
from raylab.store.tables import read_table, rows_of, to_table, write_table
from tests.report.conftest import (
    MODEL,
    PROMPTS,
    make_merge,
    make_norms,
    make_samples,
    make_study,
    make_trials,
    name_of,
    write_study,
)

MERGES = {
    "both": {"method": "ties", "models": ["sft-d0.learning_rate=1e-5", "dpo-d0"], "lambda": 0.7},
    "mean": {"method": "linear", "models": ["dpo-d0", "dpo-d1"], "weights": [1, 0.5]},
    "some": {"method": "dare_ties", "models": ["dpo-d0"], "density": 0.3, "seed": 7},
}
DPO = (name_of("dpo-d0", 42), name_of("both", 42))


def planned():
    """Rows of trials and a merge, and of norms, one comparison being of the merge and a trial."""
    norms = make_norms()
    comparison = {**norms[0], "comparison": "~".join(DPO), "a": DPO[0], "b": DPO[1]}
    return [*make_trials(), make_merge()], [*norms, comparison]


def test_merges_are_counted_apart_from_trials():
    assert trial_count(translator(), []) == "0 trials"
    assert trial_count(translator(), make_trials()) == "22 trials"
    assert trial_count(translator(), [*make_trials(), make_merge()]) == "22 trials and 1 merge"
    stream = io.StringIO()
    rows = rows_of(to_table("trials", [*make_trials(), make_merge()]))
    print_trials(rows, Console(file=stream, width=100, color_system=None))
    assert "22 trials and 1 merge: 23 done" in stream.getvalue()


def test_comparison_with_a_merge_is_no_data_pair_but_is_counted():
    trials, norms = planned()
    found = seed_tables(Tables.of({"trials": trials, "norms": norms}))
    assert "~".join(DPO) in found.no_data_pairs
    without = Tables.of({"trials": make_trials(), "norms": make_norms()})
    assert found.rows == seed_tables(without).rows
    alike = [make_merge(), make_merge(name=f"{MODEL}.x.s42", data="D1")]
    pair = {**norms[0], "comparison": "p", "a": alike[0]["name"], "b": alike[1]["name"]}
    assert seed_tables(Tables.of({"trials": alike, "norms": [pair]})).no_data_pairs == ("p",)


@pytest.mark.parametrize("seed", [42, None])
def test_answers_of_a_merge_stand_beside_those_of_recipes(seed):
    trials = [*make_trials(), make_merge(seed)]
    found = answers_side_by_side(make_samples(trials), trials, MODEL)
    assert (found.seed, len(found.columns)) == (42, 12)
    assert found.columns[-1] == "TIES(SFT(D0), SFT(D1))"
    assert found.rows[0][1][-1]["name"] == trials[-1]["name"]


def test_answers_of_a_merge_without_any_trial_have_no_seed():
    merges = [make_merge(None)]
    found = answers_side_by_side(make_samples(merges), merges, MODEL)
    assert found.seed is None
    assert [prompt for prompt, _ in found.rows] == list(PROMPTS)


def test_titles_of_two_merges_alike_are_their_names():
    merges = [make_merge(), make_merge(name=name_of("other", 42))]
    assert titles(merges) == (f"{MODEL}.both", f"{MODEL}.other")
    trials = [*make_trials((42,))[:2], make_merge()]
    assert titles(trials) == ("SFT(D0) at 1e-5", "SFT(D0) at 1e-4", "TIES(SFT(D0), SFT(D1))")


def test_page_names_every_merge_with_all_that_decides_it():
    (block,) = merge_blocks(translator(), make_study(merges=MERGES))
    said = {item.head: item.text for item in block.items}
    assert said["both"] == (
        "TIES-Merging (Yadav et al. 2023, arXiv:2306.01708) of sft-d0.learning_rate=1e-5 (weight "
        "1, the largest 0.2 kept of the whole task vector) and dpo-d0 (weight 1, the largest 0.2 "
        "kept of the whole task vector); lambda 0.7."
    )
    assert "lambda" not in said["mean"] and "kept" not in said["mean"]
    assert "dpo-d1 (weight 0.5)" in said["mean"]
    assert said["some"].endswith("a random share of 0.3 kept); lambda 1; seed 7.")
    assert list(merge_blocks(translator(), make_study())) == []


def test_report_with_a_merge_tells_of_it_like_a_trial(store):
    tables = write_study(store)
    trials = [*tables["trials"], make_merge()]
    write_table(store, "trials", trials)
    write_table(store, "samples", make_samples(trials))
    study = make_study(merges=MERGES, comparisons=[{"pair": ["both", "dpo-d0"]}])
    build_report(study, store)
    text = store.read("report/report.md").decode()
    assert "22 trials and 1 merge (20 done, 1 failed and 2 blocked)" in text
    assert text.count("TIES(SFT(D0), SFT(D1))") >= 3
    assert f"{MODEL}.both.s42~{MODEL}.dpo-d0.s42".replace("~", "\\~") in text
    assert rows_of(read_table(store, "trials"))[-1]["method"] == "ties"


def test_page_of_merges_alone_has_no_learning_rate():
    study = make_study(recipes={}, merges=MERGES, comparisons=[])
    tables = Tables.of({"trials": [make_merge()]})
    page = make_page(study, tables, find_all(tables), translator())
    (studied,) = page.studied
    assert "0 trials and 1 merge (1 done)" in studied
    assert "recipe" not in studied and "data" not in studied
    assert "Learning rate" not in render_markdown(page)


MARKS = "answers in Japanese: 12 %, at least 50 % asked, such as 'The sky'"


def marked_trials():
    trials = make_trials()
    trials[0] |= {"marked": True, "marks": MARKS}
    return trials


def test_flag_blocks_name_marks_and_what_rests_on_the_model():
    trials = marked_trials()
    (block,) = flag_blocks(translator(), {"trials": trials, "norms": make_norms(), "rates": []})
    (item,) = block.items
    assert item.head == trials[0]["name"]
    assert MARKS in item.text and f"Compared in {trials[0]['name']}~" in item.text


def test_flag_blocks_without_a_marked_model_are_none():
    rates = [{"name": "finished", "answers": "greedy", "marks": None}]
    tables = {"trials": make_trials(), "norms": [], "rates": rates}
    assert list(flag_blocks(translator(), tables)) == []


def test_flag_blocks_name_finished_models_that_are_marked_after_trials():
    trials = marked_trials()
    rates = [
        {"name": trials[0]["name"], "answers": "greedy", "marks": MARKS},
        {"name": "finished", "answers": "greedy", "marks": MARKS},
        {"name": "finished", "answers": "expected", "marks": None},
    ]
    norms = [*make_norms(), {"comparison": "finished~demo", "a": "finished", "b": "demo"}]
    tables = {"trials": trials, "norms": norms, "rates": rates}
    (block,) = flag_blocks(translator(), tables)
    assert [item.head for item in block.items] == [trials[0]["name"], "finished"]
    assert block.items[1].text == f"marked: {MARKS}. Compared in finished~demo."


def test_page_shows_marked_models_in_the_section_on_trust():
    found = Tables.of({"trials": marked_trials(), "norms": make_norms()})
    page = make_page(make_study(), found, find_all(found), translator())
    texts = [
        item.text
        for section in page.sections
        if section.key == "trust"
        for block in section.blocks
        for item in getattr(block, "items", ())
    ]
    assert any(MARKS in text for text in texts)
