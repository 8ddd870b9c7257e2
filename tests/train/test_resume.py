"""Trainings that are stopped or killed half-way: they resume, and end in the same bytes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trl import SFTTrainer

from raylab.store.attempt_state import clear_stop_request, request_stop, take_hang_stack
from raylab.store.checkpoints import read_latest
from raylab.store.filesystem import CHECKPOINTS, Store
from raylab.store.phase import REFERENCE, TRAINING
from raylab.store.records import read_attempts
from raylab.train.attempts import Stopped
from tests.train.conftest import EVALUATED, RECIPES, STUDY_TEXT, Bench, study_of

ROOT = Path(__file__).parents[2]
EVERY_STEP = "evaluation: {->resources: {checkpoint_seconds: 0}\nevaluation: {"


@pytest.fixture(autouse=True)
def _checks_at_every_step(monkeypatch):
    """The trainings here are over within the second between two checks."""
    monkeypatch.setattr("raylab.train.resume._STOP_CHECK_SECONDS", 0.0)


def stopped_at(made, recipe, step, seed=42):
    """Train until a checkpoint of `step` or later is stored, then stop.

    The trainings here are over within the second between two checks: every step checks.
    """

    def listen(progress):
        if progress.get("checkpoint", 0) >= step:
            request_stop(made.store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raylab.train.resume._STOP_CHECK_SECONDS", 0.0)
        with pytest.raises(Stopped):
            made.run(recipe, listen, seed)
    clear_stop_request(made.store)


def checkpoint_files(made, recipe):
    return sorted((made.out / CHECKPOINTS / made.task(recipe).trial.folder).rglob("*.pt"))


def causes_of(made, recipe):
    attempts = read_attempts(made.store, made.task(recipe).trial.folder)
    return [(attempt.cause, attempt.final) for attempt in attempts]


@pytest.mark.parametrize("recipe", ["sft-d1", "stacked"])
def test_training_that_was_stopped_goes_on_to_the_same_bytes(bench, trained, recipe):
    after = ("sft-d1",) if recipe == "stacked" else ()
    cut = bench("cut", evaluation=EVALUATED, after=after, all=EVERY_STEP)
    for step in (3, 6):
        stopped_at(cut, recipe, step)
        assert checkpoint_files(cut, recipe)
    found, expected = cut.run(recipe), trained.record(recipe)
    assert cut.adapter_bytes(recipe) == trained.adapter_bytes(recipe)
    assert cut.history(recipe) == trained.history(recipe)
    assert cut.trajectory(recipe).read_bytes() == trained.trajectory(recipe).read_bytes()
    changing = {"seconds", "first_step_seconds", "tokens_per_second", "peak_memory_bytes"}
    assert {k: v for k, v in found.metrics.items() if k not in changing} == {
        k: v for k, v in expected.metrics.items() if k not in changing
    }
    assert not checkpoint_files(cut, recipe)
    assert causes_of(cut, recipe) == [(None, True)]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """OUT of a trial that was stopped with a checkpoint of step 3; to be copied."""
    folder = tmp_path_factory.mktemp("stopped")
    field, _, value = EVERY_STEP.partition("->")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_SCRATCH", str(folder / "scratch"))
        made = Bench(study_of(STUDY_TEXT.replace(field, value)), folder / "out")
        stopped_at(made, "sft-d1", 3)
    return folder / "out"


@pytest.mark.parametrize("damage", ["byte", "file", "name"])
def test_checkpoint_that_is_damaged_is_reported_and_never_used(bench, trained, stopped, damage):
    cut = bench("cut", all=EVERY_STEP)
    shutil.copytree(stopped, cut.out)
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
    assert cut.adapter_bytes("sft-d1") == trained.adapter_bytes("sft-d1")
    log = (cut.folder("sft-d1") / "log.txt").read_text()
    assert "damaged, and not used" in log
    assert cut.history("sft-d1")[0]["step"] == 1


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
    assert causes_of(made, "sft-d1") == [("oom", False), ("oom", False), (None, True)]
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
    assert causes_of(made, "sft-d1") == [("oom", False), ("oom", False), ("oom", True)]


HANGING = """
import sys, time
from pathlib import Path
from trl import SFTTrainer
from tests.train.conftest import Bench

step = SFTTrainer.training_step
def hanging(self, *rest):
    if self.state.global_step == 3:
        time.sleep(600)
    return step(self, *rest)
