"""What every node of a cluster sees, and what is wrong with it.

Model: one examiner, an actor without CPUs or GPUs of its own, is pinned to each node that is
alive, where it sees all GPUs; it looks at everything in `raylab.cluster.doctor.checks`. The driver
looks at its own machine meanwhile, and has left a probe in the storage that the nodes are to see.
Then each examiner is asked for the time: the node's clock is held against the midpoint of the
shortest of a few round trips, which leaves half of it in doubt.
Invariant: an examination ends, whatever the nodes do: one that has not answered by the deadline
is a finding. Examiners and probes are gone afterwards, and with them the GPU memory they took.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylab.cluster.doctor.checks import Finding, cells, judge, look
from raylab.cluster.doctor.probes import (
    Asked,
    Facts,
    new_directories,
    remove_empty,
    said,
    without_secrets,
)
from raylab.cluster.doctor.rules import Node
from raylab.cluster.session import connected
from raylab.errors import OutError
from raylab.store.filesystem import Store

DEADLINE = 120.0
"""Seconds; a node that starts a worker and imports torch for the first time may take one of two."""
_ROUND_TRIPS = 3


@dataclass(frozen=True)
class Examination:
    """All nodes, the driver first, and what is wrong with them."""

    storage: str | None
    nodes: tuple[Node, ...]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no fault; remarks may be."""
        return not any(finding.fault for finding in self.findings)

    @property
    def cells(self) -> dict[str, dict[str, str]]:
        """What a table shows, by node and check."""
        return {node.name: cells(node, self.nodes[0]) for node in self.nodes}

    @property
    def document(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        told: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for finding in self.findings:
            values = asdict(finding)
            told[values.pop("fault")].append(values)
        return {
            "healthy": self.healthy,
            "storage": self.storage,
            "nodes": [asdict(node) for node in self.nodes],
            "faults": told[True],
            "remarks": told[False],
        }


@ray.remote(num_cpus=0, num_gpus=0, max_restarts=0)
class Examiner:
    """Looks at the node that it is on."""

    def look(self, asked: Asked) -> dict[str, Facts]:
        """All facts of this node."""
        return look(asked)

    def now(self) -> float:
        """The time on this node."""
        return time.time()


def examine(
    address: str | None, storage: str | None = None, deadline: float = DEADLINE
) -> Examination:
    """Examine every node of the cluster at `address`, or of one that is started for it.

    A node has `deadline` seconds. Raises ClusterError or, for what is no address, OutError.
    """
    store = Store(storage) if storage else None
    with connected(address), _probed(store) as asked:
        nodes = tuple(_examine_all(asked, time.monotonic() + deadline))
    findings = tuple(judge(nodes))
    return Examination(without_secrets(store.uri) if store else None, nodes, findings)


@contextmanager
def _probed(store: Store | None) -> Iterator[Asked]:
    """Within, the storage holds a probe of the driver's, if the driver can write there."""
    if store is None:
        yield Asked()
        return
    key, new = f".probe-{uuid.uuid4().hex}", new_directories(store)
    try:
        try:
            store.prepare()
            store.write(key, key.encode())
        except OutError:
            # The driver looks at the storage as all nodes do, and says then what is wrong.
            yield Asked(store.uri)
        else:
            yield Asked(store.uri, key)
            store.delete(key)
    finally:
        remove_empty(new)


def _examine_all(asked: Asked, deadline: float) -> Iterator[Node]:
    """The driver, then every node that is alive."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    examiners = {node["NodeID"]: _examiner(node["NodeID"]) for node in alive}
    try:
        calls = {node: examiner.look.remote(asked) for node, examiner in examiners.items()}
        yield Node("driver", look(asked))
        patience = max(0.0, deadline - time.monotonic())
        ray.wait(list(calls.values()), num_returns=len(calls), timeout=patience)
        for node in alive:
            name, key = _name(node), node["NodeID"]
            yield _answer(name, node["Resources"], calls[key], examiners[key])
    finally:
        for examiner in examiners.values():
            ray.kill(examiner)


def _examiner(node: str) -> Any:
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    examiner: Any = Examiner
    return examiner.options(scheduling_strategy=place).remote()


def _name(node: Mapping[str, Any]) -> str:
    """A node's host, and as much of its id as tells it from another on that host."""
    return f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})"


def _answer(name: str, resources: Mapping[str, float], call: Any, examiner: Any) -> Node:
    """What a node has said by now, or why it has not."""
    try:
        seen = {check: _discreet(facts) for check, facts in ray.get(call, timeout=0).items()}
        seen["clock"] = _offset(examiner)
    except GetTimeoutError:
        return Node(name, ray=resources, silent="no answer before the deadline")
    except RayError as error:
        return Node(name, ray=resources, silent=said(error))
    return Node(name, seen, resources)


def _discreet(facts: Facts) -> Facts:
    """The same without the driver's secrets, which a node that was told some would not know."""
    return facts | {"error": without_secrets(facts["error"])} if "error" in facts else facts


def _offset(examiner: Any) -> Facts:
    """How far a node's clock is ahead of this one's, and how much of that is in doubt."""
    trips: list[tuple[float, float]] = []
    for _ in range(_ROUND_TRIPS):
        before, started = time.time(), time.monotonic()
        there = ray.get(examiner.now.remote(), timeout=10)
        half = (time.monotonic() - started) / 2
        trips.append((half, there - before - half))
    within, offset = min(trips)
    return {"offset": offset, "within": within}
