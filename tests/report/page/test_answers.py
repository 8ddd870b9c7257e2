"""Sample answers side by side, and likelihoods of held-out answers."""

from __future__ import annotations

from raylab.report.page.answers import answers_side_by_side, likelihood_blocks, titles
from raylab.report.words import translator
from tests.report.conftest import MODEL, PROMPTS, fail, make_samples, make_trials, name_of


def test_answers_side_by_side_failed_trial_keeps_its_column():
    trials = make_trials()
    fail(trials, name_of("sft-d2", 42), "failed", "oom", "out of memory")

    found = answers_side_by_side(make_samples(trials), trials, MODEL)

    assert found is not None
    assert found.seed == 42
    assert [prompt for prompt, _ in found.rows] == list(PROMPTS[:4])
    assert found.total_prompts == 5
    place = found.columns.index("SFT(D2) at 1e-5")
    assert found.rows[0][1][place] is None
    assert found.statuses[place] == "failed"


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
    (grid,) = likelihood_blocks(translator(), {"likelihoods": rows})
    assert [column.name for column in grid.columns] == ["trial", "D0", "D1"]
    assert [row[0] for row in grid.rows] == ["x", "y"]
    assert grid.rows[0][1:] == ("-1.500", "-3.000")
    assert list(likelihood_blocks(translator(), {"likelihoods": []})) == []
