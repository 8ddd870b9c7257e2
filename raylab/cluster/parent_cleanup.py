"""Merged parents are deleted on every node of the cluster; on its own node by the driver.

Invariant: nothing heavy is imported, so that the worker of a node is there in no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylab.cluster.worker_gpu import use_own_gpu
from raylab.store.filesystem import Store
from raylab.store.merged_parents import release


def delete_parents(out: str, parent_ids: Sequence[str]) -> list[Any]:
    """Delete merged parents on every node; returns the references of the tasks that do it on other
    nodes than this one."""
    here = ray.get_runtime_context().get_node_id()
    _release(out, parent_ids)
    references = []
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] != here:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)
            task = _delete_parents.options(num_cpus=0, scheduling_strategy=place)
            references.append(task.remote(out, list(parent_ids)))
    return references


@ray.remote
def _delete_parents(out: str, parent_ids: Sequence[str]) -> None:
    use_own_gpu()
    _release(out, parent_ids)


def _release(out: str, parent_ids: Sequence[str]) -> None:
    for parent_id in parent_ids:
        release(Store(out), parent_id)
