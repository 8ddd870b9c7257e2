"""Whether every node of a cluster sees the same OUT, asked before anything is trained.

Model: where OUT is a path and there are several nodes to work on, the driver leaves a token in
OUT; a task on each node, which can run nowhere else, reads it and leaves one of its own, which
the driver reads. An object store is the same from everywhere, and is not asked.
Invariant: passes only if every node that could get work read and wrote the driver's own OUT. A
node that does not see the token writes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylab.errors import OutError, StoreError
from raylab.store.filesystem import Store
from raylab.store.retry import RetryPolicy

PATIENCE = 60.0
"""Seconds within which every node must have answered."""

Node = Mapping[str, Any]


def require_visible(store: Store, root_on: Callable[[Node], str] | None = None) -> None:
    """Raise OutError, which names the nodes, where a local OUT is not the same on all of them.

    `root_on` says which path a node takes for OUT; by itself that is OUT. It is there for tests,
    whose nodes all lie on one machine: another path stands for a disk that a node does not
    share. They show what is done about such a disk, not that a real one behaves so.
    """
    nodes = working_nodes()
    if not store.is_local or len(nodes) < 2:
        return
    folder, token = f".visible-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    try:
        store.write(f"{folder}/driver", token.encode())
        asked = {
            _ask(node, root_on(node) if root_on else store.root, folder, token): node
            for node in nodes
        }
        ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE)
        reasons = {
            _name(node): _reason(store, answer, f"{folder}/{node['NodeID']}")
            for answer, node in asked.items()
        }
    finally:
        store.delete(folder)
    blind = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
    if blind:
        raise OutError(
            f"OUT is not the same directory on {len(blind)} of {len(nodes)} nodes",
            found="; ".join([store.root, *blind]),
            expected="a directory that all nodes share, or an object store",
            todo="give --out a path on a shared disk, or a URI such as s3://bucket/path",
        )


def working_nodes() -> list[Node]:
    """The nodes that are alive and have something to work with."""
    return [
        node
        for node in ray.nodes()
        if node["Alive"] and any(node["Resources"].get(kind) for kind in ("CPU", "GPU"))
    ]


def _ask(node: Node, root: str, folder: str, token: str) -> Any:
    """The coming answer of `node`, of which the driver then looks for a file of its own."""
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = _probe.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    return task.remote(root, folder, token, node["NodeID"])


@ray.remote
def _probe(root: str, folder: str, token: str, own: str) -> str:
    """On the node `own`: what keeps it from working in `root`; nothing where it can."""
    store = Store(root, RetryPolicy(stop_after=10))
    try:
        found = store.read_if_there(f"{folder}/driver")
        if found is None or found.decode() != token:
            return "what the driver wrote there is not to be seen"
        store.write(f"{folder}/{own}", own.encode())
    except StoreError as error:
        return str(error.found)
    return ""


def _reason(store: Store, answer: Any, written: str) -> str:
    """Why the node that was to give `answer` and to write the key `written` cannot be used;
    nothing where it can."""
    try:
        if not ray.wait([answer], timeout=0)[0]:
            return f"no answer in {PATIENCE:.0f} s"
        said: str = ray.get(answer)
    except RayError as error:
        return f"it could not be asked: {str(error).strip().splitlines()[0]}"
    if not said and not store.exists(written):
        return "the driver does not see what it wrote there"
    return said


def _name(node: Node) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
