"""The pool of pinned actors: distinct GPUs, order of results, death of an actor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import ray

from raylab.cluster.actors import ActorPool
from raylab.errors import ClusterError, ModelError

pytestmark = pytest.mark.cluster


class Opened:
    """What a job opens in an actor: methods that a test can steer."""

    def identity(self, value):
        return value

    def die_once(self, marker):
        if not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse(self):
        raise ModelError("no such model", found="x")


class Job:
    """Stands where `raylab.reduce.study.Job` does: something picklable that opens."""

    def open(self):
        return Opened()


@pytest.fixture
def pool(two_gpus):
    made = ActorPool()
    yield made
    made.close()


def test_pool_with_two_gpus_pins_actors_to_distinct_ones(pool):
    pool(Job(), [("identity", (1,)), ("identity", (2,))])
    gpus = ray.get([actor.gpus.remote() for actor in pool.actors])
    assert sorted(gpus) == [("0",), ("1",)]


def test_pool_results_come_in_the_order_of_the_calls(pool):
    assert pool(Job(), [("identity", (i,)) for i in range(20)]) == list(range(20))


def test_pool_killed_actor_loses_no_call(pool, tmp_path):
    calls = [("identity", (0,)), ("die_once", (str(tmp_path / "died"),)), ("identity", (2,))]
    assert pool(Job(), calls) == [0, "survived", 2]


def test_pool_call_that_always_kills_ends_with_an_error(pool):
    with pytest.raises(ClusterError, match="died again"):
        pool(Job(), [("die", ())])


def test_pool_error_in_a_call_is_raised_as_it_is(pool):
    with pytest.raises(ModelError, match="no such model"):
        pool(Job(), [("refuse", ())])
