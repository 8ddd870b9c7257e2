"""Previews: comparisons measured while trials still train, as soon as both sides exist.

Model: when a trial ends, the comparisons of adapters that have become possible are queued, those
of two trials first. One after another, an actor that takes no slot from a trial measures norms
and thresholds in one thread, and the tables hold the results so far. The first comparison of two
trials is shown, with answers of both. After the last trial nothing is measured early.
Invariant: nothing depends on a preview: the reduction that follows measures all comparisons anew
and writes the tables whole. A preview that fails is reported, and costs nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayError

from raylab.cluster.early_actor import EarlyActor
from raylab.cluster.study_context import StudyContext
from raylab.plan.comparisons import PlannedComparison
from raylab.reduce.tables import Tables
from raylab.report.terminal.first_pair import pair_lines
from raylab.store.records import SAMPLES, trial_key
from raylab.store.references import ModelLocation
from raylab.store.tables import write_table
from raylab.weights.adapter_config import needs_base

_TABLES = ("norms", "densities")


class PreviewCallback(tune.Callback):
    """Queues, starts and collects the previews of a study that trains."""

    def __init__(
        self, context: StudyContext, early: EarlyActor, trials: int, say: Callable[[str], None]
    ) -> None:
        """Nothing is measured yet. early: what measures; trials: how many train."""
        self._context, self._early, self._say = context, early, say
        self._training = trials
        self._left = [c for c in context.comparisons if _is_of_adapters(c)]
        self._queue: list[PlannedComparison] = []
        self._running: tuple[Any, PlannedComparison] | None = None
        self._rows = Tables()
        self._has_shown = False

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended: queue the comparisons that are possible now."""
        self._training -= 1
        if not self._training:
            self._left, self._queue = [], []
        if not self._left:
            return
        places = self._places()
        ready = [c for c in self._left if c.a.name in places and c.b.name in places]
        self._left = [c for c in self._left if c not in ready]
        self._queue = sorted(self._queue + ready, key=lambda c: not _is_of_trials(c))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Collect a result, and start the next comparison."""
        if self._running and ray.wait([self._running[0]], timeout=0)[0]:
            self._collect(*self._running)
            self._running = None
        if self._queue and not self._running:
            comparison = self._queue.pop(0)
            self._running = self._start(comparison), comparison

    def _places(self) -> dict[str, ModelLocation]:
        """The places of the base models (no adapter), and of the trials that are done and not
        left out."""
        bases = {name: ModelLocation() for name in self._context.study.base_models}
        records = self._context.records()
        places = bases | self._context.trial_places(records)
        left_out = self._context.left_out(records)
        return {name: place for name, place in places.items() if name not in left_out}

    def _start(self, comparison: PlannedComparison) -> Any:
        places = self._places()
        names = (comparison.a.name, comparison.b.name)
        needing = any(needs_base(path) for name in names for path in places[name].adapters)
        base = self._context.base_directory(comparison.a.base_model) if needing else None
        sides = {name: places[name] for name in names}
        pair, densities = (comparison.name, *names), self._context.study.densities
        return self._early.measure(pair, sides, base, densities)

    def _collect(self, reference: Any, comparison: PlannedComparison) -> None:
        try:
            found = ray.get(reference)
        except RayError as error:
            if isinstance(error, RayActorError):
                self._early.lost()
            why = str(error).strip().splitlines()[-1]
            self._say(f"{comparison.name} was not measured early: {why}")
            return
        self._rows.extend(found)
        for table in _TABLES:
            write_table(self._context.store, table, getattr(self._rows, table))
        if not self._has_shown and _is_of_trials(comparison):
            self._has_shown = True
            self._show(comparison, found)

    def _show(self, comparison: PlannedComparison, found: Tables) -> None:
        """Say the norms of a comparison of two trials, and some answers of both."""
        folders = {item.name: item.folder for item in self._context.planned}
        keys = [trial_key(folders[side.name], SAMPLES) for side in (comparison.a, comparison.b)]
        texts = [(self._context.store.read_if_there(key) or b"").decode() for key in keys]
        answers = [[json.loads(line) for line in text.splitlines()] for text in texts]
        whole = next(row for row in found.norms if row["level"] == "all")
        self._say("\n".join(pair_lines(whole, *answers)))


def _is_of_trials(comparison: PlannedComparison) -> bool:
    """Whether both sides were trained."""
    return bool(comparison.a.lineage and comparison.b.lineage)


def _is_of_adapters(comparison: PlannedComparison) -> bool:
    """Whether both sides are adapters or base models, which are read in seconds."""
    sides = (comparison.a, comparison.b)
    return all(side.lineage or side.name == side.base_model for side in sides)
