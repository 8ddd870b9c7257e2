"""Paths of real trainings, held against deltas that are formed whole; nothing is disturbed."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.numpy import load_file
from transformers import TrainerCallback

from raylab.cluster import stages
from raylab.store.filesystem import CHECKPOINTS
from raylab.store.tables import read_table, to_table
from raylab.train import trajectory, trial
from raylab.train.factor_norms import SKETCH
from raylab.train.trajectory import CHECKPOINTED, MOST, PathRecorder, interval
from tests.oracles.paths import deltas, path
from tests.train.conftest import EVALUATED, STUDY_TEXT, Bench, study_of
from tests.train.test_factor_norms import adapted
from tests.train.test_resume import EVERY_STEP, stopped_at


def rows_of(made, recipe):
    return parquet.read_table(made.trajectory(recipe)).to_pylist()


def close(value, expected, **tolerance):
    if expected is None:
        return value is None
    return value == pytest.approx(float(expected), **tolerance)


@pytest.fixture
def whole(monkeypatch):
    """The deltas of the last training at each of its records, formed whole."""
    points = {}

    class Watched(PathRecorder):
        def on_train_begin(self, *rest, model=None, **kwargs):
            self.model = model
            points.clear()
            super().on_train_begin(*rest, model=model, **kwargs)

        def _record(self, step):
            points[step] = deltas(self.model)
            super()._record(step)

    monkeypatch.setattr(trial, "PathRecorder", Watched)
    return points


def test_path_of_every_chain_is_that_of_the_whole_deltas(bench, whole):
    made = bench()
    for recipe in ("sft-d1", "merged", "stacked"):
        record = made.run(recipe)
        rows, expected = rows_of(made, recipe), path(whole)
        assert [(row["step"], row["layer"]) for row in rows] == [row[:2] for row in expected]
        assert [row["layer"] for row in rows[:4]] == [f"model.layers.{n}" for n in range(4)]
        for row, (*_, norm, length, turn) in zip(rows, expected, strict=True):
            assert close(row["norm"], norm, rel=1e-12)
            assert close(row["step_norm"], length, rel=1e-12)
            assert close(row["turn"], turn, abs=1e-12)
            assert len(row["sketch"]) == SKETCH
        last = [row["norm"] for row in rows if row["step"] == record.metrics["steps"]]
        l2 = record.metrics["l2_child" if "l2_child" in record.metrics else "l2"]
        assert np.linalg.norm(last) == pytest.approx(l2, rel=1e-5)


def test_path_starts_at_nothing_and_is_undefined_where_too_few_records_are():
    model, recorder = adapted(drawn=False), PathRecorder()
    recorder.on_train_begin(ARGS, state(0, 9), None, model=model)
    for step in (1, 2):
        move(model)
        recorder.on_step_end(ARGS, state(step, 9), None)
    rows = recorder.table().to_pylist()
    first, second, third = ([row for row in rows if row["step"] == step] for step in range(3))
    assert all(row["norm"] == 0 and row["step_norm"] is row["turn"] is None for row in first)
    assert all(set(row["sketch"]) == {0.0} for row in first)
    assert all(row["step_norm"] == pytest.approx(row["norm"]) for row in second)
    assert all(row["norm"] > 0 and row["turn"] is None for row in second)
    assert all(-1 <= row["turn"] <= 1 for row in third)


def test_path_with_a_step_of_nothing_has_no_turn():
    model, recorder = adapted(), PathRecorder()
    recorder.on_train_begin(ARGS, state(0, 9), None, model=model)
    for step in (1, 2, 3):
        if step != 2:
            move(model)
        recorder.on_step_end(ARGS, state(step, 9), None)
    table = recorder.table().to_pylist()
    at = {step: [row for row in table if row["step"] == step] for step in range(4)}
    assert all(row["step_norm"] == 0 and row["turn"] is None for row in at[2])
    assert all(row["step_norm"] > 0 and row["turn"] is None for row in at[3])


ARGS = SimpleNamespace(output_dir="nowhere")


def state(step, last):
    return SimpleNamespace(global_step=step, max_steps=last)


def move(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter += 0.01 * torch.linspace(0, 1, parameter.numel()).view_as(parameter).cos()


@pytest.mark.parametrize("steps", [1, 2, MOST - 2, MOST - 1, MOST, MOST + 1, 64, 100, 264, 12345])
def test_records_of_any_training_are_few_with_both_ends(steps):
    every = interval(steps)
    found = [s for s in range(steps + 1) if s % every == 0 or s == steps]
    assert len(found) <= MOST <= 64
    assert found[0] == 0 and found[-1] == steps
    assert every == 1 or -(-steps // (every - 1)) + 1 > MOST


def test_recorder_of_a_long_training_records_no_more_than_that():
    model, recorder = adapted(), PathRecorder()
    recorder.on_train_begin(ARGS, state(0, 500), None, model=model)
    for step in range(1, 501):
        move(model) if step % 50 == 0 else None
        recorder.on_step_end(ARGS, state(step, 500), None)
    steps = recorder.table()["step"].unique().to_pylist()
    assert steps == [*range(0, 500, 11), 500]


def test_record_takes_no_random_number_and_no_gradient():
    model, recorder = adapted(), PathRecorder()
    parameters = [value for value in model.parameters() if value.requires_grad]
    for value in parameters:
        value.grad = torch.ones_like(value)
    before = [value.detach().clone() for value in parameters]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    threads = torch.get_num_threads()
    recorder.on_train_begin(ARGS, state(0, 3), None, model=model)
    for step in (1, 2, 3):
        recorder.on_step_end(ARGS, state(step, 3), None)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])
    assert torch.get_num_threads() == threads
    assert all(torch.equal(value, old) for value, old in zip(parameters, before, strict=True))
    assert all((value.grad == 1).all() for value in parameters)


class NoRecorder(TrainerCallback):
    def table(self):
        return pa.table({})


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0"])
def test_training_with_and_without_a_recorder_has_the_same_losses_and_bytes(
    bench, trained, recipe, monkeypatch
):
    plain = bench()
    trained.record(recipe)
    monkeypatch.setattr(trial, "PathRecorder", NoRecorder)
    plain.run(recipe)
    assert plain.adapter_bytes(recipe) == trained.adapter_bytes(recipe)
    assert plain.history(recipe) == trained.history(recipe)


def record_every_third(patch):
    """Record at every third step."""
    patch.setattr(trajectory, "interval", lambda steps: 3)


@pytest.fixture
def every_third(trained, monkeypatch):
    """The trainings that tests share are made before, with records as they are by default."""
    record_every_third(monkeypatch)


@pytest.fixture(scope="module")
def thirds(tmp_path_factory):
    """A training with a record at every third step, which was never stopped; to be read only."""
    folder = tmp_path_factory.mktemp("thirds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_SCRATCH", str(folder / "scratch"))
        record_every_third(patch)
        made = Bench(study_of(STUDY_TEXT), folder / "out")
        made.run("sft-d1")
    return made


def test_path_of_a_training_that_resumed_is_that_of_one_never_stopped(bench, thirds, every_third):
    cut = bench(all=EVERY_STEP)
    # Before the first record, at a record, and between two.
    for step in (1, 3, 4, 8):
        stopped_at(cut, "sft-d1", step)
    cut.run("sft-d1")
    assert [row["step"] for row in rows_of(cut, "sft-d1")][::4] == [0, 3, 6, 9, 10]
    assert cut.trajectory("sft-d1").read_bytes() == thirds.trajectory("sft-d1").read_bytes()


def test_path_from_a_checkpoint_without_records_has_those_from_there_on(bench, thirds, every_third):
    cut = bench(all=EVERY_STEP)
    stopped_at(cut, "sft-d1", 4)
    folder = cut.out / CHECKPOINTS / cut.task("sft-d1").trial.folder
    latest = json.loads((folder / "latest.json").read_text())
    del latest["files"][CHECKPOINTED]
    (folder / "latest.json").write_text(json.dumps(latest))
    cut.run("sft-d1")
    found, known = rows_of(cut, "sft-d1"), rows_of(thirds, "sft-d1")
    late = [row for row in known if row["step"] > 4]
    keys = ("step", "layer", "norm", "sketch")
    assert [[row[k] for k in keys] for row in found] == [[row[k] for k in keys] for row in late]
    assert all(row["step_norm"] is row["turn"] is None for row in found if row["step"] == 6)
    assert all(row["turn"] is None for row in found if row["step"] == 9)
    assert found[-1] == known[-1]


def test_checkpoint_holds_two_adapters_and_no_pickle(bench, every_third):
    made = bench(all=EVERY_STEP)
    stopped_at(made, "sft-d1", 7)
    file = next((made.out / CHECKPOINTS).rglob(CHECKPOINTED))
    adapter = load_file(next(file.parent.glob("adapter_model.safetensors")))
    found = load_file(file)
    assert found["steps"].tolist() == [0, 3, 6]
    kept = [value for name, value in found.items() if name.startswith(("left.", "right."))]
    assert sum(v.size for v in kept) == 2 * sum(v.size for v in adapter.values())
    assert {value.dtype for value in kept} == {np.dtype("float32")}


def test_sketch_of_two_seeds_starts_at_one_place_and_parts(bench, trained):
    other = bench(seeds="seeds: [42]->seeds: [42, 43]")
    other.run("sft-d1", seed=43)
    rows = parquet.read_table(other.folder("sft-d1", seed=43) / "paths.parquet").to_pylist()
    apart = [
        np.linalg.norm(np.subtract(a["sketch"], b["sketch"]))
        for a, b in zip(rows_of(trained, "sft-d1"), rows, strict=True)
    ]
    assert set(apart[:4]) == {0.0}
    assert min(apart[4:]) > 0


def test_paths_table_has_the_rows_of_trials_whose_records_name_them(bench, trained):
    made = bench(after=("sft-d1",), evaluation=EVALUATED)
    record = trained.record("sft-d1")
    prepared = stages.prepare(made.study, str(made.out))
    assert "paths.parquet" in record.files
    stages.write_trial_tables(prepared)
    table = read_table(made.store, "paths")
    assert table["name"].unique().to_pylist() == ["demo.sft-d1.s42"]
    assert table["trial_id"].unique().to_pylist() == [record.id]
    assert table.drop_columns(["trial_id", "name", "note"]).to_pylist() == rows_of(made, "sft-d1")

    file = made.folder("sft-d1") / "record.json"
    known = json.loads(file.read_text())
    del known["files"]["paths.parquet"]
    file.write_text(json.dumps(known))
    made.trajectory("sft-d1").unlink()
    stages.write_trial_tables(prepared)
    assert read_table(made.store, "paths").equals(to_table("paths", []))
    trials = read_table(made.store, "trials").to_pylist()
    assert [row["status"] for row in trials if row["recipe"] == "sft-d1"] == ["done"]
