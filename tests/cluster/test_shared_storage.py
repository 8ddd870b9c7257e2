"""A local OUT on several nodes: used where all see it, refused where one does not."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def seen(several_nodes):
    """(what the nodes came to, the directory in which they worked)."""
    found, directory = several_nodes
    return found["storage"], directory


def test_storage_shared_directory_passes_and_keeps_nothing(seen):
    found, directory = seen
    assert found["shared"] == ""
    assert found["nodes"] == 2
    assert list((directory / "out").iterdir()) == []


def test_storage_one_node_or_an_object_store_is_not_asked(seen):
    found, _ = seen
    assert (found["one node"], found["remote"]) == ("", "")


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        ("own", "it does not see the driver's file in the storage"),
        ("absent", "it does not see the driver's file in the storage"),
        ("file", "Not a directory"),
        ("copied", "the driver does not see its file in the storage"),
    ],
)
def test_storage_node_with_another_disk_is_named_with_the_reason(seen, disk, reason):
    found, directory = seen
    assert "OUT is not the same directory on 1 of 2 nodes" in found[disk]
    assert f"{found['second']}): " in found[disk]
    assert reason in found[disk]
    assert str(directory / "out") in found[disk]
    assert "to do: " in found[disk]


def test_storage_node_that_sees_nothing_writes_nothing(seen):
    _, directory = seen
    assert list((directory / "own").iterdir()) == []
    assert not (directory / "absent").exists()
