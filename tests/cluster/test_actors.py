"""The pool of pinned actors: distinct GPUs, order of results, death of an actor."""

from __future__ import annotations

import gc
import os
import signal
import time
from pathlib import Path

import pytest
import ray

from raylab.cluster.actors import ActorPool
from raylab.errors import ClusterError, ModelError
from raylab.reduce.job import Call

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

    def hang_once(self, marker):
        if not Path(marker).exists():
            Path(marker).touch()
            time.sleep(600)
        return "survived"

    def process(self):
        time.sleep(0.2)
        return os.getpid()

    def opened(self):
        time.sleep(0.2)
        return os.getpid(), id(self), sum(isinstance(o, Opened) for o in gc.get_objects())

    def threads(self):
        import torch

        return torch.get_num_threads()

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse(self):
        raise ModelError("no such model", found="x")


class Job:
    """Stands where `raylab.reduce.job.Job` does: something picklable that opens."""

    out = None

    def open(self):
        return Opened()


class Unopenable:
    """A job whose models are not there."""

    out = None

    def open(self):
        raise ModelError("cannot open", found="x")


JOB = Job()


def results(pool, *calls, homes=None, job=JOB):
    """The results of calls (method, *arguments), in the order of the calls."""
    made = [Call(c[0], tuple(c[1:]), (homes or range(len(calls)))[i]) for i, c in enumerate(calls)]
    found = dict(pool(job, made))
    return [found[index] for index in range(len(calls))]


@pytest.fixture(scope="module")
def shared_pool(two_gpus):
    """Its actors are replaced when a test kills them."""
    made = ActorPool()
    yield made
    made.close()


@pytest.fixture
def pool(shared_pool):
    """The shared pool, once both of its actors run."""
    deadline = time.monotonic() + 120
    while len(shared_pool.actors) < 2:
        assert time.monotonic() < deadline, "an actor did not start in time"
        results(shared_pool, ("process",), ("process",))
    return shared_pool


def test_pool_with_two_gpus_pins_actors_to_distinct_ones(pool):
    results(pool, ("identity", 1), ("identity", 2))
    gpus = ray.get([actor.gpus.remote() for actor in pool.actors])
    assert sorted(gpus) == [("0",), ("1",)]


def test_pool_gives_every_call_its_own_result(pool):
    assert results(pool, *[("identity", i) for i in range(20)]) == list(range(20))


def test_pool_call_of_the_same_home_goes_to_the_same_actor(pool):
    first = results(pool, *[("process",)] * 8)
    assert len(set(first)) == 2
    backwards = range(7, -1, -1)
    assert results(pool, *[("process",)] * 8, homes=backwards) == first[::-1]


def test_pool_of_two_actors_gives_each_one_of_two_calls(pool):
    assert len(set(results(pool, ("process",), ("process",), homes=(101, 102)))) == 2


def test_pool_actors_do_one_job_after_another_and_hold_what_the_last_opened(pool):
    jobs = [Job(), Job(), JOB]
    found = [results(pool, *[("opened",)] * 8, job=job) for job in jobs]
    processes = [{process for process, _, _ in of_job} for of_job in found]
    assert processes[0] == processes[1] == processes[2]
    for of_job in found:
        assert len({(process, opened) for process, opened, _ in of_job}) == 2
        assert {held for _, _, held in of_job} == {1}


def test_pool_actor_that_died_between_two_jobs_is_replaced(pool):
    first = results(pool, ("process",), ("process",))
    os.kill(first[0], signal.SIGKILL)
    second = results(pool, ("process",), ("process",), job=Job())
    assert first[0] not in second


def test_pool_killed_actor_loses_no_call(pool, tmp_path):
    died = str(tmp_path / "died")
    calls = [("identity", 0), ("die_once", died), ("identity", 2)]
    assert results(pool, *calls) == [0, "survived", 2]


def test_pool_killed_actor_frees_its_homes(pool):
    first = results(pool, ("process",), ("process",))
    for process in first:
        os.kill(process, signal.SIGKILL)
    assert not set(results(pool, ("process",), ("process",))) & set(first)


def test_pool_call_that_always_kills_ends_with_an_error(pool):
    with pytest.raises(ClusterError, match="died again"):
        results(pool, ("die",))


def test_pool_silent_actor_is_killed_at_the_deadline_and_its_calls_done_again(
    pool, tmp_path, monkeypatch
):
    monkeypatch.setattr(pool, "deadline", 4)
    hung = str(tmp_path / "hung")
    assert results(pool, ("hang_once", hung), ("identity", 1)) == ["survived", 1]


def test_pool_error_in_a_call_is_raised_as_it_is(pool):
    with pytest.raises(ModelError, match="no such model"):
        results(pool, ("refuse",))


def test_pool_error_in_opening_the_models_is_raised_as_it_is(pool):
    with pytest.raises(ModelError, match="cannot open"):
        list(pool(Unopenable(), [Call("identity", (1,))]))
