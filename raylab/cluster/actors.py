"""Actors around the reduction: each pinned to its own GPU or CPU, fed from one queue.

Model: calls wait in a queue, the largest first; every actor has at most two in flight, so that
it never waits for the next. A later call of the same home goes to the actor that did the first,
which may still hold what it needs. When an actor dies, or is silent for longer than the
deadline and is killed, its calls go back to the queue, and a new actor takes its place as soon
as the cluster has room for one; until then the others do its work.
Invariant: every call's result comes back exactly once, in any order; a call that has cost
`_MOST_DEATHS` actors ends the reduction with ClusterError. An exception inside a call is raised
as it is.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    RayActorError,
    RayTaskError,
)

from raylab.cluster.session import own_gpus, slots
from raylab.errors import ClusterError
from raylab.reduce.job import Call, Job
from raylab.reduce.shard_cache import pack, unpack
from raylab.store.filesystem import Store, study_scratch

DEADLINE = 3600.0
_START = 30.0
_IN_FLIGHT = 2
_MOST_DEATHS = 3


@ray.remote
class ShardActor:
    """Holds the opened models of one job, and reduces shards of it."""

    def __init__(self, job: Job) -> None:
        """Remember `job`; the first call opens its models, so that an error there is a call's."""
        self._job = job
        self._opened: Any = None

    def call(self, method: str, arguments: tuple[Any, ...]) -> bytes:
        """One pass over one shard, packed."""
        self._opened = self._opened or _open(self._job)
        return pack(getattr(self._opened, method)(*arguments))

    def process(self) -> int:
        """The id of this actor's process on its node."""
        return os.getpid()

    def gpus(self) -> tuple[str, ...]:
        """The ids of the GPUs that are this actor's own."""
        return own_gpus()


def _open(job: Job) -> Any:
    """Open the job's models on this node, where an object store's are fetched to first."""
    if job.out is not None:
        store = Store(job.out)
        scratch = study_scratch(store)
        paths = {p for place in job.places.values() for p in (*place.adapters, place.checkpoint)}
        for path in sorted(p for p in paths if p and p.is_relative_to(scratch)):
            store.local(path.relative_to(scratch).as_posix(), scratch)
    return job.open()


