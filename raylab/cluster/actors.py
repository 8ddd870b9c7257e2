"""The pool of actors of all stages after the training: each pinned to its own GPU or CPU, fed from
one queue.

Model: calls wait in a queue, the largest first. Every actor has at most two calls in flight, so it
never waits for the next one. A later call of the same home goes to the actor that did the first,
which may still hold what the call needs. If an actor dies, or is killed because it has not
answered before the deadline, its calls go back to the queue. A new actor takes its place when the
cluster has room for one; until then the other actors do its work. A pool that begins with an actor
(`raylab.cluster.early_actor`) starts others only once that one has had work for a while.
Invariant: every call's result comes back exactly once, in any order. A call that has cost
`_MAX_DEATHS` actors ends the reduction with ClusterError. An exception inside a call is raised
unchanged.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    RayActorError,
    RayTaskError,
)

from raylab.cluster.session import slots
from raylab.cluster.shard_actor import ActorJob, start_actor
from raylab.errors import ClusterError
from raylab.reduce.job import Call
from raylab.reduce.shard_cache import unpack

DEADLINE = 3600.0
_START_SECONDS = 30.0
_GROWTH_SECONDS = 3.0
"""Less work for the actor that is there is not worth the start of another one."""
_MAX_IN_FLIGHT = 2
_MAX_DEATHS = 3


class ActorPool:
    """Executes the calls of one job after another on pinned actors; use it as `execute` of
    `reduce_pairs`. Actors start with the first call, and stay until `close`."""

    def __init__(
        self,
        gpus: float = 1,
        cpus: float = 1,
        deadline: float = DEADLINE,
        max_actors: int | None = None,
        first: Any = None,
    ) -> None:
        """One actor for each slot of the cluster, with these resources each.

        `deadline`: the most seconds that an actor may take for a shard. `first`: an actor that is
        there already.
        """
        count, self._resources = slots(gpus, cpus)
        self.size = min(count, max_actors or count)
        """The most actors at once."""
        self._job: ActorJob | None = None
        self._number, self._reference = 0, cast(Any, None)
        self.deadline = deadline
        self.actors: list[Any] = [first] if first else []
        self._grows_at = math.inf if first else 0.0
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
        self._grows_at = min(self._grows_at, time.monotonic() + _GROWTH_SECONDS)
        self.grow(len(calls))
        if not self.actors:
            references = list(self.starting)
            timeout, count = _START_SECONDS, len(references)
            for reference in ray.wait(references, num_returns=count, timeout=timeout)[0]:
                self.add_actor(reference)
        yield from _Dispatcher(self, calls).run()

    def grow(self, calls: int) -> float:
        """Start as many actors as are worth it for `calls`; the seconds until more of them are."""
        seconds = self._grows_at - time.monotonic()
        if self.actors and seconds > 0:
            return seconds
        for _ in range(min(self.size, max(1, calls)) - len(self.actors) - len(self.starting)):
            self._start_actor()
        return math.inf

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
        actor = start_actor(**options)
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
            growth = self._pool.grow(left)
            self._dispatch()
            references = [*self._in_flight, *self._pool.starting]
            deadline = self._seconds_left()
            ready, _ = ray.wait(references, num_returns=1, timeout=min(deadline, growth))
            for reference in ready:
                if reference in self._pool.starting:
                    self._pool.add_actor(reference)
                    continue
                for result in self._collect(reference):
                    left -= 1
                    yield result
            if not ready and deadline <= growth:
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
