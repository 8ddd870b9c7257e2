"""The actor that starts while trials train: what it measures, its death, and how it goes on."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import RayActorError

from raylab.cluster import actors
from raylab.cluster.actors import ActorPool
from raylab.cluster.callbacks.prepare import PrepareCallback
from raylab.cluster.early_actor import EarlyActor
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.spec.study_file import parse_study
from raylab.store.references import ModelLocation
from tests.cluster.adapters import DENSITIES, write_adapters
from tests.cluster.test_actors import results
from tests.cluster.whole import RECIPES

pytestmark = pytest.mark.cluster


@pytest.fixture
def early(local_ray, monkeypatch):
    """On a cluster without GPUs; that of the tests may have some by name."""
    monkeypatch.setattr("raylab.cluster.early_actor.has_gpus", lambda: False)
    made = EarlyActor()
    yield made
    made.close()


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The comparison of two adapters, as a preview takes it."""
    directory = tmp_path_factory.mktemp("adapters")
    write_adapters(directory)
    return ("a~b", "a", "b"), {name: ModelLocation((directory / name,)) for name in "ab"}, None


def test_preview_has_the_rows_of_a_reduction_in_this_process(early, compared):
    pair, places, base = compared
    found = ray.get(early.measure(*compared, DENSITIES))
    expected = reduce_pairs(Job(places, (Pair(*pair),), base), DENSITIES, InProcess(), shards=1)
    assert expected.norms
    assert (found.norms, found.densities) == (expected.norms, expected.densities)


def test_early_actor_that_died_costs_one_preview(early, compared):
    ray.get(early.measure(*compared, DENSITIES))
    os.kill(ray.get(early._actor.process.remote()), signal.SIGKILL)
    with pytest.raises(RayActorError):
        ray.get(early.measure(*compared, DENSITIES))
    early.lost()
    assert ray.get(early.measure(*compared, DENSITIES)).norms


def test_actor_prepares_itself_twice_without_an_error(early):
    early.measure((), {}, None, ())
    assert ray.get([early._actor.prepare.remote() for _ in range(2)]) == [None, None]


def test_pool_goes_on_with_the_early_actor_in_one_thread(early):
    early.prepare()
    taken = early.take()
    process = ray.get(taken.process.remote())
    early.close()
    pool = ActorPool(first=taken)
    try:
        assert results(pool, ("process",), ("process",)) == [process, process]
        assert results(pool, ("threads",)) == [1]
    finally:
        pool.close()


def test_pool_with_work_for_long_starts_other_actors_beside_its_first_one(early, monkeypatch):
    monkeypatch.setattr(actors, "_GROWTH_SECONDS", 0.5)
    early.measure((), {}, None, ())
    pool = ActorPool(first=early.take())
    deadline = time.monotonic() + 120
    try:
        while len(set(results(pool, *[("process",)] * 8))) < 2:
            assert time.monotonic() < deadline, "no other actor started"
    finally:
        pool.close()


def test_pool_whose_first_actor_died_does_every_call(early):
    early.measure((), {}, None, ())
    taken = early.take()
    os.kill(ray.get(taken.process.remote()), signal.SIGKILL)
    pool = ActorPool(first=taken)
    try:
        assert results(pool, *[("identity", i) for i in range(4)]) == [0, 1, 2, 3]
    finally:
        pool.close()


def test_pool_of_a_cluster_with_gpus_begins_without_the_early_actor(local_ray, monkeypatch):
    monkeypatch.setattr("raylab.cluster.early_actor.has_gpus", lambda: True)
    early = EarlyActor()
    early.prepare()
    assert early._actor is None
    early.measure((), {}, None, ())
    started = early._actor
    assert early.take() is None
    with pytest.raises(RayActorError):
        ray.get(started.process.remote())


class Prepared:
    """Stands where an EarlyActor does, and counts."""

    count = 0

    def prepare(self):
        self.count += 1


def trials(*finished):
    return [SimpleNamespace(is_finished=lambda is_over=is_over: is_over) for is_over in finished]


def test_stages_are_prepared_once_a_slot_has_no_trial_and_another_one_trains(local_ray, study_text):
    study = parse_study(study_text + RECIPES, Path("study.yaml"))
    early = Prepared()
    callback = PrepareCallback(study, early)
    loading, step = {"phase": "loading libraries"}, {"phase": "training", "step": 1}
    for running, result, expected in (
        ((False,), loading, 0),
        ((False, False, False), step, 0),
        ((True, False, False), step, 0),
        ((True, True, False), step, 1),
    ):
        callback.on_trial_result(0, trials(*running), None, result)
        assert early.count == expected, running


def test_callback_of_an_early_actor_can_be_pickled_while_it_loads(early):
    early.prepare()
    copy = pickle.loads(ray.cloudpickle.dumps(early))
    assert copy.take() is not None
