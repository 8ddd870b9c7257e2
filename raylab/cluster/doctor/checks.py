"""The checks of a cluster's nodes: a table of probes, rules and texts.

Model: a check is a row of CHECKS: its name, the probe that runs on every node, the text of a
table's cell, the rule that finds what is wrong, and what to do if the probe itself failed.
Invariant: a probe that fails gives the fact `{"error": ...}`, and stops no other. `judge` is a
function of the facts alone. A node without facts is a fault itself. The first node is always the
driver.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from raylab.cluster.doctor import probes, rules
from raylab.cluster.doctor.probes import Facts, ProbeRequest
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
    """One thing that is examined on every node."""

    name: str
    probe: Callable[[ProbeRequest], Facts]
    """Runs on the node; see `raylab.cluster.doctor.probes`."""
    cell: Callable[[Node, Facts, Node], str]
    """The text of a table's cell."""
    rule: Callable[[Node, Facts, Node], Iterator[Verdict]]
    """What is wrong with a node, given its facts and the driver; `raylab.cluster.doctor.rules`."""
    todo: str
    """What to do if the probe failed."""
    vital: bool = True
    """Whether a failed probe is a fault."""


def run_probes(request: ProbeRequest, names: Collection[str] | None = None) -> dict[str, Facts]:
    """The facts of this process's machine, by check: of all checks, or of those in `names`."""
    found: dict[str, Facts] = {}
    for check in CHECKS:
        if names is None or check.name in names:
            try:
                found[check.name] = check.probe(request)
            except Exception as error:
                found[check.name] = {"error": probes.describe_error(error)}
    return found


def judge(nodes: Sequence[Node]) -> list[Finding]:
    """Everything that is wrong with `nodes`; the first is the driver."""
    driver, *others = nodes
    found = [finding for node in nodes for finding in _judge_node(node, driver)]
    if not any(node.trains for node in others):
        todo = "start a worker that has some: `ray start --address=... --num-cpus=N`"
        found.append(Finding("cluster", "cpus", True, "no node has a CPU for a trial", todo))
    return found


def _judge_node(node: Node, driver: Node) -> Iterator[Finding]:
    if node.silent:
        todo = "see whether raylab is installed there, and Ray's logs on that node"
        yield Finding(node.name, "node", True, f"it did not report: {node.silent}", todo)
        return
    for check in CHECKS:
        facts = node.facts[check.name]
        if "error" in facts:
            yield Finding(node.name, check.name, check.vital, facts["error"], check.todo)
            continue
        for verdict in check.rule(node, facts, driver):
            yield Finding(node.name, check.name, *verdict)


def cells(node: Node, driver: Node) -> dict[str, str]:
    """The texts of a table's cells for `node`, by check."""
    found = {}
    for check in CHECKS:
        facts = node.facts.get(check.name)
        if facts is None:
            found[check.name] = MISSING
        elif "error" in facts:
            found[check.name] = "failed"
        else:
            found[check.name] = check.cell(node, facts, driver)
    return found


def _version_cell(node: Node, facts: Facts, driver: Node) -> str:
    count = len([*rules.versions(node, facts, driver)])
    return f"{count} differ" if count else "same"


def _storage_cell(node: Node, facts: Facts, driver: Node) -> str:
    if not facts:
        return MISSING
    if rules.not_shared(facts):
        return "apart"
    return "shared" if facts["seen"] else "written"


def _count_cell(node: Node, resource: str, found: int) -> str:
    """The number that the probe found, and Ray's number if it differs."""
    counted = int(node.ray.get(resource, 0))
    return str(found) if not node.ray or counted == found else f"{found} (Ray {counted})"


CHECKS = (
    Check(
        "gpus",
        probes.gpus,
        lambda node, facts, driver: _count_cell(node, "GPU", len(facts["devices"])),
        rules.gpus,
        "see whether `python -c 'import torch; torch.zeros(1).cuda()'` works there",
    ),
    Check(
        "versions",
        probes.versions,
        _version_cell,
        rules.versions,
        "install raylab there with `pip install -c constraints.txt`",
    ),
    Check(
        "4 bits",
        probes.four_bits,
        lambda node, facts, driver: "wrong" if [*rules.four_bits(node, facts, driver)] else "right",
        rules.four_bits,
        "see whether `python -m bitsandbytes` works there",
    ),
    Check(
        "storage",
        probes.storage,
        _storage_cell,
        rules.storage,
        "check the address, its permissions and the credentials in that node's environment",
    ),
    Check(
        "token",
        probes.token,
        lambda node, facts, driver: "yes" if facts["there"] else "no",
        rules.token,
        "install huggingface_hub there",
        vital=False,
    ),
    Check(
        "scratch",
        probes.disk,
        lambda node, facts, driver: size(facts["free"]),
        rules.scratch,
        "set RAYLAB_SCRATCH to a directory that can be read there",
    ),
    Check(
        "shm",
        probes.shared_memory,
        lambda node, facts, driver: size(facts["free"]),
        rules.shared_memory,
        "mount a tmpfs at /dev/shm there",
        vital=False,
    ),
    Check(
        "clock",
        probes.clock,
        lambda node, facts, driver: f"{facts['offset']:+.2f} s" if "offset" in facts else MISSING,
        rules.clock,
        "see why that node does not tell the time",
        vital=False,
    ),
    Check(
        "memory",
        probes.memory,
        lambda node, facts, driver: size(facts["available"]),
        rules.memory,
        "mount /proc there",
        vital=False,
    ),
    Check(
        "cpus",
        probes.cpus,
        lambda node, facts, driver: _count_cell(node, "CPU", facts["cpus"]),
        rules.cpus,
        "use a node that runs Linux",
        vital=False,
    ),
)
