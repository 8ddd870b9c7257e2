"""What work is at: a phase with a name and, where it can be counted, how much of it is done.

Model: whoever works calls `tell(name, done, of)` as it goes. A `PhaseTeller` makes a `Phase` of
each call and hands it to a listener: at once where the name is new, else seldom. A trial and a
merge keep their phase in progress.json, the driver of a study in phase.json. A terminal, a log and
`raylab status` print a phase by `Phase.text`.
Invariant: a phase is news about work and no part of it. Nothing depends on one, and work goes on
where its phase cannot be stored.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from raylab.errors import StoreError
from raylab.number_format import clock
from raylab.store.filesystem import Store
from raylab.store.records import write_json

STUDY_PHASE = "phase.json"
INTERVAL = 2.0
"""Seconds between two reports of one phase, at least."""
STORE_PATIENCE = 1.0
"""Seconds to try again to store a phase, which may be lost."""

LOADING = "loading libraries"
BASE_MODEL = "fetching the base model"
MODEL = "loading the model"
DATA = "preparing the data"
REFERENCE = "preparing the reference"
TRAINING = "training"
HELD_OUT = "held-out loss"
ANSWERING = "answering"
LIKELIHOODS = "likelihoods"
MEASURING = "measuring"
THRESHOLDS = "thresholds, tensor"
MERGING = "merging tensor"
STORING = "storing"

CHECKING = "checking data, set"
MODELS = "checking base model"
CHECKED = "checking results, trial"
RAY = "starting Ray"
NODES = "checking nodes"
WORKERS = "starting workers"
TRIALS = "training trials"
MERGES = "making merges"
FINISHED = "asking finished models"
SHARDS = {
    "sample": "sampling shard",
    "measure": "reducing shard",
    "collect": "thresholds, shard",
    "relate": "relating models, shard",
    "subspaces": "comparing subspaces, shard",
    "detail": "detailing models, shard",
    "intruders": "comparing with the base model's directions, tensor",
    "frame": "framing answers, worker",
    "compare": "comparing predictions, shard",
    "losses": "evaluating lines, shard",
}
"""By the method that each shard is asked for."""
REPORT = "writing the report"

_log = logging.getLogger("raylab.store")


class Tell(Protocol):
    """Says which phase work is in; `done` of `of` parts of it are done, where that is known."""

    def __call__(self, name: str, done: int = 0, of: int | None = None) -> None:
        """Say it."""


def silent(name: str, done: int = 0, of: int | None = None) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Phase:
    """A phase, since when it lasts (seconds since 1970), and how much of it is done."""

    name: str
    started: float
    done: int = 0
    of: int | None = None

    @property
    def text(self) -> str:
        """The phase as every place prints it: answering 8/32."""
        return self.name if self.of is None else f"{self.name} {self.done}/{self.of}"

    def seconds_left(self, now: float) -> float | None:
        """The time that the rest takes at the speed so far; None where that is not known."""
        if self.of is None or not self.done:
            return None
        return max(0.0, now - self.started) * max(0, self.of - self.done) / self.done

    @property
    def document(self) -> dict[str, Any]:
        """The phase as JSON holds it."""
        return {"phase": asdict(self)}


_PHASE = TypeAdapter(Phase)


def phase_of(progress: Mapping[str, Any] | None) -> Phase | None:
    """The phase that a progress holds; None where it holds none, or a damaged one."""
    found = (progress or {}).get("phase")
    try:
        return _PHASE.validate_python(found)
    except ValidationError:
        return None


NUMBERS = (
    "step",
    "steps",
    "loss",
    "tokens_per_second",
    "seconds_left",
    "memory_bytes",
)
"""What a progress holds beside its phase, None where it is not known."""


class PhaseTeller:
    """Tells a listener of phases: of each at once when it is first told, else every `INTERVAL`."""

    def __init__(self, listener: Callable[[Phase], None]) -> None:
        """Nothing has begun."""
        self._listener = listener
        self.phase: Phase | None = None
        """The phase that was last told."""
        self._known: set[str] = set()
        self._told = 0.0

    def __call__(self, name: str, done: int = 0, of: int | None = None) -> None:
        """The work is in this phase now."""
        is_same = self.phase is not None and self.phase.name == name
        started = self.phase.started if is_same and self.phase else time.time()
        self.phase = Phase(name, started, done, of)
        now = time.monotonic()
        if name in self._known and now - self._told < INTERVAL:
            return
        self._known.add(name)
        self.repeat()

    def repeat(self) -> None:
        """Tell the phase now, for other news."""
        if self.phase:
            self._told = time.monotonic()
            self._listener(self.phase)


def write_news(store: Store, key: str, what: str, values: Mapping[str, Any]) -> None:
    """Keep `values` under `key`, with the time; `what` names them in the log if they are lost."""
    try:
        write_json(store.with_timeout(STORE_PATIENCE), key, {**values, "time": time.time()})
    except StoreError as error:
        _log.warning("the %s was not stored: %s", what, error)


def write_study_phase(store: Store, phase: Phase) -> None:
    """Keep the phase of the study's driver; it may be lost."""
    write_news(store, STUDY_PHASE, "phase", phase.document)


def read_study_phase(store: Store) -> Phase | None:
    """The phase of the study's driver; None if there is none, or it is damaged."""
    try:
        found = json.loads(store.read_if_there(STUDY_PHASE) or b"null")
    except ValueError:
        return None
    return phase_of(found) if isinstance(found, dict) else None


def phase_line(phase: Phase, now: float) -> str:
    """A phase with its times: reducing, shard 3/20, 0:12 so far, 1:10 left."""
    parts = [phase.text, f"{clock(max(0.0, now - phase.started))} so far"]
    left = phase.seconds_left(now)
    return ", ".join(parts if left is None else [*parts, f"{clock(left)} left"])
