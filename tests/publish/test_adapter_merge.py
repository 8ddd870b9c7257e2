"""A merge that a study wrote as an adapter is published as one, and answers as it was asked."""

from __future__ import annotations

import json

import pytest

from raylab.merge.study_merge import MergeTask, run_merge
from raylab.plan.merges import plan_merges
from raylab.plan.trials import read_inputs
from raylab.train.attempts import quiet_libraries
from tests.architectures import merged_by_peft
from tests.commands import exit_status
from tests.publish.conftest import RECIPES, Made

MERGES = """
merges:
  sum: {method: task_arithmetic, models: [first, second], weights: [0.5, 0.25], as: adapter}
  cut: {method: ties, models: [first, second], as: adapter, rank: 2}
"""


@pytest.fixture
def made(tmp_path, demo_base, study_text, scratch):
    """The trials of the other tests, and both merges of them."""
    made = Made(tmp_path / "out", demo_base, study_text + RECIPES + MERGES)
    trials = {trial.name: trial for trial in made.trials.values()}
    inputs = read_inputs(made.study)
    for merge in plan_merges(made.study, inputs, list(trials.values())):
        task = MergeTask(made.study, merge, trials, {}, inputs.rows, made.base, str(made.out))
        with quiet_libraries():
            run_merge(task)
    return made


def published(made, merge, folder, *options):
    """The facts of `raylab publish --dry-run`."""
    reference = f"{made.out}#demo.{merge}.s42"
    assert exit_status("publish", reference, "me/it", "--dry-run", "--out", folder, *options) == 0
    return json.loads((folder / "raylab.json").read_text())


@pytest.mark.slow
def test_published_merge_is_its_adapter_with_its_record_and_answers_as_it_did(made, tmp_path):
    for merge in ("sum", "cut"):
        facts = published(made, merge, tmp_path / merge)
        (source,) = made.out.glob(f"trials/demo.{merge}.s42-*/adapter")
        for name in ("adapter_model.safetensors", "adapter_config.json", "merge.json"):
            assert (tmp_path / merge / name).read_bytes() == (source / name).read_bytes()
        assert (facts["form"], facts["hub"], facts["adapters"]) == ("adapter_merge", None, [""])
        assert facts["agreement"]["same"] == facts["agreement"]["asked"] == 4
    card = (tmp_path / "cut" / "README.md").read_text()
    lost = json.loads((tmp_path / "cut" / "merge.json").read_text())["adapter"]["relative_error"]
    assert "A LoRA adapter of rank 2, merged of several adapters. Its delta is the best" in card
    assert f"relative error {lost:.3g}" in card and "| merge.method | ties |" in card
    assert "Made by TIES-Merging (`ties`; Yadav et al. 2023, arXiv:2306.01708) of `demo." in card
    assert "library_name: peft" in card and str(tmp_path / "out") not in card
    assert "the weighted sum of theirs" in (tmp_path / "sum" / "README.md").read_text()


def test_published_merge_as_a_whole_model_is_the_base_with_its_adapter(made, tmp_path):
    facts = published(made, "cut", tmp_path / "whole", "--merged", "--no-verify")
    assert (facts["form"], facts["adapters"]) == ("merged", [])
    (adapter,) = made.out.glob("trials/demo.cut.s42-*/adapter")
    found, exact = merged_by_peft(tmp_path / "whole"), merged_by_peft(made.base, adapter)
    assert all(found[name].equal(exact[name]) for name in exact)
