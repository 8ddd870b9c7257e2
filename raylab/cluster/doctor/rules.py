"""Rules: what is wrong with a node, given its facts; one pure function for each check.

Model: a rule takes a node, its facts of one check (see `raylab.cluster.doctor.probes`) and the
driver, and yields verdicts. A verdict is a fault if a study would fail or its numbers would be
wrong, and a remark otherwise.
Invariant: a verdict depends on the facts alone, and names the remedy in one line. The driver
trains nothing, so a need of training alone is never its fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from raylab.cluster.doctor.probes import Facts
from raylab.number_format import plural, size

_ROUND_TRIP = 0.15
"""nf4 in blocks of 64 is 9 % from normally distributed weights."""
_GRADIENT = 1e-3
_CLOCK_FAULT, _CLOCK_REMARK = 5.0, 1.0
_LEAST_DISK, _ROOM_ON_DISK = 1e9, 40e9
"""A merged parent of 8B parameters takes 16 GB."""
_LEAST_SHM, _LEAST_MEMORY = 256e6, 2e9


@dataclass(frozen=True)
class Node:
    """The machine of a process: its facts by check, and the resources that Ray counts there.

    `silent` says why there are no facts.
    """

    name: str
    facts: Mapping[str, Facts] = field(default_factory=dict)
    ray: Mapping[str, float] = field(default_factory=dict)
    silent: str = ""

    @property
    def trains(self) -> bool:
        """Whether a trial may be put there."""
        return self.ray.get("CPU", 0) > 0


class Verdict(NamedTuple):
    """Whether it is a fault, what is wrong, and what to do."""

    fault: bool
    what: str
    todo: str


def gpus(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """Ray and torch do not count the same GPUs."""
    counted, there = int(node.ray.get("GPU", 0)), len(facts["devices"])
    if facts["cards"] and not there:
        yield Verdict(counted > 0, *_unseen(facts))
    elif counted > there:
        what = f"Ray counts {plural(counted, 'GPU')}, torch sees {there or 'none'}"
        todo = f"start Ray there with --num-gpus={there}, unless it is meant for a test on CPUs"
        yield Verdict(there > 0, what, todo)
    elif node.ray and counted < there:
        what = f"Ray uses {counted} of {plural(there, 'GPU')}"
        yield Verdict(False, what, f"start Ray there with --num-gpus={there} to use all")


def _unseen(facts: Facts) -> tuple[str, str]:
    """(why torch sees none of the machine's cards, what to do)."""
    built, known = facts["torch_cuda"], facts["driver_cuda"]
    cards = f"torch sees none of {plural(facts['cards'], 'NVIDIA card')}"
    if built is None:
        return f"{cards}: it is built without CUDA", "install the CUDA build of torch there"
    if known is None:
        return f"{cards}: no driver answers", "install or load NVIDIA's driver there"
    if int(built.split(".")[0]) > int(known.split(".")[0]):
        what = f"{cards}: it is built for CUDA {built}, the driver runs {known}"
        return what, f"renew the driver there, or install torch for CUDA {known}"
    return cards, "look at CUDA_VISIBLE_DEVICES and the output of nvidia-smi there"


def versions(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """A library has another release than the driver's."""
    if "error" in driver.facts["versions"]:
        return
    for name, wanted in driver.facts["versions"].items():
        found = facts[name]
        if _release(name, found) == _release(name, wanted):
            continue
        what = f"{name} {found or 'is missing'}; the driver has {wanted or 'none'}"
        todo = f"install {name}=={_public(wanted)}" if wanted else f"remove {name}"
        yield Verdict(True, what, f"{todo} there, as on all nodes")


def _release(name: str, version: str | None) -> str | None:
    """The part that must agree: builds (+cpu, +cu128) may differ, and Python's last number."""
    if version is None:
        return None
    public = _public(version)
    return ".".join(public.split(".")[:2]) if name == "python" else public


def _public(version: str) -> str:
    return version.partition("+")[0]


def four_bits(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """bitsandbytes gives wrong weights or gradients; only a GPU shows its CUDA kernels."""
    todo = "install the bitsandbytes that constraints.txt names, built for that device"
    for device in facts["devices"]:
        # Written so that NaN is wrong as well.
        if not device["round_trip"] < _ROUND_TRIP:
            what = f"nf4 on {device['name']} is {device['round_trip']:.1%} from the weights"
            yield Verdict(node.trains, what, todo)
        if not device["gradient"] < _GRADIENT:
            what = f"gradients through nf4 on {device['name']} are {device['gradient']:.1%} off"
            yield Verdict(node.trains, what, todo)


def storage(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """The storage is not the driver's, or is full."""
    if what := not_shared(facts):
        todo = "use a directory that all nodes mount, or a URI such as s3://BUCKET/PATH"
        yield Verdict(True, what, todo)
    if facts.get("free") is not None and facts["free"] < _LEAST_DISK:
        yield Verdict(True, f"{size(facts['free'])} are free at the storage", "make room there")


def not_shared(facts: Facts) -> str | None:
    """Why the storage of these facts is not the driver's; None where that is not known."""
    if facts.get("seen") is False:
        return "it does not see the driver's file in the storage"
    if facts.get("returned") is False:
        return "the driver does not see its file in the storage"
    return None


def token(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """The driver has a token, and this node has none."""
    if driver.facts["token"].get("there") and not facts["there"]:
        todo = "set HF_TOKEN there where `ray start` is called, or log in with `hf auth login`"
        yield Verdict(False, "the driver has a token for the hub, this node has none", todo)


def scratch(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """Merged parents do not fit the disk."""
    free = facts["free"]
    what = f"{size(free)} are free at {facts['scratch']}, where merged parents are made"
    if free < _ROOM_ON_DISK:
        todo = "make room there, or set RAYLAB_SCRATCH to a directory on a larger disk"
        yield Verdict(free < _LEAST_DISK and node.trains, what, todo)


def shared_memory(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """Ray's objects do not fit /dev/shm."""
    need = node.ray.get("object_store_memory", 0)
    if facts["total"] < need:
        what = f"/dev/shm has {size(facts['total'])}, less than Ray's object store ({size(need)})"
        yield Verdict(False, what, "give its container more (docker run --shm-size)")
    elif need and facts["free"] < min(need, _LEAST_SHM):
        what = f"/dev/shm has {size(facts['free'])} left, and Ray's objects lie there"
        yield Verdict(True, what, "remove what other programs left in /dev/shm there")


def clock(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """The clock is off by more than the round trip explains."""
    off = abs(facts.get("offset", 0.0)) - facts.get("within", 0.0)
    if off > _CLOCK_REMARK:
        side = "ahead of" if facts["offset"] > 0 else "behind"
        what = f"its clock is {abs(facts['offset']):.1f} s {side} the driver's"
        yield Verdict(off > _CLOCK_FAULT, what, "let chrony or another NTP client set it")


def memory(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """Little main memory is left."""
    if facts["available"] < _LEAST_MEMORY and node.trains:
        what = f"{size(facts['available'])} of {size(facts['total'])} of memory are left"
        yield Verdict(False, what, "end what else runs there")


def cpus(node: Node, facts: Facts, driver: Node) -> Iterator[Verdict]:
    """Ray counts more CPUs than there are."""
    counted = int(node.ray.get("CPU", 0))
    if counted > facts["cpus"]:
        what = f"Ray counts {plural(counted, 'CPU')}, {facts['cpus']} may be used"
        yield Verdict(False, what, f"start Ray there with --num-cpus={facts['cpus']}")
