"""Actors around the reduction: each pinned to its own GPU or CPU, fed from one queue.

Model: calls wait in a queue, the largest first; every actor has at most two in flight, so that
it never waits for the next. When an actor dies its calls go back to the queue and a new actor
takes its place.
Invariant: every call's result comes back exactly once, in the order of the calls; a call that
has killed `_MOST_DEATHS` actors ends the reduction with ClusterError. An exception inside a
call is raised as it is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from raylab.cluster.session import own_gpus, slots
from raylab.errors import ClusterError
from raylab.reduce.study import Call, Job

_IN_FLIGHT = 2
_MOST_DEATHS = 3


@ray.remote
class ShardActor:
    """Holds the opened models of one job, and reduces shards of it."""

    def __init__(self, job: Job) -> None:
        """Open every model of `job` once."""
        self._job = job.open()

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """One pass over one shard."""
        return getattr(self._job, method)(*arguments)

    def gpus(self) -> tuple[str, ...]:
        """The ids of the GPUs that are this actor's own."""
        return own_gpus()


class ActorPool:
    """Executes the calls of a job on pinned actors; use it as `execute` of `reduce_pairs`."""

    def __init__(self, gpus: float = 1, cpus: int = 1) -> None:
        """One actor to each slot of the cluster, of these resources each."""
        self._count, self._resources = slots(gpus, cpus)
        self._actors: list[Any] = []
        self._job: Any = None

    def __call__(self, job: Job, calls: Sequence[Call]) -> list[Any]:
        """The results of `calls`, in their order. Raises ClusterError, or what a call raised."""
        if self._job is not job:
            self.close()
            self._job = job
            wanted = min(self._count, max(1, len(calls)))
            self._actors = [self._start() for _ in range(wanted)]
        return _Round(self, calls).run()

    @property
    def actors(self) -> list[Any]:
        """The actors at work."""
        return self._actors

    def replace(self, actor: Any) -> None:
        """Put a new actor in the place of one that died."""
        self._actors[self._actors.index(actor)] = self._start()

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._job = [], None

    def _start(self) -> Any:
        options = {"num_cpus": self._resources["cpu"], "num_gpus": self._resources.get("gpu", 0)}
        actor_class: Any = ShardActor
        return actor_class.options(**options).remote(self._job)


class _Round:
    """One sequence of calls on its way through the pool."""

    def __init__(self, pool: ActorPool, calls: Sequence[Call]) -> None:
        self._pool, self._calls = pool, calls
        self._waiting = deque(range(len(calls)))
        self._flying: dict[Any, tuple[int, Any]] = {}
        self._deaths: Counter[int] = Counter()
        self._results: dict[int, Any] = {}

    def run(self) -> list[Any]:
        """Feed and gather until every call has its result."""
        while len(self._results) < len(self._calls):
            self._feed()
            ready, _ = ray.wait(list(self._flying), num_returns=1)
            for reference in ready:
                self._gather(reference)
        return [self._results[index] for index in range(len(self._calls))]

    def _feed(self) -> None:
        load = Counter(id(actor) for _, actor in self._flying.values())
        for actor in self._pool.actors:
            while self._waiting and load[id(actor)] < _IN_FLIGHT:
                index = self._waiting.popleft()
                method, arguments = self._calls[index]
                self._flying[actor.call.remote(method, arguments)] = (index, actor)
                load[id(actor)] += 1

    def _gather(self, reference: Any) -> None:
        index, actor = self._flying.pop(reference)
        try:
            self._results[index] = ray.get(reference)
        except (ActorDiedError, ActorUnavailableError) as error:
            self._requeue(index, actor, error)
        except RayTaskError as error:
            raise error.cause or error from None

    def _requeue(self, index: int, actor: Any, error: Exception) -> None:
        self._deaths[index] += 1
        if self._deaths[index] >= _MOST_DEATHS:
            raise ClusterError(
                "a shard's worker died again and again", found=str(error), expected="it to live"
            ) from error
        self._waiting.appendleft(index)
        if actor in self._pool.actors:
            self._pool.replace(actor)
