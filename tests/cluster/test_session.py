"""What is said where Ray cannot be joined, and where OUT would not outlive a job."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import ray

from raylab.cluster.session import connected
from raylab.cluster.study_context import prepare
from raylab.errors import ClusterError, OutError
from raylab.spec.study_file import parse_study

RECIPES = "recipes:\n  sft: {method: sft, data: D0}\n"
JOIN = """
from raylab.cluster.session import connected
from raylab.errors import RaylabError
try:
    with connected("127.0.0.1:1"):
        pass
except RaylabError as error:
    print(error.message)
"""


def test_connection_without_the_token_is_one_message(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", JOIN],
        env={**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("Ray cannot be reached\n  found: 127.0.0.1:1: Token")
    assert "RAY_AUTH_MODE=token" in done.stdout


def test_out_inside_a_jobs_working_directory_is_refused_before_it_is_made(study_text, tmp_path):
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123456789abcdef"
    with pytest.raises(OutError, match="lost with the job"):
        prepare(parse_study(study_text + RECIPES, Path("study.yaml")), str(copy / "runs" / "tiny"))
    assert not copy.exists()


def test_node_that_does_not_start_in_time_is_started_again_then_one_message(monkeypatch):
    # Ray 2.60 raises a plain Exception then, which no busy machine shows on demand.
    started = []

    def init(**settings):
        started.append(settings["address"])
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    starting = pytest.raises(ClusterError, match="Ray does not start on this machine")
    with starting as caught, connected(None):
        pass
    assert started == ["local", "local"]
    assert "timed out during startup" in caught.value.message
    assert "--address" in caught.value.message


def test_driver_that_leaves_ray_early_has_left_it_at_the_end_of_the_block(monkeypatch):
    connection, left = [False], []

    def shutdown():
        left.append(threading.current_thread())
        connection[0] = False

    monkeypatch.setattr(ray, "is_initialized", lambda: connection[0])
    monkeypatch.setattr(ray, "init", lambda **_: connection.__setitem__(0, True))
    monkeypatch.setattr(ray, "shutdown", shutdown)
    with connected(None) as leave:
        assert not left
        leave()
    assert left[0] is not threading.main_thread()
    assert not ray.is_initialized()
    connection[0], joined = True, len(left)
    with connected(None) as leave:
        leave()
    assert ray.is_initialized() and len(left) == joined
