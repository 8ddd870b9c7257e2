"""The actor of the stages after the training, in its process.

Model: an actor works for one job after another: it lets go of what the last one opened before it
opens the next. A preview is a job of its own, and leaves what is open alone. Libraries are loaded
by the first call that needs them, or before by `prepare`.
Invariant: a call's result depends on its job and its arguments alone.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ray

from raylab.cluster.worker_gpu import use_own_gpu
from raylab.imports import loading
from raylab.reduce.shard_cache import pack
from raylab.reduce.tables import Tables
from raylab.store.filesystem import Store, study_scratch
from raylab.store.references import ModelLocation


class ActorJob(Protocol):
    """A job that actors open and call: `raylab.reduce.job.Job`, or one of its kind."""

    @property
    def places(self) -> Mapping[str, ModelLocation]:
        """Where its models lie."""

    @property
    def out(self) -> str | None:
        """The object store from which a node fetches the places in its scratch space."""

    def open(self) -> Any:
        """Open it; calls are methods of what it gives."""


@ray.remote
class ShardActor:
    """Holds what one job opened, and does calls of it."""

    def __init__(self) -> None:
        """Open nothing yet, so that an error of a job is one of its calls."""
        self._number = 0
        self._opened: Any = None

    def call(
        self, number: int, job: Sequence[Any], method: str, arguments: tuple[Any, ...]
    ) -> bytes:
        """The packed result of one method for one shard.

        number: of the job, above 0. job: its reference, in a sequence so that Ray fetches it for
        the first call alone.
        """
        if self._number != number or self._opened is None:
            use_own_gpu()
            self._let_go()
            found: ActorJob = ray.get(job[0])
            _fetch_adapters(found)
            self._number, self._opened = number, found.open()
        return pack(getattr(self._opened, method)(*arguments))

    def _let_go(self) -> None:
        """Free what the last job holds: its models may fill the memory."""
        if self._opened is None:
            return
        self._opened = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def prepare(self) -> None:
        """Load what the calls of all stages need, and have the loops of a CPU compiled."""
        use_own_gpu()
        with loading():
            import raylab.reduce.model_details
            import raylab.train.evaluate.function_shard
            import raylab.train.evaluate.line_shard  # noqa: F401
            from raylab.reduce.rehearsal import rehearse
        rehearse()

    def preview(
        self,
        names: tuple[str, str, str],
        places: Mapping[str, ModelLocation],
        base: Path | None,
        densities: Sequence[float],
    ) -> Tables:
        """Norms and thresholds of the comparison of `names`: its own, and its sides'; in this
        process and in one thread."""
        use_own_gpu()
        from raylab.reduce.job import InProcess, Job
        from raylab.reduce.passes import reduce_pairs
        from raylab.reduce.row_block import Pair

        job = Job(places, (Pair(*names),), base)
        return reduce_pairs(job, densities, InProcess(), shards=1)

    def process(self) -> int:
        """The id of this actor's process on its node."""
        return os.getpid()

    def gpus(self) -> tuple[str, ...]:
        """The id of this actor's GPU; nothing if it uses the CPU."""
        return use_own_gpu()


def start_actor(**resources: float) -> Any:
    """A new actor with these resources of Ray's."""
    actor_class: Any = ShardActor
    return actor_class.options(**resources).remote()


def _fetch_adapters(job: ActorJob) -> None:
    """Copy the models that an object store holds to this node's scratch space."""
    if job.out is None:
        return
    store = Store(job.out)
    scratch = study_scratch(store)
    paths = {p for place in job.places.values() for p in (*place.adapters, place.checkpoint)}
    for path in sorted(p for p in paths if p and p.is_relative_to(scratch)):
        store.local(path.relative_to(scratch).as_posix(), scratch)
