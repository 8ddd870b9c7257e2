"""Examines two nodes, stops one of them in its tracks, and examines them again.

Run as a process of its own: a cluster of several nodes and the tests' shared one cannot both be
this process's. Writes documents.json: the id of that node, and both examinations.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from raylab.cluster.doctor.examine import examine


def main(out: Path) -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    documents = [examine(None, str(out / "storage")).document]
    raylet = node.all_processes["raylet"][0].process.pid
    os.kill(raylet, signal.SIGSTOP)
    try:
        documents.append(examine(None, deadline=4).document)
    finally:
        os.kill(raylet, signal.SIGCONT)
    (out / "documents.json").write_text(json.dumps([node.node_id, *documents]))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
