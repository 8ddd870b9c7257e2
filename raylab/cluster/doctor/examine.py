"""Probes run on the nodes of a cluster: all of them for `raylab doctor`, some before a study.

Model: an examiner, an actor without CPUs or GPUs of its own, is pinned to each node, where it sees
all GPUs, and runs the probes of `raylab.cluster.doctor.checks`. Meanwhile the driver probes its
own machine. The driver leaves a token in the storage; each node reads it and writes a file, which
the driver looks for. Each examiner is then asked for the time: the node's clock is compared with
the midpoint of the shortest of a few round trips, which leaves half of that trip in doubt.
Invariant: an examination always ends: a node that has not answered by the deadline is a finding.
Examiners and tokens are gone afterwards, and with them the GPU memory that they took. A study
starts only if every node that can work has read and written the driver's OUT.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylab.cluster.doctor.checks import Finding, cells, judge, run_probes
from raylab.cluster.doctor.probes import (
    TOKEN,
    Facts,
    ProbeRequest,
    describe_error,
    new_directories,
    redacted,
    remove_empty,
)
from raylab.cluster.doctor.rules import Node, not_shared
from raylab.cluster.session import connected
from raylab.errors import OutError
from raylab.store.filesystem import Store

DEADLINE = 120.0
"""Seconds; a node that starts a worker and imports torch for the first time may need one minute."""
STUDY_DEADLINE = 60.0
"""Seconds that a node has to answer before a study starts."""
_ROUND_TRIPS = 3

RayNode = Mapping[str, Any]
"""A node as `ray.nodes()` gives it."""
Answers = Mapping[str, dict[str, Facts] | Exception]
"""The facts of each node by check, or why there are none; by the node's id."""


