"""Trackers get what a trial measured, under its name; what cannot track is refused in time."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import struct

import pytest

from raylab.cluster import stages
from raylab.cluster.callbacks.tracking import TRACKERS, metrics_of, tracking_callbacks
from raylab.errors import InputError
from raylab.plan.trials import plan_trials
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import Store
from raylab.store.tables import read_table
from tests.cluster.whole import context_of, quiet
from tests.studies import make_inputs, make_study

RECIPES = """
recipes:
  sft-d1: {method: sft, data: D1}
"""
MEASURED = ("train_loss", "l2", "style_rate", "seconds")


def test_trackers_of_a_study_change_no_trial():
    def ids(study):
        return [trial.id for trial in plan_trials(study, make_inputs(study))]

    assert ids(make_study()) == ids(make_study(tracking=["mlflow", "wandb"]))


def test_metrics_of_result_has_numbers_alone_at_the_step_of_the_training():
    result = {"step": 12, "steps": 90, "loss": 0.5, "seconds_left": 3.0, "training_iteration": 4}
    tune = {"pid": 1, "done": False, "timestamp": 2, "config": {"seed": 1}, "trial_id": "12"}
    assert metrics_of(result | tune) == {"steps": 90, "loss": 0.5, "training_iteration": 12}
    assert metrics_of({"steps": 90, "l2": 1.5, "training_iteration": 9})["training_iteration"] == 90
    assert metrics_of({"l2": 1.5, "training_iteration": 9})["training_iteration"] == 9


@pytest.mark.parametrize("name", TRACKERS)
def test_tracker_that_is_not_installed_is_refused_before_anything_is_written(
    name, study_text, tmp_path, monkeypatch
):
    missing = dataclasses.replace(TRACKERS[name], library="no_such_library")
    monkeypatch.setitem(TRACKERS, name, missing)
    with pytest.raises(
        InputError, match=f"(?s){name}, which is not.*pip install {missing.install}"
    ):
        context_of(study_text + RECIPES + f"tracking: [{name}]\n", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tracker_wandb_without_a_key_is_refused(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="WANDB_API_KEY"):
        tracking_callbacks(make_study(tracking=["wandb"]), Store(str(tmp_path)))


def needs(library):
    """Skip where `library` is not installed; mlflow is part of the extra that CI installs."""
    if importlib.util.find_spec(library) is None:
        assert library != "mlflow" or not os.environ.get("CI"), "the extra dev has mlflow-skinny"
        pytest.skip(f"{library} is not installed")


def test_tracker_mlflow_without_its_store_is_refused(tmp_path, monkeypatch):
    needs("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at.all")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        tracking_callbacks(make_study(tracking=["mlflow"]), Store(str(tmp_path)))


def train(text, out):
    """The row of the trials table of a study's one trial, which is trained."""
    assert stages.train(context_of(text, out), None, quiet)
    (row,) = read_table(Store(str(out)), "trials").to_pylist()
    return row


@pytest.mark.slow
@pytest.mark.cluster
def test_tracker_mlflow_holds_what_the_trial_measured(two_gpus, study_text, tmp_path, monkeypatch):
    needs("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    row = train(study_text + RECIPES + "tracking: [mlflow]\n", tmp_path / "out")

    from mlflow import MlflowClient

    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert (run.info.run_name, run.info.status) == ("demo.sft-d1.s42", "FINISHED")
    assert {name: run.data.metrics[name] for name in MEASURED} == {n: row[n] for n in MEASURED}
    assert run.data.params["learning_rate"] == "0.001"
    assert run.data.params["trial_id"] == row["trial_id"]
    (last,) = client.get_metric_history(run.info.run_id, "l2")
    assert last.step == row["steps"]


@pytest.mark.slow
@pytest.mark.cluster
def test_tracker_wandb_offline_holds_what_the_trial_measured(
    two_gpus, study_text, tmp_path, tmp_path_factory, monkeypatch
):
    needs("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "secret" * 6 + "0000")
    row = train(study_text + RECIPES + "tracking: [wandb]\n", tmp_path / "out")
    (file,) = (tmp_path / "out").glob("wandb/offline-run-*/*.wandb")
    kept = list(records(file.read_bytes()))
    (run,) = [record.run for record in kept if record.WhichOneof("record_type") == "run"]
    assert (run.display_name, run.run_group, run.run_id) == (
        "demo.sft-d1.s42",
        "tiny",
        row["trial_id"],
    )
    history = [record.history for record in kept if record.WhichOneof("record_type") == "history"]
    last = {item.key or item.nested_key[0]: float(item.value_json) for item in history[-1].item}
    assert {name: last[name] for name in MEASURED} == {n: row[n] for n in MEASURED}
    assert last["_step"] == row["steps"]
    kept_and_logged = [*tmp_path.rglob("*"), *tmp_path_factory.getbasetemp().rglob("*.log")]
    files = [path for path in kept_and_logged if path.is_file()]
    assert any(path.name == "runtime_env_agent.log" for path in files)
    assert not [path for path in files if b"secretsecret" in path.read_bytes()]


def records(data):
    """The records of a .wandb file: LevelDB's log format, after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    block, at, part = 32768, 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(part)
            part = b""


def test_study_with_an_unknown_tracker_is_refused(study_text):
    with pytest.raises(InputError, match="tracking"):
        parse_study(study_text + RECIPES + "tracking: [tensorbored]\n", "study.yaml")
