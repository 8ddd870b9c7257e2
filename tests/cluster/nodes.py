"""A cluster of three nodes on this machine, each a process as a machine of its own would have it.

Model: `ray start --block` is one process a node, in a session of its own, by which all that it
starts is found and ended. Each node has a temporary directory of its own: nodes that share one
delete each other's copies of a job's working directory. Ports are free ones, or Ray's choice; the
home directory, and so the token, is the test's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 90.0
# Of what several nodes on one machine would collide in; the defaults are for one.
_EVERY_NODE = (
    "--block",
    "--min-worker-port=0",
    "--max-worker-port=0",
    "--dashboard-agent-listen-port=0",
    "--object-store-memory=100000000",
)


@dataclass(frozen=True)
class Nodes:
    """A running cluster: the environment of a shell that talks to it, where it listens, and its
    nodes, the head first."""

    environment: dict[str, str]
    dashboard: str
    address: str
    processes: list[subprocess.Popen[bytes]]
    add: Callable[[], None]
    """Start one more worker."""

    def kill(self, index: int) -> None:
        """End a node as a machine that loses its power would."""
        for process in _processes_of({self.processes[index].pid}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.processes[index].wait()


@contextlib.contextmanager
def started(folder: Path, head: str, worker: str, workers: int = 2) -> Iterator[Nodes]:
    """A head without resources and workers of one CPU and one logical GPU, by the commands given.

    `head` is a `ray start --head --port=6379`, `worker` a `ray start --address=HEAD:6379`. The path
    of `folder` must be short: Ray 2.60 puts sockets below it, whose paths may have 107 bytes.
    """
    port, dashboard, client = _free_ports(3)
    environment = _environment(folder)
    subprocess.run(["ray", "get-auth-token", "--generate"], env=environment, check=True)
    nodes: list[subprocess.Popen[bytes]] = []

    def start(command: str, *options: str) -> None:
        temporary = folder / str(len(nodes))
        words = [*command.split(), *_EVERY_NODE, *options, f"--temp-dir={temporary}"]
        with (folder / f"{len(nodes)}.log").open("wb") as log:
            node = subprocess.Popen(
                words, env=environment, stdout=log, stderr=log, start_new_session=True
            )
            nodes.append(node)

    try:
        start(
            head.replace("6379", str(port)),
            "--num-cpus=0",
            "--num-gpus=0",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={client}",
        )
        address = f"127.0.0.1:{port}"

        def add() -> None:
            start(worker.replace("HEAD:6379", address), "--num-cpus=1", "--num-gpus=1")
            # One after another: Ray gives a node 30 s to start, however busy the machine is.
            _wait(nodes, found)

        found = Nodes(environment, f"http://127.0.0.1:{dashboard}", address, nodes, add)
        _wait(nodes, found)
        for _ in range(workers):
            add()
        yield found
    finally:
        _end(nodes)


def _environment(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("RAY_")}
    home = folder / "home"
    home.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ray = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**kept, **ray, "HOME": str(home), "PATH": path}


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _alive(nodes: Nodes) -> int:
    """How many nodes the dashboard shows; 0 while it does not answer."""
    token = (Path(nodes.environment["HOME"]) / ".ray" / "auth_token").read_text()
    request = urllib.request.Request(
        f"{nodes.dashboard}/nodes?view=summary", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            summary = json.load(answer)["data"]["summary"]
    except OSError:
        return 0
    return sum(node["raylet"].get("state") == "ALIVE" for node in summary)


def _wait(nodes: list[subprocess.Popen[bytes]], found: Nodes) -> None:
    """Until every node that was not killed is alive; the newest must be."""
    deadline = time.monotonic() + _PATIENCE
    while nodes[-1].poll() is None and _alive(found) < sum(node.poll() is None for node in nodes):
        assert time.monotonic() < deadline, f"it did not start in time: {_said(found)}"
        time.sleep(0.5)
    assert nodes[-1].poll() is None, f"a node ended: {_said(found)}"


def _said(found: Nodes) -> str:
    """What the newest node printed."""
    log = Path(found.environment["HOME"]).parent / f"{len(found.processes) - 1}.log"
    return log.read_text(errors="replace")[-2000:]


def _end(nodes: list[subprocess.Popen[bytes]]) -> None:
    """End every node, workers first, and whatever of them is left."""
    for node in reversed(nodes):
        node.terminate()
    for node in nodes:
        node.wait(60)
    sessions = {node.pid for node in nodes}
    deadline = time.monotonic() + 15
    while (left := _processes_of(sessions)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _processes_of(sessions: set[int]) -> list[int]:
    """The living processes of the sessions that nodes were started in."""
    found = []
    for process in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process) in sessions:
                found.append(process)
    return found
