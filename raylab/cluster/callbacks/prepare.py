"""What prepares the stages after the training, while a slot of the cluster has no trial."""

from __future__ import annotations

from typing import Any

from ray import tune

from raylab.cluster.early_actor import EarlyActor
from raylab.cluster.session import slots
from raylab.spec.study import Study


class PrepareCallback(tune.Callback):
    """Prepares an early actor once trials train and a slot has none."""

    def __init__(self, study: Study, early: EarlyActor) -> None:
        """Nothing is prepared yet."""
        self._size, self._early = (study.resources.gpus, study.resources.cpus), early
        self._asked_at = -1

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has made progress."""
        if not result.get("step"):
            return
        running = sum(not other.is_finished() for other in trials)
        # To ask the cluster costs a message.
        if running != self._asked_at and running < slots(*self._size)[0]:
            self._early.prepare()
        self._asked_at = running
