"""The pool of actors of all stages after the training: each pinned to its own GPU or CPU, fed from
one queue.

Model: calls wait in a queue, the largest first. Every actor has at most two calls in flight, so it
never waits for the next one. A later call of the same home goes to the actor that did the first,
which may still hold what the call needs. If an actor dies, or is killed because it has not
answered before the deadline, its calls go back to the queue. A new actor takes its place when the
cluster has room for one; until then the other actors do its work. An actor works for one job after
another: it lets go of what the last one opened before it opens the next.
Invariant: every call's result comes back exactly once, in any order. A call that has cost
`_MAX_DEATHS` actors ends the reduction with ClusterError. An exception inside a call is raised
unchanged.
"""

from __future__ import annotations

import gc
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import ray
import torch
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    RayActorError,
    RayTaskError,
)

from raylab.cluster.session import slots
from raylab.cluster.worker_gpu import use_own_gpu
from raylab.errors import ClusterError
from raylab.reduce.job import Call
from raylab.reduce.shard_cache import pack, unpack
from raylab.store.filesystem import Store, study_scratch
from raylab.store.references import ModelLocation

DEADLINE = 3600.0
_START_SECONDS = 30.0
_MAX_IN_FLIGHT = 2
_MAX_DEATHS = 3


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
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def process(self) -> int:
        """The id of this actor's process on its node."""
        return os.getpid()

    def gpus(self) -> tuple[str, ...]:
        """The id of this actor's GPU; nothing if it uses the CPU."""
        return use_own_gpu()


def _fetch_adapters(job: ActorJob) -> None:
    """Copy the models that an object store holds to this node's scratch space."""
    if job.out is None:
        return
    store = Store(job.out)
    scratch = study_scratch(store)
    paths = {p for place in job.places.values() for p in (*place.adapters, place.checkpoint)}
    for path in sorted(p for p in paths if p and p.is_relative_to(scratch)):
        store.local(path.relative_to(scratch).as_posix(), scratch)


