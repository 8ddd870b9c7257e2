"""A store of two trained recipes, one after the other, whose adapters are drawn, not trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import STUDY, Store
from raylab.store.records import Record, write_record
from tests.architectures import save_adapter

RECIPES = """
recipes:
  first: {method: sft, data: D1}
  second: {method: dpo, chosen: D0, rejected: D1, parent: first}
"""
METRICS = {
    "l1": 120.5,
    "l2": 2.25,
    "train_loss": 0.75,
    "japanese_rate": 0.25,
    "answers": {"greedy": {"count": 4, "japanese_rate": 0.25}},
    "excerpts": {"japanese_rate": "The sky"},
    "likelihoods": {"D0": {"answers": 4, "tokens": 30, "log_probability": -1.5, "cut": 0}},
}


class Made:
    """OUT with both trials done; `base` is where the study's base model lies."""

    def __init__(self, out: Path, base: Path, text: str) -> None:
        self.out, self.base = out, base
        study = parse_study(text, Path("study.yaml"))
        self.store = Store(str(out))
        self.store.write(STUDY, text.encode())
        self.trials = {
            trial.variant.name: trial for trial in plan_trials(study, read_inputs(study))
        }
        for seed, (name, trial) in enumerate(self.trials.items(), 1):
            save_adapter(self.adapter(name), base, seed, r=8, lora_alpha=128)
            self._name_base(name)
            record = Record(
                name=trial.name,
                id=trial.id,
                identity=dict(trial.identity),
                data=dict(trial.variant.data_sets),
                evaluation="x",
                versions={"peft": "0.21.2"},
                metrics=METRICS,
            )
            write_record(self.store, trial.folder, record)

    def adapter(self, name: str) -> Path:
        return self.out / "trials" / self.trials[name].folder / "adapter"

    def _name_base(self, name: str) -> None:
        """As training does: the base model by the study's name, not by its path."""
        file = self.adapter(name) / "adapter_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"base_model_name_or_path": "demo"}))
        (self.adapter(name) / "README.md").unlink(missing_ok=True)

    def reference(self, name: str) -> str:
        return f"{self.out}#{self.trials[name].name}"


@pytest.fixture
def made(tmp_path, demo_base, study_text) -> Made:
    return Made(tmp_path / "out", demo_base, study_text + RECIPES)
