"""Trials that have a checkpoint: where each goes on, in the words of plan, status and tables.

Model: a trial that was stopped, or whose process died, left a checkpoint. The next attempt begins
there if it trains with the same micro-batch.
Invariant: a trial without a checkpoint, or with one that the next attempt would not use, is not
named. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raylab.plan.cache import PlannedTrial
from raylab.plan.memory import micro_batch
from raylab.plan.merges import Asked
from raylab.plan.trials import Trial
from raylab.store.checkpoints import usable
from raylab.store.filesystem import CHECKPOINTS, Store
from raylab.store.records import read_attempts


def checkpoint_texts(planned: Sequence[Asked], store: Store) -> dict[str, str]:
    """By the name of each trial with a checkpoint: goes on from step 12 of 90."""
    kept = set(store.names(CHECKPOINTS))
    trials = [item for item in planned if isinstance(item, Trial) and item.folder in kept]
    found = {trial.name: checkpoint_text(trial, store) for trial in trials}
    return {name: text for name, text in found.items() if text}


def checkpoint_text(trial: Trial, store: Store) -> str | None:
    """Where the next attempt of `trial` begins; None if at its first step."""
    size = micro_batch(trial.variant.training, read_attempts(store, trial.folder))
    found = usable(store, trial.folder, trial.id, size)
    return found.text if found else None


def with_checkpoints(states: Sequence[PlannedTrial], store: Store) -> list[PlannedTrial]:
    """The states, where a trial that is to run says that it goes on instead of why it is new."""
    waiting = [item.trial for item in states if item.state != "cached"]
    texts = checkpoint_texts(waiting, store)
    return [
        replace(item, why=texts[item.trial.name])
        if item.state == "to run" and item.trial.name in texts
        else item
        for item in states
    ]
