"""Trackers of a study's training: MLflow and Weights & Biases, by Ray's own callbacks.

Model: a tracker is a row of TRACKERS: its library, the package to install, a check of its server,
and its callback. The study is MLflow's experiment or W&B's group, a trial's name is the run's, and
a trial's row is its configuration. Addresses and tokens come from the environment
(MLFLOW_TRACKING_URI, WANDB_API_KEY, WANDB_MODE), and reach no file and no log.
Invariant: a tracker that does not work is refused before anything is trained. Beside a trial's
row it gets the numbers that the trial reported and nothing else. No trial's identity depends on it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.logger import LoggerCallback
from ray.tune.result import AUTO_RESULT_KEYS

from raylab.errors import InputError
from raylab.spec.study import Study
from raylab.store.filesystem import Store
from raylab.store.phase import TRAINING

_ITERATION = "training_iteration"
_NO_METRICS = {*AUTO_RESULT_KEYS, "step", "seconds_left", "checkpoint"}

# The process that talks to Weights & Biases takes these from the driver's environment.
_WANDB_ENVIRONMENT = {
    "api_key": "WANDB_API_KEY",
    "mode": "WANDB_MODE",
    "base_url": "WANDB_BASE_URL",
    "entity": "WANDB_ENTITY",
}
# That process runs beside the driver, so what it sees is not the trial's machine.
_WANDB_SETTINGS = {
    "console": "off",
    "disable_git": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
}


@dataclass(frozen=True)
class Tracker:
    """A tracker: its library, the package to install, a check that raises, and its callback."""

    library: str
    install: str
    check: Callable[[], None]
    make: Callable[[Study, Store], LoggerCallback]


def _check_mlflow() -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        MlflowClient().search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise InputError(
            "the study is tracked by MLflow, which cannot reach its store",
            found=str(error).partition("\n")[0],
            expected="the address of a server in MLFLOW_TRACKING_URI",
            todo="set it, or take mlflow out of `tracking`",
        ) from error


def _mlflow(study: Study, store: Store) -> LoggerCallback:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    return MLflowLoggerCallback(experiment_name=study.name, tags={"study": study.name})


def _check_wandb() -> None:
    if os.environ.get("WANDB_MODE") in ("offline", "disabled") or os.environ.get("WANDB_API_KEY"):
        return
    raise InputError(
        "the study is tracked by Weights & Biases, which has no key",
        expected="WANDB_API_KEY in the environment, or WANDB_MODE=offline",
        todo="set one of them, or take wandb out of `tracking`",
    )


def _wandb(study: Study, store: Store) -> LoggerCallback:
    from ray.air.integrations.wandb import WandbLoggerCallback
    from ray.air.util.node import _force_on_current_node

    class Logger(WandbLoggerCallback):
        """Ray's own, but its process gets the key as an argument, which Ray never logs."""

        def setup(self, *args: Any, **info: Any) -> None:
            super().setup(*args, **info)
            given = {
                key: os.environ[name]
                for key, name in _WANDB_ENVIRONMENT.items()
                if name in os.environ
            }
            self.kwargs["settings"] = {**_WANDB_SETTINGS, **given}
            place = _force_on_current_node()
            self._remote_logger_class = ray.remote(num_cpus=0, **place)(self._logger_actor_cls)

    project = os.environ.get("WANDB_PROJECT", "raylab")
    # Its files lie in OUT: Ray's own place for them is deleted with the driver.
    place = os.environ.get("WANDB_DIR", store.root if store.is_local else str(Path.cwd()))
    return Logger(project=project, group=study.name, dir=place)


TRACKERS: Mapping[str, Tracker] = {
    "mlflow": Tracker("mlflow", "mlflow-skinny", _check_mlflow, _mlflow),
    "wandb": Tracker("wandb", "wandb", _check_wandb, _wandb),
}


def check_installed(study: Study) -> None:
    """Raises InputError where a tracker that the study names has no library here."""
    for name in study.tracking:
        tracker = TRACKERS[name]
        if importlib.util.find_spec(tracker.library) is None:
            raise InputError(
                f"the study is tracked by {name}, which is not installed",
                expected=f"the library {tracker.library}",
                todo=f"pip install {tracker.install}, or take {name} out of `tracking`",
            )


def tracking_callbacks(study: Study, store: Store) -> list[Callback]:
    """Tune's callbacks for the trackers that the study names. Raises InputError."""
    for name in study.tracking:
        TRACKERS[name].check()
    return [TrackingCallback(TRACKERS[name].make(study, store)) for name in study.tracking]


def metrics_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that a trial reported, with the training's step as Tune's iteration."""
    step = result.get("step", result.get("steps", result.get(_ITERATION)))
    numbers = {
        key: value
        for key, value in result.items()
        if isinstance(value, Real) and not isinstance(value, bool) and key not in _NO_METRICS
    }
    return {**numbers, _ITERATION: step}


class TrackingCallback(Callback):
    """Passes a trial's metrics on to a logger, without Tune's own numbers."""

    def __init__(self, logger: LoggerCallback) -> None:
        """Pass on to `logger`."""
        self._logger = logger
        self._started: set[str] = set()

    def setup(self, *args: Any, **info: Any) -> None:
        """Open the logger."""
        self._logger.setup(*args, **info)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker."""
        self._started.add(trial.trial_id)
        self._logger.log_trial_start(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has made progress, or is done; a failed trial reports nothing new."""
        is_phase = "phase" in result
        is_step = str(result.get("phase")).startswith(TRAINING) and result.get("step") is not None
        if "cause" not in result and (is_step or not is_phase):
            self._logger.log_trial_result(iteration, trial, metrics_of(result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended; its last result names a cause if it failed. It may never have begun,
        as the driver was to stop."""
        if trial.trial_id not in self._started:
            return
        failed = (trial.last_result or {}).get("cause") is not None
        self._logger.log_trial_end(trial, failed=failed)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and Tune gives the trial up."""
        self._logger.log_trial_end(trial, failed=True)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """All trials have ended."""
        self._logger.on_experiment_end(trials=trials, **info)
