"""The facts of a healthy machine with two GPUs, for tests to make worse."""

from __future__ import annotations

import copy

from raylab.cluster.doctor.rules import Node

RAY = {"CPU": 16.0, "GPU": 2.0, "object_store_memory": 20e9}
FACTS = {
    "gpus": {
        "cards": 2,
        "devices": [{"name": "NVIDIA H100 80GB HBM3", "memory": 85e9}] * 2,
        "driver": "570.86.10",
        "driver_cuda": "12.8",
        "torch_cuda": "12.8",
    },
    "versions": {"python": "3.11.7", "ray": "2.60.0", "torch": "2.13.0+cu128", "trl": "1.16.0"},
    "4 bits": {"devices": [{"name": "cuda:0", "round_trip": 0.092, "gradient": 1e-7}]},
    "storage": {"local": True, "seen": True, "returned": True, "free": 2e12},
    "token": {"there": True},
    "scratch": {"scratch": "/scratch", "free": 1e12, "total": 2e12},
    "shm": {"free": 64e9, "total": 64e9},
    "clock": {"offset": 0.01, "within": 0.001},
    "memory": {"available": 100e9, "total": 128e9},
    "cpus": {"cpus": 16},
}


def node(name="a", ray=RAY, **changes):
    """A healthy node, with `changes` (of facts, by check) put in."""
    facts = copy.deepcopy(FACTS)
    for check, values in changes.items():
        facts[check.replace("_", " ")].update(values)
    return Node(name, facts, dict(ray))


def driver(**changes):
    """The driver of a healthy cluster, on a machine without a GPU."""
    cpu = {"cards": 0, "devices": [], "driver": None, "driver_cuda": None, "torch_cuda": None}
    built = {"torch": "2.13.0+cpu", "python": "3.11.9"}
    facts = node(gpus=cpu, versions=built).facts | {"clock": {"now": 1.0}}
    for check, values in changes.items():
        facts[check.replace("_", " ")].update(values)
    return Node("driver", facts)
