"""The checks that are put to every node of a cluster: what is looked at, shown and judged.

Model: a check is a row of CHECKS: its name, the look that is run on every node, what a table
shows of it, the rule that finds what is wrong, and what to do where the look itself failed.
Invariant: a look that fails is a fact, `{"error": ...}`, and stops no other; `judge` is a
function of the facts alone. A node that gave no facts is a fault itself. The first node is
always the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from raylab.cluster.doctor import probes as facts
from raylab.cluster.doctor import rules as verdicts
from raylab.cluster.doctor.probes import Asked, Facts
from raylab.cluster.doctor.rules import Node, Verdict
from raylab.number_format import MISSING, size


@dataclass(frozen=True)
class Finding:
    """A verdict on one node by one check."""

    node: str
    check: str
    fault: bool
    what: str
    todo: str


@dataclass(frozen=True)
class Check:
    """One thing that is looked at on every node."""

    name: str
    look: Callable[[Asked], Facts]
    """Run on the node; see `raylab.cluster.doctor.probes`."""
    cell: Callable[[Node, Facts, Node], str]
    """What a table shows of it."""
    judge: Callable[[Node, Facts, Node], Iterator[Verdict]]
    """What is wrong with a node, given its facts and the driver."""
    todo: str
    """What to do where the look failed."""
    vital: bool = True
    """Whether it is a fault that the look failed."""


def look(asked: Asked) -> dict[str, Facts]:
    """Everything that this process sees of its machine, by check."""
    return {check.name: _look(check, asked) for check in CHECKS}


def _look(check: Check, asked: Asked) -> Facts:
    try:
        return check.look(asked)
    except Exception as error:
        return {"error": facts.said(error)}


def judge(nodes: Sequence[Node]) -> list[Finding]:
    """Everything that is wrong with `nodes`, of which the first is the driver."""
    driver, *others = nodes
    found = [finding for node in nodes for finding in _judge_node(node, driver)]
    if not any(node.trains for node in others):
        todo = "start a worker that has some: `ray start --address=... --num-cpus=N`"
        found.append(Finding("cluster", "cpus", True, "no node has a CPU for a trial", todo))
    return found


def _judge_node(node: Node, driver: Node) -> Iterator[Finding]:
    if node.silent:
        todo = "see whether raylab is installed there, and Ray's logs on that node"
        yield Finding(node.name, "node", True, f"it did not say what it sees: {node.silent}", todo)
        return
    for check in CHECKS:
        for verdict in _verdicts(check, node, driver):
            yield Finding(node.name, check.name, *verdict)


def _verdicts(check: Check, node: Node, driver: Node) -> Iterable[Verdict]:
    seen = node.facts[check.name]
    if "error" in seen:
        return [Verdict(check.vital, seen["error"], check.todo)]
    return check.judge(node, seen, driver)


def cells(node: Node, driver: Node) -> dict[str, str]:
    """What a table shows of `node`, by check."""
    return {check.name: _cell(check, node, driver) for check in CHECKS}


def _cell(check: Check, node: Node, driver: Node) -> str:
    seen = node.facts.get(check.name)
    if seen is None:
        return MISSING
    return "failed" if "error" in seen else check.cell(node, seen, driver)


def _differing(node: Node, seen: Facts, driver: Node) -> str:
    count = len([*verdicts.versions(node, seen, driver)])
    return f"{count} differ" if count else "same"


_STORED = {None: "written", True: "shared", False: "apart"}


def _counts(node: Node, resource: str, seen: int) -> str:
    """What is there, and what Ray counts where that differs."""
    counted = int(node.ray.get(resource, 0))
    return str(seen) if not node.ray or counted == seen else f"{seen} (Ray {counted})"


CHECKS = (
    Check(
        "gpus",
        facts.gpus,
        lambda node, seen, driver: _counts(node, "GPU", len(seen["devices"])),
        verdicts.gpus,
        "see whether `python -c 'import torch; torch.zeros(1).cuda()'` works there",
    ),
    Check(
        "versions",
        facts.versions,
        _differing,
        verdicts.versions,
        "install raylab there with `pip install -c constraints.txt`",
    ),
    Check(
        "4 bits",
        facts.four_bits,
        lambda node, seen, driver: (
            "wrong" if [*verdicts.four_bits(node, seen, driver)] else "right"
        ),
        verdicts.four_bits,
        "see whether `python -m bitsandbytes` works there",
    ),
    Check(
        "storage",
        facts.storage,
        lambda node, seen, driver: _STORED[seen["seen"]] if seen else MISSING,
        verdicts.storage,
        "check the address, its permissions and the credentials in that node's environment",
    ),
    Check(
        "token",
        facts.token,
        lambda node, seen, driver: "yes" if seen["there"] else "no",
        verdicts.token,
        "install huggingface_hub there",
        vital=False,
    ),
    Check(
        "scratch",
        facts.disk,
        lambda node, seen, driver: size(seen["free"]),
        verdicts.scratch,
        "set RAYLAB_SCRATCH to a directory that can be read there",
    ),
    Check(
        "shm",
        facts.shared_memory,
        lambda node, seen, driver: size(seen["free"]),
        verdicts.shared_memory,
        "mount a tmpfs at /dev/shm there",
        vital=False,
    ),
    Check(
        "clock",
        facts.clock,
        lambda node, seen, driver: f"{seen['offset']:+.2f} s" if "offset" in seen else MISSING,
        verdicts.clock,
        "see why that node does not tell the time",
        vital=False,
    ),
    Check(
        "memory",
        facts.memory,
        lambda node, seen, driver: size(seen["available"]),
        verdicts.memory,
        "mount /proc there",
        vital=False,
    ),
    Check(
        "cpus",
        facts.cpus,
        lambda node, seen, driver: _counts(node, "CPU", seen["cpus"]),
        verdicts.cpus,
        "use a node that runs Linux",
        vital=False,
    ),
)
