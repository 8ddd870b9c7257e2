"""Where else a study's training is written down: MLflow, Weights & Biases, by Ray's own callbacks.

Model: a tracker is a row: what to install, what it must be able to reach, and how its callback
is made. The study is the experiment or group, a trial's name is the run's, a trial's row is its
configuration. Addresses and tokens are the environment's (MLFLOW_TRACKING_URI, WANDB_API_KEY,
WANDB_MODE), and reach no file and no log.
Invariant: what cannot track is refused before anything is trained; beside a trial's row a tracker
gets numbers that the trial reported and nothing else, and no trial's identity depends on it.
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

_COUNT = "training_iteration"
_NOT_MEASURED = {*AUTO_RESULT_KEYS, "step", "seconds_left", "checkpoint"}


# What the process that speaks to Weights & Biases takes from the driver's environment.
_WANDB = {
    "api_key": "WANDB_API_KEY",
    "mode": "WANDB_MODE",
    "base_url": "WANDB_BASE_URL",
    "entity": "WANDB_ENTITY",
}
# That process runs beside the driver: what it sees there is not of the trial's machine.
_WANDB_SETTINGS = {
    "console": "off",
    "disable_git": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
}


@dataclass(frozen=True)
class Tracker:
    """One place: its library, what to install, a check that raises, and its callback."""

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
        """Ray's own, but its process gets the key as an argument, which Ray writes to no log."""

        def setup(self, *args: Any, **info: Any) -> None:
            super().setup(*args, **info)
            given = {key: os.environ[name] for key, name in _WANDB.items() if name in os.environ}
            self.kwargs["settings"] = {**_WANDB_SETTINGS, **given}
            place = _force_on_current_node()
            self._remote_logger_class = ray.remote(num_cpus=0, **place)(self._logger_actor_cls)

    project = os.environ.get("WANDB_PROJECT", "raylab")
    # Its files lie in OUT: where Ray would put them, they end with the driver.
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


def trackers(study: Study, store: Store) -> list[Callback]:
    """Tune's callbacks for the trackers that the study names. Raises InputError."""
    for name in study.tracking:
        TRACKERS[name].check()
    return [Tracked(TRACKERS[name].make(study, store)) for name in study.tracking]


def measured(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that a trial measured; Tune's count of results becomes the training's step."""
    step = result.get("step", result.get("steps", result.get(_COUNT)))
    numbers = {
        key: value
        for key, value in result.items()
        if isinstance(value, Real) and not isinstance(value, bool) and key not in _NOT_MEASURED
    }
    return {**numbers, _COUNT: step}


class Tracked(Callback):
    """Hands on to a logger what a tracker should know of a trial, and nothing of Tune's own."""

    def __init__(self, logger: LoggerCallback) -> None:
        """Hand on to `logger`."""
        self._logger = logger

    def setup(self, *args: Any, **info: Any) -> None:
        """The study begins."""
        self._logger.setup(*args, **info)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker."""
        self._logger.log_trial_start(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has made progress, or is done; one that failed has measured nothing new."""
        if "cause" not in result:
            self._logger.log_trial_result(iteration, trial, measured(result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended; its last result may say that it failed."""
        failed = (trial.last_result or {}).get("cause") is not None
        self._logger.log_trial_end(trial, failed=failed)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed."""
        self._logger.log_trial_end(trial, failed=True)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """The study's trials have ended."""
        self._logger.on_experiment_end(trials=trials, **info)
