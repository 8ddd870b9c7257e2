"""Reduces two adapters on three nodes, one of which dies while its actor works.

Run as a process of its own: a cluster of several nodes and the tests' shared one cannot both be
this process's. Writes tables.json: the tables, and what is left of the nodes.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from raylab.cluster.actors import ActorPool
from tests.cluster.adapters import tables_of


def main(adapters: Path, out: Path) -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    pool = ActorPool(gpus=0.5, cpus=0.5)
    died = []

    def kill() -> None:
        while not pool.homes:
            time.sleep(0.05)
        cluster.remove_node(nodes[1], allow_graceful=False)
        died.append(nodes[1])

    killer = threading.Thread(target=kill)
    killer.start()
    tables = tables_of(adapters, pool)
    killer.join()
    deadline = time.monotonic() + 60
    while (alive := sum(node["Alive"] for node in ray.nodes())) > 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    (out / "tables.json").write_text(
        json.dumps({"tables": tables, "died": bool(died), "nodes": alive})
    )
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