@dataclass(frozen=True)
class Examination:
    """All nodes, the driver first, and what is wrong with them."""

    storage: str | None
    nodes: tuple[Node, ...]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no fault; there may be remarks."""
        return not any(finding.fault for finding in self.findings)

    @property
    def cells(self) -> dict[str, dict[str, str]]:
        """The texts of a table's cells, by node and check."""
        return {node.name: cells(node, self.nodes[0]) for node in self.nodes}

    @property
    def document(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        findings: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for finding in self.findings:
            values = asdict(finding)
            findings[values.pop("fault")].append(values)
        return {
            "healthy": self.healthy,
            "storage": self.storage,
            "nodes": [asdict(node) for node in self.nodes],
            "faults": findings[True],
            "remarks": findings[False],
        }


@ray.remote(num_cpus=0, num_gpus=0, max_restarts=0)
class Examiner:
    """Runs probes on its node."""

    def probe(self, request: ProbeRequest, names: Collection[str] | None) -> dict[str, Facts]:
        """The facts of this node, by check."""
        return run_probes(request, names)

    def now(self) -> float:
        """The time on this node."""
        return time.time()


def examine(
    address: str | None, storage: str | None = None, deadline: float = DEADLINE
) -> Examination:
    """Examine every node of the cluster at `address`, or of one that is started for it.

    A node has `deadline` seconds. Raises ClusterError, or OutError if `storage` is no address.
    """
    store = Store(storage) if storage else None
    with connected(address), _prepared_storage(store) as request:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        until = time.monotonic() + deadline
        with _examiners(nodes) as examiners:
            calls = _start_probes(examiners, lambda node: request)
            driver = Node("driver", run_probes(request))
            answers = _collect(calls, request, until)
            examined = [driver, *(_examined(node, answers, examiners) for node in nodes)]
    findings = tuple(judge(examined))
    return Examination(redacted(store.uri) if store else None, tuple(examined), findings)


def smallest_gpu_memory() -> int | None:
    """The bytes of the smallest GPU of any node, as torch sees it.

    None if no node has a GPU or answers; it serves a warning alone.
    """
    nodes = [node for node in working_nodes() if node["Resources"].get("GPU")]
    with _examiners(nodes) as examiners:
        request = ProbeRequest()
        calls = _start_probes(examiners, lambda node: request, ("gpus",))
        answers = _collect(calls, request, time.monotonic() + STUDY_DEADLINE)
    found = [answer["gpus"] for answer in answers.values() if isinstance(answer, dict)]
    return least_memory(found)


def least_memory(found: Sequence[Facts]) -> int | None:
    """The least memory in bytes of all devices in the facts of several nodes; None without any."""
    devices = [device for facts in found for device in facts.get("devices", ())]
    return min((int(device["memory"]) for device in devices), default=None)


def require_shared_storage(store: Store, root_on: Callable[[str], str] | None = None) -> None:
    """Raise OutError, which names the nodes, if a local OUT is not the same on all nodes.

    An object store is the same from everywhere, and is not probed. `root_on` gives the path that
    the node of an id takes for OUT; it is for tests, whose nodes all lie on one machine: another
    path stands for a disk that a node does not share.
    """
    nodes = working_nodes()
    if not store.is_local or len(nodes) < 2:
        return
    with _token_in(store) as request, _examiners(nodes) as examiners:

        def request_of(node: str) -> ProbeRequest:
            return replace(request, storage=root_on(node)) if root_on else request

        calls = _start_probes(examiners, request_of, ("storage",))
        answers = _collect(calls, request, time.monotonic() + STUDY_DEADLINE)
    wrong = []
    for node in nodes:
        if reason := _why_not_shared(answers[node["NodeID"]]):
            host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
            wrong.append(f"{host} ({address}, {node['NodeID'][:8]}): {reason}")
    if wrong:
        raise OutError(
            f"OUT is not the same directory on {len(wrong)} of {len(nodes)} nodes",
            found="; ".join([store.root, *wrong]),
            expected="a directory that all nodes share, or an object store",
            todo="give --out a path on a shared disk, or a URI such as s3://bucket/path",
        )


def working_nodes() -> list[RayNode]:
    """The nodes that are alive and have a CPU or a GPU for work."""
    return [
        node
        for node in ray.nodes()
        if node["Alive"] and any(node["Resources"].get(kind) for kind in ("CPU", "GPU"))
    ]


@contextmanager
def _prepared_storage(store: Store | None) -> Iterator[ProbeRequest]:
    """A request for the storage, which holds a token if the driver can write there."""
    if store is None:
        yield ProbeRequest()
        return
    new = new_directories(store)
    try:
        try:
            store.prepare()
        except OutError:
            # The driver's own probe of the storage then names the fault.
            yield ProbeRequest(store.uri)
        else:
            with _token_in(store) as request:
                yield request
    finally:
        remove_empty(new)


@contextmanager
def _token_in(store: Store) -> Iterator[ProbeRequest]:
    """A request for `store` with a folder that holds the driver's token; deleted at the end."""
    folder = f".probe-{uuid.uuid4().hex}"
    try:
        store.write(f"{folder}/{TOKEN}", folder.encode())
        yield ProbeRequest(store.uri, folder)
    finally:
        store.delete(folder)


@contextmanager
def _examiners(nodes: Sequence[RayNode]) -> Iterator[dict[str, Any]]:
    """An examiner on each node, by the node's id; ended with the block."""
    found: dict[str, Any] = {}
    examiner_class: Any = Examiner
    try:
        for node in nodes:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            found[node["NodeID"]] = examiner_class.options(scheduling_strategy=place).remote()
        yield found
    finally:
        for examiner in found.values():
            ray.kill(examiner)


def _start_probes(
    examiners: Mapping[str, Any],
    request_of: Callable[[str], ProbeRequest],
    names: Collection[str] | None = None,
) -> dict[str, Any]:
    """A call to each examiner, by the node's id."""
    return {
        node: examiner.probe.remote(replace(request_of(node), node=node), names)
        for node, examiner in examiners.items()
    }


def _collect(calls: Mapping[str, Any], request: ProbeRequest, until: float) -> Answers:
    """The answers of all nodes that come until a time of the monotonic clock.

    For every node that has seen the driver's token, the driver looks for the node's own file.
    """
    if calls:
        timeout = max(0.0, until - time.monotonic())
        ray.wait(list(calls.values()), num_returns=len(calls), timeout=timeout)
    answers: dict[str, dict[str, Facts] | Exception] = {}
    for node, call in calls.items():
        try:
            found: dict[str, Facts] = ray.get(call, timeout=0)
        except RayError as error:
            answers[node] = error
            continue
        if found.get("storage", {}).get("seen") and request.storage:
            store = Store(request.storage)
            found["storage"]["returned"] = store.exists(f"{request.folder}/{node}")
        answers[node] = found
    return answers


def _examined(node: RayNode, answers: Answers, examiners: Mapping[str, Any]) -> Node:
    """A node with its facts, or with the reason why there are none."""
    name, key = f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})", node["NodeID"]
    answer = answers[key]
    if not isinstance(answer, Exception):
        try:
            clock = _clock_offset(examiners[key])
        except RayError as error:
            answer = error
    if isinstance(answer, Exception):
        return Node(name, ray=node["Resources"], silent=_silence(answer))
    # A node cannot know the driver's secrets, which it may have got with the storage's URI.
    facts = {
        check: found | {"error": redacted(found["error"])} if "error" in found else found
        for check, found in answer.items()
    }
    return Node(name, facts | {"clock": clock}, node["Resources"])


def _clock_offset(examiner: Any) -> Facts:
    """Seconds that a node's clock is ahead of the driver's, and the part of them in doubt."""
    trips: list[tuple[float, float]] = []
    for _ in range(_ROUND_TRIPS):
        before, started = time.time(), time.monotonic()
        there = ray.get(examiner.now.remote(), timeout=10)
        half = (time.monotonic() - started) / 2
        trips.append((half, there - before - half))
    within, offset = min(trips)
    return {"offset": offset, "within": within}


def _why_not_shared(answer: dict[str, Facts] | Exception) -> str | None:
    if isinstance(answer, Exception):
        return _silence(answer)
    facts = answer["storage"]
    return facts.get("error") or not_shared(facts)


def _silence(error: Exception) -> str:
    is_late = isinstance(error, GetTimeoutError)
    return "no answer before the deadline" if is_late else describe_error(error)