class ActorPool:
    """Executes the calls of a job on pinned actors; use it as `execute` of `reduce_pairs`."""

    def __init__(
        self,
        gpus: float = 1,
        cpus: float = 1,
        deadline: float = DEADLINE,
        most: int | None = None,
    ) -> None:
        """One actor to each slot of the cluster, of these resources each, and at most `most`;
        `deadline` in seconds is the longest that one may take for a shard."""
        count, self._resources = slots(gpus, cpus)
        self._count = min(count, most or count)
        self._job: Any = None
        self.deadline = deadline
        self.actors: list[Any] = []
        self.coming: dict[Any, Any] = {}
        """Actors that were asked for, by the reference of their first sign of life."""
        self.sent: list[int] = []
        """Bytes of every message that an actor has sent."""
        self.homes: dict[int, Any] = {}
        """The actor that did the last call of each home."""

    def __call__(self, job: Job, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        """(index, result) of each call as it ends. Raises ClusterError, or what a call raised."""
        if self._job is not job:
            self.close()
            self._job = job
        wanted = min(self._count, max(1, len(calls)))
        for _ in range(wanted - len(self.actors) - len(self.coming)):
            self._start()
        if not self.actors:
            signs = list(self.coming)
            for sign in ray.wait(signs, num_returns=len(signs), timeout=_START)[0]:
                self.welcome(sign)
        yield from _Round(self, calls).run()

    def welcome(self, sign: Any) -> None:
        """An actor that was asked for gives its first sign of life, or has died before."""
        actor = self.coming.pop(sign)
        try:
            ray.get(sign)
        except RayActorError:
            self._start()
        else:
            self.actors.append(actor)

    def replace(self, actor: Any) -> None:
        """Ask for a new actor in the place of one that died."""
        self.homes = {home: known for home, known in self.homes.items() if known is not actor}
        self.actors.remove(actor)
        self._start()

    def close(self) -> None:
        """End all actors."""
        for actor in [*self.actors, *self.coming.values()]:
            ray.kill(actor)
        self.actors, self.coming, self.homes, self._job = [], {}, {}, None

    def _start(self) -> None:
        options = {"num_cpus": self._resources["cpu"], "num_gpus": self._resources.get("gpu", 0)}
        actor_class: Any = ShardActor
        actor = actor_class.options(**options).remote(self._job)
        self.coming[actor.process.remote()] = actor


class _Round:
    """One sequence of calls on its way through the pool."""

    def __init__(self, pool: ActorPool, calls: Sequence[Call]) -> None:
        self._pool, self._calls = pool, calls
        self._waiting = list(range(len(calls)))
        self._flying: dict[Any, tuple[int, Any]] = {}
        self._deaths: Counter[int] = Counter()
        self._heard: dict[Any, float] = {}

    def run(self) -> Iterator[tuple[int, Any]]:
        """Feed and gather until every call has given its result."""
        left = len(self._calls)
        while left:
            self._feed()
            watched = [*self._flying, *self._pool.coming]
            ready, _ = ray.wait(watched, num_returns=1, timeout=self._patience())
            for reference in ready:
                if reference in self._pool.coming:
                    self._pool.welcome(reference)
                    continue
                for result in self._gather(reference):
                    left -= 1
                    yield result
            if not ready:
                self._give_up_the_silent()

    def _feed(self) -> None:
        load = Counter(actor for _, actor in self._flying.values())
        for actor in self._pool.actors:
            while load[actor] < _IN_FLIGHT and (index := self._next(actor)) is not None:
                self._waiting.remove(index)
                if not load[actor]:
                    self._heard[actor] = time.monotonic()
                call = self._calls[index]
                self._pool.homes[call.home] = actor
                self._flying[actor.call.remote(call.method, call.arguments)] = (index, actor)
                load[actor] += 1

    def _next(self, actor: Any) -> int | None:
        """The first waiting call that is free, or at home with `actor`."""
        homes = self._pool.homes
        at_home = (i for i in self._waiting if homes.get(self._calls[i].home, actor) is actor)
        return next(at_home, None)

    def _gather(self, reference: Any) -> Iterator[tuple[int, Any]]:
        index, actor = self._flying.pop(reference)
        self._heard[actor] = time.monotonic()
        try:
            message = ray.get(reference)
        except (ActorDiedError, ActorUnavailableError) as error:
            self._requeue(index, actor, error)
        except RayTaskError as error:
            raise error.cause or error from None
        else:
            self._pool.sent.append(len(message))
            yield index, unpack(message)

    def _requeue(self, index: int, actor: Any, error: Exception) -> None:
        self._deaths[index] += 1
        if self._deaths[index] >= _MOST_DEATHS:
            raise ClusterError(
                "a shard's worker died again and again", found=str(error), expected="it to live"
            ) from error
        self._waiting.insert(0, index)
        if actor in self._pool.actors:
            self._pool.replace(actor)

    def _patience(self) -> float:
        """Seconds until the first busy actor has been silent for too long."""
        busy = {actor for _, actor in self._flying.values()}
        oldest = min((self._heard[actor] for actor in busy), default=time.monotonic())
        return max(0.0, oldest + self._pool.deadline - time.monotonic())

    def _give_up_the_silent(self) -> None:
        """Kill the actors whose deadline has passed; their calls then come back as failed."""
        if not self._flying:
            raise ClusterError(
                "no worker for the reduction could be started",
                found=f"none in {self._pool.deadline:.0f} s",
                expected="a free GPU, or a free CPU where there are none",
            )
        now = time.monotonic()
        for actor in {actor for _, actor in self._flying.values()}:
            if now - self._heard[actor] >= self._pool.deadline:
                self._heard[actor] = now
                ray.kill(actor)
