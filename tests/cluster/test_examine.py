"""What `raylab doctor` says of real clusters."""

from __future__ import annotations

import json

import pytest
import ray

from raylab.cli import main
from raylab.cluster.doctor.examine import examine, least_memory

pytestmark = pytest.mark.cluster

SECRET = "hf_aSecretThatNobodyMayRead"


def doctor(capfd, *words):
    """(exit status, standard output, everything that was printed)."""
    with pytest.raises(SystemExit) as end:
        main(["doctor", *map(str, words)])
    out, err = capfd.readouterr()
    return end.value.code, out, out + err


@pytest.fixture
def secret(monkeypatch):
    """A token that the driver has, and the workers of the shared cluster do not."""
    monkeypatch.setenv("HF_TOKEN", SECRET)


def test_doctor_of_healthy_cluster_exits_0_and_shows_every_node(two_gpus, secret, tmp_path, capfd):
    status, out, said = doctor(capfd, "--storage", tmp_path / "out")
    assert status == 0, said
    (node,) = ray.nodes()
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "right" in rows["driver"] and "shared" in rows["driver"] and "yes" in rows["driver"]
    assert "shared" in rows[node["NodeManagerHostname"]]
    assert "1 node: 0 faults and" in out
    assert "remark: gpus of" in out and "Ray counts 2 GPUs, torch sees none" in out
    assert "the driver has a token for the hub, this node has none" in out
    assert SECRET not in said
    assert not (tmp_path / "out").exists()


def test_doctor_of_unwritable_storage_exits_1_and_says_so(two_gpus, secret, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    status, out, said = doctor(capfd, "--storage", tmp_path / "file" / SECRET, "--json")
    assert status == 1
    document = json.loads(out)
    assert not document["healthy"]
    assert [fault["check"] for fault in document["faults"]] == ["storage", "storage"]
    assert all("OUT cannot be written" in fault["what"] for fault in document["faults"])
    assert all(fault["todo"] for fault in document["faults"])
    assert abs(document["nodes"][1]["facts"]["clock"]["offset"]) < 0.5
    assert SECRET not in said


def test_doctor_of_no_address_of_a_storage_exits_2(two_gpus, capfd):
    status, _, said = doctor(capfd, "--storage", "nothing://here")
    assert status == 2
    assert "OUT is no address of a store" in said


def test_examine_node_that_does_not_answer_in_time_is_a_fault(two_gpus):
    found = examine(None, deadline=0)
    assert not found.healthy
    (fault,) = (finding for finding in found.findings if finding.fault)
    assert (fault.check, fault.what) == (
        "node",
        "it did not report: no answer before the deadline",
    )


@pytest.mark.slow
def test_examine_several_nodes_of_which_one_then_hangs(several_nodes):
    found = several_nodes[0]["examinations"]
    before, after = found["before"], found["after"]
    assert before["healthy"]
    assert len(before["nodes"]) == 4
    storage = [node["facts"]["storage"] for node in before["nodes"]]
    assert [facts["seen"] for facts in storage] == [True] * 4
    assert [facts["returned"] for facts in storage[1:]] == [True] * 3
    silent = {fault["node"]: fault["what"] for fault in after["faults"] if fault["check"] == "node"}
    (name,) = (name for name in silent if found["hanging"][:6] in name)
    assert silent[name] == "it did not report: no answer before the deadline"


def _gpus(*memories):
    return {"devices": [{"name": "card", "memory": memory} for memory in memories]}


def test_least_memory_of_different_nodes_is_the_least_of_all():
    assert least_memory([_gpus(80, 40), _gpus(24), _gpus(), {"error": "it broke"}]) == 24


def test_least_memory_without_any_gpu_is_unknown():
    assert least_memory([_gpus(), _gpus()]) is None
    assert least_memory([]) is None
