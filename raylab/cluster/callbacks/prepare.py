"""What is done while trials train, and takes no slot from them: previews, and what prepares the
stages after the training once a slot has no trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune

from raylab.cluster.callbacks.preview import PreviewCallback
from raylab.cluster.early_actor import EarlyActor
from raylab.cluster.session import slots
from raylab.cluster.study_context import StudyContext
from raylab.spec.study import Study


def while_training(
    context: StudyContext,
    early: EarlyActor,
    trials: int,
    say: Callable[[str], None],
    *,
    reduces_next: bool,
) -> list[tune.Callback]:
    """The callbacks of a training of so many trials; `reduces_next`: the reduction follows."""
    found: list[tune.Callback] = []
    if reduces_next:
        found.append(PrepareCallback(context.study, early))
    # On an object store every node would have to fetch the adapters for a preview.
    if context.store.is_local:
        found.append(PreviewCallback(context, early, trials, say))
    return found


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