SFTTrainer.training_step = hanging
Bench(Path(sys.argv[1]).read_text(), Path(sys.argv[2])).run("sft-d1")
"""


def test_training_that_hangs_is_ended_with_its_stack_and_goes_on(bench, trained, tmp_path):
    short = EVERY_STEP.replace("checkpoint_seconds: 0", "checkpoint_seconds: 0, timeout_seconds: 6")
    cut = bench("cut", all=short)
    field, _, value = short.partition("->")
    (tmp_path / "study.yaml").write_text(study_of(STUDY_TEXT.replace(field, value)))
    command = [sys.executable, "-c", HANGING, str(tmp_path / "study.yaml"), str(cut.out)]
    done = subprocess.run(command, check=False, stderr=subprocess.DEVNULL, cwd=ROOT)
    assert done.returncode == 1
    stack = take_hang_stack(cut.store, cut.task("sft-d1").trial.id)
    assert "in hanging" in stack
    assert checkpoint_files(cut, "sft-d1")
    cut.run("sft-d1")
    assert cut.adapter_bytes("sft-d1") == trained.adapter_bytes("sft-d1")
    assert cut.trajectory("sft-d1").read_bytes() == trained.trajectory("sft-d1").read_bytes()
    assert causes_of(cut, "sft-d1") == [("preempted", False), (None, True)]


def test_training_that_is_to_stop_before_its_first_step_ends_at_once(bench):
    cut = bench("cut", recipes=RECIPES)

    def listen(progress):
        if progress["phase"]["name"] == TRAINING:
            request_stop(cut.store)

    with pytest.raises(Stopped):
        cut.run("sft-d1", listen)
    assert not checkpoint_files(cut, "sft-d1")
    assert causes_of(cut, "sft-d1") == []
    with pytest.raises(Stopped):
        cut.run("sft-d1", lambda progress: pytest.fail("an attempt began after a stop"))
    assert {path.name for path in cut.folder("sft-d1").iterdir()} == {"log.txt"}


def test_checkpoint_names_the_steps_of_the_whole_training(stopped):
    store = Store(str(stopped))
    (folder,) = store.names(CHECKPOINTS)
    assert read_latest(store, folder).text == "goes on from step 4 of 10"


def test_training_that_is_to_stop_while_its_reference_is_prepared_ends_there(bench, monkeypatch):
    monkeypatch.setattr("raylab.train.progress.INTERVAL", 0.0)
    monkeypatch.setattr("raylab.store.phase.INTERVAL", 0.0)
    cut, seen = bench("cut", recipes=RECIPES), []

    def listen(progress):
        seen.append(progress["phase"])
        if progress["phase"]["name"] == REFERENCE:
            request_stop(cut.store)

    with pytest.raises(Stopped):
        cut.run("dpo-d0", listen)
    assert [p["name"] for p in seen] == ["loading the model", "preparing the data", REFERENCE]
    assert seen[-1]["done"] == 0 < seen[-1]["of"]


def test_training_asked_to_stop_at_its_last_step_ends_as_if_nobody_had_asked(bench, trained):
    cut = bench("cut", all=EVERY_STEP)

    def listen(progress):
        if (progress["step"] or 0) >= 9:
            request_stop(cut.store)

    cut.run("sft-d1", listen)
    assert cut.adapter_bytes("sft-d1") == trained.adapter_bytes("sft-d1")
    assert causes_of(cut, "sft-d1") == [(None, True)]


def test_progress_of_a_trial_names_and_counts_every_phase(bench, monkeypatch):
    monkeypatch.setattr("raylab.store.phase.INTERVAL", 0.0)
    made, seen = bench("phases", evaluation=EVALUATED), []
    made.run("dpo-d0", lambda progress: seen.append(progress["phase"]))
    names = list(dict.fromkeys(phase["name"] for phase in seen))
    assert names == [
        "loading the model",
        "preparing the data",
        "preparing the reference",
        "training",
        "held-out loss",
        "answering",
        "likelihoods",
        "measuring",
        "storing",
    ]
    counts = {name: [(p["done"], p["of"]) for p in seen if p["name"] == name] for name in names}
    assert counts["training"][0] == (0, 10) and (10, 10) in counts["training"]
    assert counts["answering"] == [(0, 12), (4, 12), (8, 12)]
    for name in ("preparing the reference", "held-out loss", "likelihoods"):
        done = [done for done, _ in counts[name]]
        (of,) = {of for _, of in counts[name]}
        assert of > 0 and max(done) <= of
        assert len(set(done)) > 1 or of == 1
    log = (made.folder("dpo-d0") / "log.txt").read_text()
    assert all(f" {name}" in log for name in names)
