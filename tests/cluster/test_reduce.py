"""The sharded reduction: the same bits for any number of actors, and after any kill."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
import ray

from raylab.cluster.actors import ActorPool
from raylab.reduce.job import InProcess
from tests.cluster.adapters import tables_of, write_adapters

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """(directory of the adapters, what the reduction gives in this process)."""
    directory = tmp_path_factory.mktemp("adapters")
    write_adapters(directory)
    return directory, tables_of(directory, InProcess())


@pytest.mark.parametrize("actors", [1, 3])
def test_reduction_by_any_number_of_actors_has_the_bits_of_one_process(two_gpus, adapters, actors):
    directory, expected = adapters
    pool = ActorPool(gpus=0.25, cpus=0.25, max_actors=actors)
    try:
        assert tables_of(directory, pool) == expected
        assert len(pool.actors) + len(pool.starting) == actors
    finally:
        pool.close()


def test_reduction_whose_actors_are_killed_while_they_work_has_the_same_bits(two_gpus, adapters):
    directory, expected = adapters
    pool = ActorPool()
    killed = []

    def kill():
        while len(killed) < 2:
            time.sleep(0.3)
            if len(pool.actors) == 2 and pool.homes:
                process = ray.get(pool.actors[0].process.remote())
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for _ in range(20):
            assert tables_of(directory, pool) == expected
            if len(killed) == 2:
                break
    finally:
        killer.join()
        pool.close()
    assert len(set(killed)) == 2


@pytest.mark.slow
def test_reduction_whose_node_dies_while_it_works_has_the_same_bits(adapters, several_nodes):
    found = several_nodes[0]["reduction"]
    assert found["died"] == 1
    assert found["tables"] == json.loads(json.dumps(adapters[1]))
