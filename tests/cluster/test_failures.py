"""What the driver makes of a worker that died, without a cluster where none is needed."""

from __future__ import annotations

import os
import subprocess
import time
from types import SimpleNamespace

import pytest
import ray

from raylab.cluster.callbacks.failures import FailureCallback, post_mortem
from raylab.plan.trials import plan_trials
from raylab.results.table_rows import read_results, trial_rows
from raylab.store.attempt_state import (
    RunningAttempt,
    begin_attempt,
    hang_stack_file,
    kernel_oom_kills,
    read_running,
)
from raylab.store.filesystem import Store
from raylab.store.records import read_attempts
from raylab.store.tables import read_table
from tests.cluster.killing import RAYLAB
from tests.conftest import DEMO, STUDY
from tests.studies import make_inputs, make_study


@pytest.fixture
def planned(tmp_path, scratch):
    study = make_study(seeds=[1], training={"batch_size": 4})
    return Store(str(tmp_path / "out")), plan_trials(study, make_inputs(study))


@pytest.fixture
def tune_trial(tmp_path):
    """Makes what Tune knows of a trial: an error, which it appends to a file."""

    def make(trial, error="the actor died"):
        file = tmp_path / f"{trial.id}.txt"
        with file.open("a") as errors:
            errors.write(f"Failure # 1 (occurred at noon)\n{error}\n")
        return _known(trial, str(file))

    return make


def _known(trial, file):
    return SimpleNamespace(
        trial_id=trial.id,
        error_file=file,
        max_failures=1,
        run_metadata=SimpleNamespace(num_failures=1),
    )


def running(node_id="", kills=0, attempt=1):
    return RunningAttempt(
        attempt=attempt, node="n", node_id=node_id, started=time.time(), oom_kills=kills
    )


def test_failures_death_that_is_begun_again_leaves_an_attempt(planned, tune_trial):
    store, trials = planned
    begin_attempt(store, trials[0].folder, running())
    FailureCallback(store, trials).on_trial_recover(1, [], tune_trial(trials[0]))
    (attempt,) = read_attempts(store, trials[0].folder)
    assert (attempt.cause, attempt.final, attempt.node) == ("preempted", False, "n")
    assert trial_rows(read_results(trials, store))[0]["status"] == "pending"
    assert read_running(store, trials[0].folder) is None


def test_failures_death_that_ends_the_trial_is_an_error_that_says_why(planned, tune_trial):
    store, trials = planned
    FailureCallback(store, trials).on_trial_error(1, [], tune_trial(trials[0]))
    row = trial_rows(read_results(trials, store))[0]
    assert (row["status"], row["cause"]) == ("failed", "error")
    assert "the actor died" in row["message"]
    assert "without a checkpoint" in row["message"]


def test_failures_checkpoint_makes_up_for_the_deaths_before_it(planned, tune_trial):
    store, trials = planned
    callback, trial = FailureCallback(store, trials), tune_trial(trials[0])
    callback.on_trial_result(1, [], trial, {"checkpoint": 5})
    assert trial.max_failures == 2
    trial.run_metadata.num_failures = 2
    callback.on_trial_result(1, [], trial, {"checkpoint": 5, "loss": 1.0})
    assert trial.max_failures == 2
    callback.on_trial_result(1, [], trial, {"checkpoint": 9})
    assert trial.max_failures == 3


def test_failures_memory_that_ran_out_may_do_so_once_for_every_micro_batch(planned, tune_trial):
    store, trials = planned
    callback = FailureCallback(store, trials)
    words = "Task was killed due to the node running low on memory."
    allowed = []
    for attempt in (1, 2, 3):
        trial = tune_trial(trials[0], words)
        trial.run_metadata.num_failures = 7
        begin_attempt(store, trials[0].folder, running(attempt=attempt))
        callback.on_trial_recover(1, [], trial)
        allowed.append(trial.max_failures == 8)
    assert allowed == [True, False, False]
    assert {a.cause for a in read_attempts(store, trials[0].folder)} == {"oom"}


@pytest.mark.cluster
def test_post_mortem_of_a_stuck_worker_brings_its_stack(two_gpus, planned):
    store, trials = planned
    node = ray.get_runtime_context().get_node_id()
    file = hang_stack_file(store, trials[0].id)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("Thread 0x1 in training_step")
    lost = running(node, kernel_oom_kills())
    from raylab.cluster.callbacks import failures

    scratch = {"env_vars": {"RAYLAB_SCRATCH": str(file.parents[2])}}
    asked = failures._ask_node.options(runtime_env=scratch).remote(store.uri, trials[0].id)
    assert ray.get(asked)[0] == "Thread 0x1 in training_step"
    assert post_mortem(store, trials[0].id, lost, "").cause == "preempted"
    killed = lost.model_copy(update={"oom_kills": -1})
    assert post_mortem(store, trials[0].id, killed, "").cause == "oom"


@pytest.mark.cluster
def test_post_mortem_of_a_node_that_is_gone_is_preempted(two_gpus, planned):
    store, trials = planned
    death = post_mortem(store, trials[0].id, running("ab" * 28), "")
    assert death.cause == "preempted"
    assert "gone" in death.message


@pytest.mark.cluster
@pytest.mark.slow
def test_trial_that_rays_memory_monitor_kills_halves_its_micro_batch_and_fails_as_oom(tmp_path):
    """Ray's own monitor, told that two hundredths of the memory are too much."""
    study = tmp_path / "study.yaml"
    study.write_text(
        STUDY.format(base=DEMO / "base", demo=DEMO).replace("batch_size: 4", "batch_size: 2")
        + "recipes:\n  sft: {method: sft, data: D0}\n"
    )
    low = {"RAY_memory_usage_threshold": "0.02", "RAY_memory_monitor_refresh_ms": "200"}
    command = [RAYLAB, "train", str(study), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env={**os.environ, **low}, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    store = Store(str(tmp_path / "out"))
    (row,) = read_table(store, "trials").to_pylist()
    assert (row["status"], row["cause"], row["attempts"]) == ("failed", "oom", 2)
    assert "low on memory" in row["message"]
    assert {a["cause"] for a in read_table(store, "attempts").to_pylist()} == {"oom"}
