"""Finished models that merges take: asked what the merge is asked, and known by their content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from raylab.cluster.stages import write_trial_tables
from raylab.cluster.study_context import prepare
from raylab.errors import ModelError
from raylab.merge.study_merge import MergeTask, run_merge
from raylab.plan.cache import ASK_FINISHED, ASK_FINISHED_AGAIN
from raylab.results.left_out import left_out
from raylab.spec.study_file import parse_study
from raylab.store.records import read_attempts, read_records
from raylab.store.references import find_finished_trial, find_model
from raylab.store.tables import read_table
from raylab.train.attempts import quiet_libraries
from raylab.train.finished_model import FinishedTask, ask_finished_model

STUDY = """
merges:
  same: {method: linear, models: [whole]}
  again: {method: task_arithmetic, models: [part], as: adapter}
models:
  whole: {path: WHOLE, base_model: demo, data: D1}
  part: {path: PART, base_model: demo, data: elsewhere, seed: 42}
  idle: {path: WHOLE, base_model: demo}
"""


def write_adapter(directory: Path) -> None:
    draws = torch.Generator().manual_seed(3)
    stem = "base_model.model.model.layers.1.self_attn.q_proj"
    a, b = (torch.randn(shape, generator=draws) * 0.1 for shape in ((4, 192), (192, 4)))
    directory.mkdir()
    tensors = {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": ["q_proj"],
              "layers_to_transform": [1]}  # fmt: skip
    (directory / "adapter_config.json").write_text(json.dumps(config))


class Bench:
    """A study of two merges of finished models, and what asks them."""

    def __init__(self, text: str, folder: Path) -> None:
        self.text, self.out = text, str(folder / "out")
        self.context = self.prepared(text)
        self.base = self.context.inputs.base_models["demo"].directory
        self.models = {model.name: model for model in self.context.finished_parents}

    def prepared(self, text):
        return prepare(parse_study(text, Path("study.yaml")), self.out)

    def ask(self, name, context=None):
        context = context or self.context
        directory = context.inputs.models[name].directory
        task = FinishedTask(
            context.study, self.models[name], directory, context.inputs.rows, self.base, self.out
        )
        with quiet_libraries():
            return ask_finished_model(task)

    def merge(self, name):
        context = self.context
        merge = next(m for m in context.merges if m.merge == name)
        finished = {n: found.directory for n, found in context.inputs.models.items()}
        task = MergeTask(
            context.study, merge, {}, finished, context.inputs.rows, self.base, self.out
        )
        with quiet_libraries():
            return run_merge(task)

    def states(self, context=None):
        context = context or self.context
        states = context.states(context.stored())
        return {s.trial.name: (s.state, s.why) for s in states if s.trial.name in self.models}


@pytest.fixture
def bench(study_text, copied_base, tmp_path, scratch):
    write_adapter(tmp_path / "part")
    text = (study_text + STUDY).replace("WHOLE", str(copied_base))
    return Bench(text.replace("PART", str(tmp_path / "part")), tmp_path)


def test_finished_model_of_a_merge_answers_and_scores_as_a_merge_of_the_same_weights(bench):
    assert list(bench.models) == ["whole", "part"]
    for model, merge in {"whole": "same", "part": "again"}.items():
        asked, made = bench.ask(model), bench.merge(merge)
        answers = made.metrics["answers"], made.metrics["likelihoods"]
        assert (asked.metrics["answers"], asked.metrics["likelihoods"]) == answers
        assert asked.files["samples.jsonl"] == made.files["samples.jsonl"]
        assert set(asked.files) == {"samples.jsonl"}
        assert set(answers[1]) == {"D0", "D1"} and answers[0]["greedy"]["count"] == 4


def test_finished_model_has_rows_of_what_it_was_asked_and_none_of_the_trials_table(bench):
    bench.ask("whole")
    context = bench.prepared(bench.text)
    assert not write_trial_tables(context)
    names = {
        table: {row["name"] for row in read_table(context.store, table).to_pylist()}
        for table in ("trials", "rates", "rates_by_data", "likelihoods", "samples", "attempts")
    }
    assert names.pop("trials") == {"demo.same", "demo.again.s42"}
    assert all(found == {"whole"} for found in names.values())
    rows = read_table(context.store, "rates_by_data").to_pylist()
    assert {row["data"] for row in rows} == {"D1"}


def test_marked_finished_model_has_the_note_and_the_marks_of_a_trial(bench):
    limits = "evaluation: {limits: {style_rate: 0.9}, leave_out_marked: true, "
    text = bench.text.replace("evaluation: {", limits)
    context = bench.prepared(text)
    answers = bench.ask("whole", context).metrics["answers"]
    assert answers["greedy"]["style_rate"] == 0 and answers["expected"]["style_rate"] == 1
    broken = "answers in style: 0 %, at least 90 % asked"
    write_trial_tables(context)
    rows = {row["answers"]: row for row in read_table(context.store, "rates").to_pylist()}
    assert rows["greedy"]["marks"].startswith(f"{broken}, such as ")
    assert rows["expected"]["marks"] is None
    assert {row["note"] for row in rows.values()} == {f"whole is marked: {broken}"}
    notes = {r["name"]: r["note"] for r in read_table(context.store, "trials").to_pylist()}
    assert notes == {"demo.same": f"whole is marked: {broken}", "demo.again.s42": None}
    assert context.left_out(context.records()) == {"whole": broken}


def test_finished_model_is_asked_once_and_again_after_other_questions_or_another_content(bench):
    assert bench.states() == dict.fromkeys(("whole", "part"), ("to run", ASK_FINISHED))
    first = bench.ask("part")
    bench.context.write_study()
    assert bench.states()["part"] == ("cached", "")
    assert left_out(bench.context.store, bench.context.plan) == []
    other = bench.prepared(bench.text.replace("prompts: 4", "prompts: 2"))
    assert bench.states(other)["part"] == ("to run", ASK_FINISHED_AGAIN)
    second = bench.ask("part", other)
    assert second.id == first.id and second.metrics["answers"]["greedy"]["count"] == 2
    place = bench.context.inputs.models["part"].directory
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 8}))
    changed = bench.prepared(bench.text)
    assert bench.states(changed)["part"] == ("to run", ASK_FINISHED)
    assert find_model(f"{bench.out}#part").location.adapters == (place,)
    with pytest.raises(ModelError, match="names nothing that is done"):
        find_finished_trial(f"{bench.out}#part")


def test_finished_model_that_cannot_be_loaded_leaves_an_attempt_with_its_cause(bench):
    place = bench.context.inputs.models["part"].directory
    (place / "adapter_model.safetensors").write_bytes(bytes(9))
    with pytest.raises(Exception, match=r"(?i)header|metadata"):
        bench.ask("part")
    (attempt,) = read_attempts(bench.context.store, bench.models["part"].folder)
    assert attempt.cause == "error" and attempt.final
    assert read_records(bench.context.store).sound == {}


def test_finished_checkpoint_that_lacks_a_weight_is_not_asked_with_a_drawn_one(bench):
    file = bench.context.inputs.models["whole"].directory / "model.safetensors"
    weights = load_file(file)
    weights.pop("model.norm.weight")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no model\.norm\.weight \(1 in all\)"):
        bench.ask("whole")


def test_study_without_held_out_rows_asks_no_finished_model(bench):
    text = bench.text.replace("held_out: 0.2", "held_out: 0").replace("prompts: 4", "prompts: 0")
    assert list(bench.prepared(text).finished_parents) == []