class ActorPool:
    """Executes the calls of one job after another on pinned actors; use it as `execute` of
    `reduce_pairs`. Actors start with the first call, and stay until `close`."""

    def __init__(
        self,
        gpus: float = 1,
        cpus: float = 1,
        deadline: float = DEADLINE,
        max_actors: int | None = None,
    ) -> None:
        """One actor for each slot of the cluster, with these resources each.

        `deadline`: the most seconds that an actor may take for a shard.
        """
        count, self._resources = slots(gpus, cpus)
        self.size = min(count, max_actors or count)
        """The most actors at once."""
        self._job: ActorJob | None = None
        self._number, self._reference = 0, cast(Any, None)
        self.deadline = deadline
        self.actors: list[Any] = []
        self.starting: dict[Any, Any] = {}
        """Actors that do not run yet, by the reference of their first answer."""
        self.message_bytes: list[int] = []
        """The size of every result that an actor has sent."""
        self.homes: dict[int, Any] = {}
        """The actor that did the last call of each home."""

    def __call__(self, job: ActorJob, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        """(index, result) of each call as it ends. Raises ClusterError, or a call's exception."""
        for index, packed in self.packed(job, calls):
            yield index, unpack(packed)

    def packed(self, job: ActorJob, calls: Sequence[Call]) -> Iterator[tuple[int, bytes]]:
        """(index, packed result) of each call as it ends; errors as in `__call__`."""
        if self._job is not job:
            self._job, self._reference, self.homes = job, ray.put(job), {}
            self._number += 1
        count = min(self.size, max(1, len(calls)))
        for _ in range(count - len(self.actors) - len(self.starting)):
            self._start_actor()
        if not self.actors:
            references = list(self.starting)
            timeout, count = _START_SECONDS, len(references)
            for reference in ray.wait(references, num_returns=count, timeout=timeout)[0]:
                self.add_actor(reference)
        yield from _Dispatcher(self, calls).run()

    def add_actor(self, reference: Any) -> None:
        """Add the starting actor that has answered; start another one if it has died."""
        actor = self.starting.pop(reference)
        try:
            ray.get(reference)
        except RayActorError:
            self._start_actor()
        else:
            self.actors.append(actor)

    def replace_actor(self, actor: Any) -> None:
        """Start a new actor in the place of one that died."""
        self.homes = {home: other for home, other in self.homes.items() if other is not actor}
        self.actors.remove(actor)
        self._start_actor()

    def close(self) -> None:
        """End all actors."""
        for actor in [*self.actors, *self.starting.values()]:
            ray.kill(actor)
        self.actors, self.starting, self.homes = [], {}, {}
        self._job = self._reference = None

    def send(self, call: Call, actor: Any) -> Any:
        """Give a call of the job at hand to an actor; the reference of its result."""
        return actor.call.remote(self._number, (self._reference,), call.method, call.arguments)

    def _start_actor(self) -> None:
        options = {"num_cpus": self._resources["cpu"], "num_gpus": self._resources.get("gpu", 0)}
        actor_class: Any = ShardActor
        actor = actor_class.options(**options).remote()
        self.starting[actor.process.remote()] = actor


class _Dispatcher:
    """Sends one sequence of calls to the actors of a pool, and collects the results."""

    def __init__(self, pool: ActorPool, calls: Sequence[Call]) -> None:
        self._pool, self._calls = pool, calls
        self._queue = list(range(len(calls)))
        self._in_flight: dict[Any, tuple[int, Any]] = {}
        self._deaths: Counter[int] = Counter()
        self._last_answer: dict[Any, float] = {}

    def run(self) -> Iterator[tuple[int, bytes]]:
        """Dispatch and collect until every call has given its result."""
        left = len(self._calls)
        while left:
            self._dispatch()
            references = [*self._in_flight, *self._pool.starting]
            ready, _ = ray.wait(references, num_returns=1, timeout=self._seconds_left())
            for reference in ready:
                if reference in self._pool.starting:
                    self._pool.add_actor(reference)
                    continue
                for result in self._collect(reference):
                    left -= 1
                    yield result
            if not ready:
                self._kill_unresponsive()

    def _dispatch(self) -> None:
        """Give every actor waiting calls, up to its limit; a call with a home only to its home."""
        load = Counter(actor for _, actor in self._in_flight.values())
        homes = self._pool.homes
        # Each actor gets one call before any gets two, so that few large calls run side by side.
        for most, actor in itertools.product(range(_MAX_IN_FLIGHT), self._pool.actors):
            suitable = (i for i in self._queue if homes.get(self._calls[i].home, actor) is actor)
            index = next(suitable, None) if load[actor] <= most else None
            if index is None:
                continue
            self._queue.remove(index)
            if not load[actor]:
                self._last_answer[actor] = time.monotonic()
            call = self._calls[index]
            homes[call.home] = actor
            self._in_flight[self._pool.send(call, actor)] = (index, actor)
            load[actor] += 1

    def _collect(self, reference: Any) -> Iterator[tuple[int, bytes]]:
        """The result of a call that has ended; none if its actor died."""
        index, actor = self._in_flight.pop(reference)
        self._last_answer[actor] = time.monotonic()
        try:
            message: bytes = ray.get(reference)
        except (ActorDiedError, ActorUnavailableError) as error:
            self._requeue(index, actor, error)
        except RayTaskError as error:
            raise error.cause or error from None
        else:
            self._pool.message_bytes.append(len(message))
            yield index, message

    def _requeue(self, index: int, actor: Any, error: Exception) -> None:
        self._deaths[index] += 1
        if self._deaths[index] >= _MAX_DEATHS:
            raise ClusterError(
                "a shard's worker died again and again", found=str(error), expected="it to live"
            ) from error
        self._queue.insert(0, index)
        if actor in self._pool.actors:
            self._pool.replace_actor(actor)

    def _seconds_left(self) -> float:
        """Seconds until the deadline of the busy actor that answered longest ago."""
        busy = {actor for _, actor in self._in_flight.values()}
        oldest = min((self._last_answer[actor] for actor in busy), default=time.monotonic())
        return max(0.0, oldest + self._pool.deadline - time.monotonic())

    def _kill_unresponsive(self) -> None:
        """Kill the actors whose deadline has passed; their calls then come back as failed."""
        if not self._in_flight:
            raise ClusterError(
                "no worker for the reduction could be started",
                found=f"none in {self._pool.deadline:.0f} s",
                expected="a free GPU, or a free CPU where there are none",
            )
        now = time.monotonic()
        for actor in {actor for _, actor in self._in_flight.values()}:
            if now - self._last_answer[actor] >= self._pool.deadline:
                self._last_answer[actor] = now
                ray.kill(actor)
