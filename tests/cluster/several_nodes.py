"""What raylab does on a cluster of several nodes, in one process with a cluster of its own.

A cluster of several nodes and the tests' shared one cannot both belong to one process. Writes
results.json: for the storage, what each way of not sharing OUT comes to; two examinations, the
second with a node whose process was stopped; and the tables of a reduction during which a node
dies.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from raylab.cluster.actors import ActorPool
from raylab.cluster.doctor.examine import examine, require_shared_storage, working_nodes
from raylab.errors import OutError
from raylab.store.filesystem import Store
from tests.cluster.adapters import tables_of, write_adapters


def storage_error(store: Store, second: str, other=None) -> str:
    """The error where the node `second` takes the path that `other` gives for OUT."""
    try:
        require_shared_storage(
            store, (lambda node: str(other()) if node == second else store.root) if other else None
        )
    except OutError as error:
        return error.message
    return ""


def storage_errors(directory: Path, store: Store, second: str) -> dict[str, object]:
    """Other directories stand for disks that the second node does not share."""
    (directory / "own").mkdir()
    (directory / "file").touch()
    others = {
        "own": lambda: directory / "own",
        "absent": lambda: directory / "absent",
        "file": lambda: directory / "file" / "out",
        "copied": lambda: shutil.copytree(store.root, directory / "copy"),
    }
    return {
        "shared": storage_error(store, second),
        **{name: storage_error(store, second, other) for name, other in others.items()},
        "remote": storage_error(Store("s3://bucket/x?region=us-east-1"), second),
        "second": second[:8],
        "nodes": len(working_nodes()),
    }


def reduction(cluster: Cluster, node, directory: Path) -> dict[str, object]:
    """The tables of a reduction during which `node` dies."""
    write_adapters(directory)
    pool = ActorPool(gpus=0.5, cpus=0.5)

    def kill() -> None:
        while not pool.homes:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)

    before = sum(node["Alive"] for node in ray.nodes())
    killer = threading.Thread(target=kill)
    killer.start()
    tables = tables_of(directory, pool)
    killer.join()
    pool.close()
    deadline = time.monotonic() + 60
    while (after := sum(node["Alive"] for node in ray.nodes())) == before:
        assert time.monotonic() < deadline, "the node is still alive"
        time.sleep(0.5)
    return {"tables": tables, "died": before - after}


def examinations(node, storage: Path) -> dict[str, object]:
    """Two of them; for the second, the process of `node` does not answer."""
    # Three nodes import torch at once, on a machine that may do other work.
    before = examine(None, str(storage), deadline=300).document
    raylet = node.all_processes["raylet"][0].process.pid
    os.kill(raylet, signal.SIGSTOP)
    try:
        after = examine(None, deadline=4).document
    finally:
        os.kill(raylet, signal.SIGCONT)
    return {"hanging": node.node_id, "before": before, "after": after}


def main(directory: Path) -> None:
    store = Store(str(directory / "out"))
    store.prepare()
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    ray.init(address=cluster.address, log_to_driver=False)
    one_node = storage_error(store, working_nodes()[0]["NodeID"], lambda: directory / "none")
    second = cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.add_node(num_cpus=0)
    cluster.wait_for_nodes()
    storage = {"one node": one_node, **storage_errors(directory, store, second.node_id)}
    third = cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.wait_for_nodes()
    found = {
        "storage": storage,
        "reduction": reduction(cluster, third, directory / "adapters"),
        "examinations": examinations(second, directory / "storage"),
    }
    (directory / "results.json").write_text(json.dumps(found))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
