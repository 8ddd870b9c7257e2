"""Trainings that are ended in the middle: they go on, and end in the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pyarrow import parquet
from trl import SFTTrainer

from raylab.reduce.passes import task_vector_norms
from raylab.store.attempt_state import clear_stop_request, request_stop, take_hang_stack
from raylab.store.filesystem import CHECKPOINTS, Store
from raylab.store.records import read_attempts
from raylab.train.attempts import Stopped, quiet_libraries
from raylab.train.trial import run_trial


@pytest.fixture(autouse=True)
def _asks_at_every_step(monkeypatch):
    """The trainings here are over within the second between two questions."""
    monkeypatch.setattr("raylab.train.resume._STOP_CHECK_SECONDS", 0.0)


EVERY_STEP = "evaluation: {->resources: {checkpoint_seconds: 0}\nevaluation: {"


def stopped_at(made, recipe, step):
    """Train until a checkpoint of `step` or later is kept, then stop."""
    store = Store(str(made.out))

    def listen(progress):
        if progress.get("checkpoint", 0) >= step:
            request_stop(store)

    with quiet_libraries(), pytest.raises(Stopped):
        run_trial(made.work(recipe), task_vector_norms, listen)
    clear_stop_request(store)


def checkpoint_files(made, recipe):
    return sorted((made.out / CHECKPOINTS / made.work(recipe).trial.folder).rglob("*.pt"))


def history(made, recipe):
    folder = made.adapter(recipe).parent
    table = parquet.read_table(folder / "history.parquet").select(["step", "loss", "grad_norm"])
    return [row for row in table.to_pylist() if row["loss"] is not None]


def paths(made, recipe):
    return (made.adapter(recipe).parent / "paths.parquet").read_bytes()


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0", "stacked"])
def test_training_that_was_stopped_goes_on_to_the_same_bytes(bench, recipe):
    whole, cut = bench("whole", all=EVERY_STEP), bench("cut", all=EVERY_STEP)
    if recipe == "stacked":
        whole.run("sft-d1")
        cut.run("sft-d1")
    expected = whole.run(recipe)
    for step in (3, 6):
        stopped_at(cut, recipe, step)
        assert checkpoint_files(cut, recipe)
    found = cut.run(recipe)
    assert cut.adapter_bytes(recipe) == whole.adapter_bytes(recipe)
    assert history(cut, recipe) == history(whole, recipe)
    assert paths(cut, recipe) == paths(whole, recipe)
    changing = {"seconds", "first_step_seconds", "tokens_per_second", "peak_memory_bytes"}
    assert {k: v for k, v in found.metrics.items() if k not in changing} == {
        k: v for k, v in expected.metrics.items() if k not in changing
    }
    assert not checkpoint_files(cut, recipe)
    assert [a.cause for a in read_attempts(Store(str(cut.out)), cut.work(recipe).trial.folder)] == [
        None
    ]


@pytest.mark.parametrize("damage", ["byte", "file", "name"])
def test_checkpoint_that_is_damaged_is_said_and_never_used(bench, damage):
    whole, cut = bench("whole", all=EVERY_STEP), bench("cut", all=EVERY_STEP)
    whole.run("sft-d1")
    stopped_at(cut, "sft-d1", 3)
    file = next(path for path in checkpoint_files(cut, "sft-d1") if path.name == "optimizer.pt")
    if damage == "byte":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "file":
        file.unlink()
    else:
        (file.parent.parent / "latest.json").write_text('{"step": 3')
    cut.run("sft-d1")
    assert cut.adapter_bytes("sft-d1") == whole.adapter_bytes("sft-d1")
    log = (cut.adapter("sft-d1").parent / "log.txt").read_text()
    assert "damaged, and not used" in log
    assert next(row["step"] for row in history(cut, "sft-d1")) == 1


def test_training_out_of_memory_goes_on_with_half_the_micro_batch(bench, monkeypatch):
    # Dropout draws by the shape of a batch; without it the updates are the same but for rounding.
    still = "evaluation: {->lora: {dropout: 0}\nevaluation: {"
    made = bench(all=still)
    step = SFTTrainer.training_step

    def limited(self, model, inputs, *rest):
        if len(inputs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("no room")
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(SFTTrainer, "training_step", limited)
    record = made.run("sft-d1")
    attempts = read_attempts(Store(str(made.out)), made.work("sft-d1").trial.folder)
    assert [(a.cause, a.final) for a in attempts] == [
        ("oom", False),
        ("oom", False),
        (None, True),
    ]
    assert record.metrics["micro_batch"] == 1
    monkeypatch.undo()
    roomy = bench("roomy", all=still).run("sft-d1")
    assert roomy.metrics["micro_batch"] == 4
    assert record.metrics["steps"] == roomy.metrics["steps"]
    assert record.metrics["train_loss"] == pytest.approx(roomy.metrics["train_loss"], rel=1e-3)


def test_training_out_of_memory_with_one_example_fails(bench, monkeypatch):
    made = bench()

    def never(self, *rest):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(SFTTrainer, "training_step", never)
    with pytest.raises(RuntimeError, match="allocate"):
        made.run("sft-d1")
    attempts = read_attempts(Store(str(made.out)), made.work("sft-d1").trial.folder)
    assert [(a.cause, a.final) for a in attempts] == [("oom", False), ("oom", False), ("oom", True)]


HANGING = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from trl import SFTTrainer
from conftest import Bench, RECIPES

step = SFTTrainer.training_step
def hanging(self, *rest):
    if self.state.global_step == 3:
        time.sleep(600)
    return step(self, *rest)
SFTTrainer.training_step = hanging
Bench(Path(sys.argv[2]).read_text() + RECIPES, Path(sys.argv[3])).run("sft-d1")
"""


def test_training_that_hangs_is_ended_with_its_stack_and_goes_on(bench, study_text, tmp_path):
    short = EVERY_STEP.replace("checkpoint_seconds: 0", "checkpoint_seconds: 0, timeout_seconds: 9")
    field, _, value = short.partition("->")
    (tmp_path / "head.yaml").write_text(study_text.replace(field, value))
    arguments = [Path(__file__).parent, tmp_path / "head.yaml", tmp_path / "cut"]
    command = [sys.executable, "-c", HANGING, *map(str, arguments)]
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 1
    whole, cut = bench("whole", all=short), bench("cut", all=short)
    stack = take_hang_stack(Store(str(cut.out)), cut.work("sft-d1").trial.id)
    assert "in hanging" in stack
    assert checkpoint_files(cut, "sft-d1")
    whole.run("sft-d1")
    cut.run("sft-d1")
    assert cut.adapter_bytes("sft-d1") == whole.adapter_bytes("sft-d1")
    assert paths(cut, "sft-d1") == paths(whole, "sft-d1")
    attempts = read_attempts(Store(str(cut.out)), cut.work("sft-d1").trial.folder)
    assert [(a.cause, a.final) for a in attempts] == [("preempted", False), (None, True)]
