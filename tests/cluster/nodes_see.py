"""Asks nodes for what they see of OUT, with other directories in place of unshared disks.

Run as a process of its own, as node_dies.py. Writes seen.json: what each question came to.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from raylab.cluster.shared_storage import require_visible, working_nodes
from raylab.errors import OutError
from raylab.store.filesystem import Store


def asked(store: Store, other=None) -> str:
    """What is said when the second node takes the path that `other` gives for OUT."""
    second = working_nodes()[-1]["NodeID"]

    def root_on(node):
        return str(other()) if node["NodeID"] == second else store.root

    try:
        require_visible(store, root_on if other else None)
    except OutError as error:
        return error.message
    return ""


def main(directory: Path) -> None:
    store = Store(str(directory / "out"))
    store.prepare()
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    ray.init(address=cluster.address, log_to_driver=False)
    seen = {"one node": asked(store, lambda: directory / "none")}
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=0)
    cluster.wait_for_nodes()

    def copied() -> Path:
        return Path(shutil.copytree(store.root, directory / "copy"))

    (directory / "own").mkdir()
    (directory / "file").touch()
    seen |= {
        "shared": asked(store),
        "own": asked(store, lambda: directory / "own"),
        "absent": asked(store, lambda: directory / "absent"),
        "file": asked(store, lambda: directory / "file" / "out"),
        "copied": asked(store, copied),
        "remote": asked(Store("s3://bucket/x?region=us-east-1")),
        "second": working_nodes()[-1]["NodeID"][:8],
        "nodes": len(working_nodes()),
    }
    (directory / "seen.json").write_text(json.dumps(seen))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
