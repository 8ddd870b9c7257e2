"""The job of evaluating points between models: what an actor opens, and its call.

Model: a `LineJob` names points over one base model and the answers on which each is evaluated. A
call, `losses`, gets some of these tasks, and gives the loss of every answer of each.
Invariant: what comes back for a task depends on its point and its answers alone, never on the
other tasks of a call. A point whose model cannot be formed has the reason in place of losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raylab.plan.connectivity import Shares
from raylab.plan.merges import PlannedMerge
from raylab.plan.trials import Trial
from raylab.spec.data.held_out import Prompts
from raylab.spec.models import ResolvedModel
from raylab.spec.study import Study
from raylab.store.references import ModelLocation

if TYPE_CHECKING:
    from raylab.train.evaluate.line_shard import LineShard


@dataclass(frozen=True)
class LineTask:
    """A point, and the name of the data set whose held-out answers go through it."""

    shares: Shares
    data: str


@dataclass(frozen=True)
class LineJob:
    """Everything that an actor needs. Names of `tasks` are those of trials, of merges that are
    adapters, and of finished models. `id`: the fingerprint of all that decides the results."""

    study: Study
    base: ResolvedModel
    trials: Mapping[str, Trial]
    merges: Mapping[str, PlannedMerge]
    finished: Mapping[str, ResolvedModel]
    answers: Mapping[str, Prompts] = field(repr=False)
    tasks: tuple[LineTask, ...]
    uri: str
    id: str
    threads: int = 1
    places: Mapping[str, ModelLocation] = field(default_factory=dict)
    out: str | None = None

    def open(self) -> LineShard:
        """Find the base model and its tokenizer. A worker has its own GPU before it calls this,
        because the libraries below ask for devices. Raises ModelError."""
        from raylab.train.evaluate.line_shard import LineShard

        return LineShard(self)
