"""A study whose trials are run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylab.plan.trials import plan_trials, read_inputs
from raylab.reduce.passes import task_vector_norms
from raylab.spec.study_file import parse_study
from raylab.train.attempts import quiet_libraries
from raylab.train.trial import TrialTask, run_trial

RECIPES = """
recipes:
  sft-d1: {method: sft, data: D1}
  dpo-d0: {method: dpo, chosen: D0, rejected: D1}
  merged: {method: dpo, chosen: D0, rejected: D1, parent: sft-d1}
  stacked: {method: dpo, chosen: D0, rejected: D1, parent: sft-d1, chain: stack}
"""


class Bench:
    """Plans a study text, and runs its trials by recipe."""

    def __init__(self, text: str, out: Path) -> None:
        self.study = parse_study(text, Path("study.yaml"))
        self.inputs = read_inputs(self.study)
        self.trials = {trial.name: trial for trial in plan_trials(self.study, self.inputs)}
        self.out = out

    def work(self, recipe: str) -> TrialTask:
        trial = self.trials[f"demo.{recipe}.s42"]
        base = self.inputs.base_models["demo"].directory
        return TrialTask(self.study, trial, self.trials, self.inputs.rows, base, str(self.out))

    def run(self, recipe: str):
        with quiet_libraries():
            return run_trial(self.work(recipe), task_vector_norms, lambda progress: None)

    def adapter(self, recipe: str) -> Path:
        return self.out / "trials" / self.work(recipe).trial.folder / "adapter"

    def adapter_bytes(self, recipe: str) -> bytes:
        return (self.adapter(recipe) / "adapter_model.safetensors").read_bytes()


@pytest.fixture
def bench(study_text, tmp_path, scratch):
    """Makes a Bench; keyword arguments replace parts of the study's text."""

    def make(out: str = "out", recipes: str = RECIPES, **replaced: str) -> Bench:
        text = study_text + recipes
        for old, new in replaced.items():
            field, _, value = new.partition("->")
            assert field in text, f"{old}: {field} is not in the study"
            text = text.replace(field, value)
        return Bench(text, tmp_path / out)

    return make
