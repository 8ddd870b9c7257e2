"""A local OUT on several nodes: used where all see it, refused where one does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """(what nodes_see.py found, the directory it worked in)."""
    directory = tmp_path_factory.mktemp("seen")
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.nodes_see", str(directory)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((directory / "seen.json").read_text()), directory


def test_visible_shared_directory_passes_and_keeps_nothing(seen):
    found, directory = seen
    assert found["shared"] == ""
    assert found["nodes"] == 2
    assert list((directory / "out").iterdir()) == []


def test_visible_one_node_or_an_object_store_is_not_asked(seen):
    found, _ = seen
    assert (found["one node"], found["remote"]) == ("", "")


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        ("own", "what the driver wrote there is not to be seen"),
        ("absent", "what the driver wrote there is not to be seen"),
        ("file", "Not a directory"),
        ("copied", "the driver does not see what it wrote there"),
    ],
)
def test_visible_node_with_another_disk_is_named_with_the_reason(seen, disk, reason):
    found, directory = seen
    assert "OUT is not the same directory on 1 of 2 nodes" in found[disk]
    assert f"{found['second']}): " in found[disk]
    assert reason in found[disk]
    assert str(directory / "out") in found[disk]
    assert "to do: " in found[disk]


def test_visible_node_that_sees_nothing_writes_nothing(seen):
    _, directory = seen
    assert list((directory / "own").iterdir()) == []
    assert not (directory / "absent").exists()
