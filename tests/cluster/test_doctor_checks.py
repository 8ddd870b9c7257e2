"""Facts -> findings, over a table of facts: no cluster is started."""

from __future__ import annotations

import pytest

from raylab.cluster.doctor.checks import CHECKS, cells, judge
from raylab.cluster.doctor.rules import Node
from tests.cluster.healthy import RAY, driver, node

NONE = {"devices": []}

# What is changed on the node, what Ray counts there, whether that is a fault, and what is said.
WORSE = {
    "torch sees fewer": (
        {"gpus": {"devices": [{"name": "x", "memory": 1}]}},
        RAY,
        True,
        "Ray counts 2 GPUs, torch sees 1",
    ),
    "torch without CUDA": ({"gpus": NONE | {"torch_cuda": None}}, RAY, True, "without CUDA"),
    "no driver": ({"gpus": NONE | {"driver_cuda": None}}, RAY, True, "no driver answers"),
    "old driver": (
        {"gpus": NONE | {"torch_cuda": "13.0"}},
        RAY,
        True,
        "built for CUDA 13.0, the driver runs 12.8",
    ),
    "hidden cards": ({"gpus": NONE}, RAY, True, "torch sees none of 2 NVIDIA cards"),
    "logical GPUs": ({"gpus": NONE | {"cards": 0}}, RAY, False, "torch sees none"),
    "unused GPUs": ({}, RAY | {"GPU": 1}, False, "Ray uses 1 of 2 GPUs"),
    "other library": (
        {"versions": {"trl": "1.15.0"}},
        RAY,
        True,
        "trl 1.15.0; the driver has 1.16.0",
    ),
    "no library": ({"versions": {"trl": None}}, RAY, True, "trl is missing"),
    "other Python": ({"versions": {"python": "3.12.1"}}, RAY, True, "python 3.12.1"),
    "bad nf4": (
        {"4_bits": {"devices": [{"name": "cuda:1", "round_trip": 0.9, "gradient": 0.0}]}},
        RAY,
        True,
        "nf4 on cuda:1 is 90.0% from the weights",
    ),
    "bad gradient": (
        {"4_bits": {"devices": [{"name": "cpu", "round_trip": 0.09, "gradient": 0.57}]}},
        RAY,
        True,
        "gradients through nf4 on cpu are 57.0% off",
    ),
    "not a number": (
        {"4_bits": {"devices": [{"name": "c", "round_trip": 0.09, "gradient": float("nan")}]}},
        RAY,
        True,
        "off",
    ),
    "storage apart": (
        {"storage": {"seen": False}},
        RAY,
        True,
        "does not see the driver's file",
    ),
    "storage copied": (
        {"storage": {"returned": False}},
        RAY,
        True,
        "the driver does not see its file",
    ),
    "storage full": ({"storage": {"free": 5e8}}, RAY, True, "500 MB are free at the storage"),
    "no token": ({"token": {"there": False}}, RAY, False, "this node has none"),
    "little scratch": ({"scratch": {"free": 2e10}}, RAY, False, "20 GB are free at /scratch"),
    "no scratch": ({"scratch": {"free": 2e8}}, RAY, True, "200 MB are free at /scratch"),
    "small shm": ({"shm": {"total": 67e6, "free": 67e6}}, RAY, False, "less than Ray's object"),
    "full shm": ({"shm": {"free": 1e6}}, RAY, True, "1 MB left"),
    "clock off": ({"clock": {"offset": -2.5}}, RAY, False, "2.5 s behind the driver's"),
    "clock far off": ({"clock": {"offset": 7.0}}, RAY, True, "7.0 s ahead of the driver's"),
    "little memory": ({"memory": {"available": 1e9}}, RAY, False, "1 GB of 128 GB of memory"),
    "CPUs": ({"cpus": {"cpus": 8}}, RAY, False, "Ray counts 16 CPUs, 8 may be used"),
}


def test_judge_healthy_cluster_finds_nothing():
    assert judge([driver(), node("a"), node("b")]) == []


@pytest.mark.parametrize("case", WORSE)
def test_judge_one_thing_wrong_is_the_one_finding(case):
    changes, ray, fault, what = WORSE[case]
    (found,) = judge([driver(), node("a"), node("b", ray, **changes)])
    assert (found.node, found.fault) == ("b", fault)
    assert what in found.what
    assert found.todo and "\n" not in found.what + found.todo


@pytest.mark.parametrize(
    "changes",
    [
        {"clock": {"offset": 6.0, "within": 5.5}},
        {"versions": {"python": "3.11.2", "torch": "2.13.0"}},
        {"storage": {"seen": None, "free": None}},
    ],
)
def test_judge_difference_that_tells_nothing_is_no_finding(changes):
    assert judge([driver(), node("a", **changes)]) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_judge_failed_look_says_its_error_and_what_to_do(check):
    broken = node("a")
    broken.facts[check.name].clear()
    broken.facts[check.name]["error"] = "it broke"
    (found,) = judge([driver(), broken])
    assert (found.check, found.fault) == (check.name, check.vital)
    assert (found.what, found.todo) == ("it broke", check.todo)
    assert cells(broken, driver())[check.name] == "failed"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_judge_failed_look_of_the_driver_blames_no_node(check):
    broken = driver()
    broken.facts[check.name] = {"error": "it broke"}
    assert [found.node for found in judge([broken, node("a")])] == ["driver"]


def test_judge_silent_node_is_a_fault_and_has_a_row():
    silent = Node("b", ray=RAY, silent="no answer")
    (found,) = judge([driver(), node("a"), silent])
    assert (found.node, found.check, found.fault) == ("b", "node", True)
    assert set(cells(silent, driver()).values()) == {"–"}


def test_judge_cluster_without_cpus_is_a_fault():
    (found,) = judge([driver(), node("head", {"GPU": 2.0})])
    assert (found.node, found.fault) == ("cluster", True)


def test_judge_driver_is_not_blamed_for_what_only_training_needs():
    weak = driver(
        **{
            "gpus": {"cards": 1, "torch_cuda": None},
            "4_bits": {"devices": [{"name": "cpu", "round_trip": 1.0, "gradient": 1.0}]},
            "scratch": {"free": 1e6},
        }
    )
    found = judge([weak, node("a")])
    assert [finding.check for finding in found] == ["gpus", "4 bits", "4 bits", "scratch"]
    assert not [finding for finding in found if finding.fault]
