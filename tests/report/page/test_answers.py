"""Sample answers side by side, and likelihoods of held-out answers."""

from __future__ import annotations

from raylab.report.page import answers
from raylab.report.page.answers import (
    answer_blocks,
    answers_side_by_side,
    likelihood_blocks,
    titles,
)
from raylab.report.words import translator
from tests.report.conftest import MODEL, PROMPTS, fail, make_samples, make_trials, name_of


def test_answers_side_by_side_failed_trial_keeps_its_column():
    trials = make_trials()
    fail(trials, name_of("sft-d2", 42), "failed", "oom", "out of memory")

    found = answers_side_by_side(make_samples(trials), trials, MODEL)

    assert found is not None
    assert found.seed == 42
    assert [prompt for prompt, _ in found.rows] == list(PROMPTS)
    place = found.columns.index("SFT(D2)")
    assert found.rows[0][1][place] is None
    assert found.statuses[place] == "failed"


def test_answers_of_chains_stand_beside_those_of_other_recipes():
    trials = make_trials()
    found = answers_side_by_side(make_samples(trials), trials, MODEL)
    assert "DPO(D0)(SFT D2)" in found.columns
    assert len(found.columns) == len({trial["recipe"] for trial in trials})


def test_answer_blocks_begin_with_the_answer_of_the_data():
    trials = make_trials((42,))
    samples = [row | {"expected": "教わった答え"} for row in make_samples(trials)]
    tables = {"samples": samples, "trials": trials}
    (block,) = answer_blocks(translator(), tables)
    for _, found in block.prompts:
        assert (found[0].model, found[0].text) == ("the data", "教わった答え")
        assert len(found) == 1 + len(trials)
    endless = [a for _, found in block.prompts for a in found if "did not stop" in a.text]
    assert {answer.grade for answer in endless} == {"fair"}


def test_answer_blocks_hold_as_many_prompts_as_there_is_room_for(monkeypatch):
    trials = make_trials((42,))
    tables = {"samples": make_samples(trials), "trials": trials}
    (whole,) = answer_blocks(translator(), tables)
    first = sum(len(answer.text) for answer in whole.prompts[0][1])
    monkeypatch.setattr(answers, "MOST_CHARACTERS", first + 1)
    (block,) = answer_blocks(translator(), tables)
    assert block.prompts == whole.prompts[:1]
    assert block.note.startswith(f"1 of {len(PROMPTS)} prompts")
    monkeypatch.setattr(answers, "MOST_CHARACTERS", 1)
    (block,) = answer_blocks(translator(), tables)
    assert block.prompts == whole.prompts[:1]


def test_answers_side_by_side_without_samples_is_none():
    assert answers_side_by_side([], make_trials(), MODEL) is None


def test_titles_repeated_labels_get_their_learning_rate():
    trials = [trial for trial in make_trials((42,)) if trial["label"] == "SFT(D0)"]

    assert titles(trials) == ("SFT(D0) at 1e-5", "SFT(D0) at 1e-4")


def test_likelihoods_stand_side_by_side_by_data_set():
    rows = [
        {"name": name, "data": data, "log_probability": value}
        for name, data, value in (("x", "D0", -1.5), ("x", "D1", -3.0), ("y", "D0", None))
    ]
    (fold,) = likelihood_blocks(translator(), {"likelihoods": rows})
    (grid,) = fold.blocks
    assert [column.name for column in grid.columns] == ["trial", "D0", "D1"]
    assert [row[0] for row in grid.rows] == ["x", "y"]
    assert grid.rows[0][1:] == ("-1.500", "-3.000")
    assert list(likelihood_blocks(translator(), {"likelihoods": []})) == []
