"""A store of three trained recipes, one after the other, whose adapters are drawn, not trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel

from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.data.rows import Row, Turn
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import STUDY, Store
from raylab.store.records import RECORD, Record, trial_key, write_record
from raylab.train.base_checkpoint import StudyAdapters, start_of
from raylab.train.chat import teach_stopping
from raylab.train.evaluate.generate import Sample, generate_answers
from raylab.train.model import load_base, load_tokenizer
from raylab.train.save_artifacts import write_samples
from tests.architectures import save_adapter

RECIPES = """
recipes:
  first: {method: sft, data: D1}
  second: {method: dpo, chosen: D0, rejected: D1, parent: first}
  over: {method: dpo, chosen: D1, rejected: D0, parent: second, chain: stack}
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

QUESTIONS = [
    Row.of("空は何色ですか？", "空は青いです。"),
    Row.of(
        "そう思いますか？",
        "はい。",
        earlier=(Turn("user", "本はよい。"), Turn("assistant", "はい。")),
    ),
    Row.of("一年は何か月ありますか？", "一年は十二か月です。"),
]


class Made:
    """OUT with all trials done; `base` is where the study's base model lies."""

    def __init__(self, out: Path, base: Path, text: str) -> None:
        self.out, self.base = out, base
        self.study = study = parse_study(text, Path("study.yaml"))
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

    def record_answers(self, name: str, questions: Sequence[Row] = QUESTIONS) -> list[Sample]:
        """Let the trial have answered as it does at the end of its training."""
        trial, source = self.trials[name], self.study.base_models["demo"]
        by_name = {item.name: item for item in self.trials.values()}
        start = start_of(trial, StudyAdapters(by_name, self.base, self.store))
        model = load_base(start.checkpoint, self.study.quantization, start.frozen)
        tokenizer = load_tokenizer(self.base, source)
        teach_stopping(model, tokenizer)
        samples = generate_answers(
            PeftModel.from_pretrained(model, self.adapter(name)),
            tokenizer,
            questions,
            self.study.evaluation,
            seed=42,
        )
        write_samples(self.store, trial.folder, [sample.as_row() for sample in samples])
        self.write_record(name)
        return samples

    def write_record(self, name: str, **changes: Any) -> None:
        """Write the trial's record again, over the files that it has now."""
        folder = self.trials[name].folder
        record = Record.model_validate_json(self.store.read(trial_key(folder, RECORD)))
        write_record(self.store, folder, record.model_copy(update=changes))

    def _name_base(self, name: str) -> None:
        """As training does: the base model by the study's name, not by its path."""
        file = self.adapter(name) / "adapter_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"base_model_name_or_path": "demo"}))
        (self.adapter(name) / "README.md").unlink(missing_ok=True)

    def reference(self, name: str) -> str:
        return f"{self.out}#{self.trials[name].name}"


@pytest.fixture
def made(tmp_path, demo_base, study_text, scratch) -> Made:
    return Made(tmp_path / "out", demo_base, study_text + RECIPES)
