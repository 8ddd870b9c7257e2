"""Clusters that tests share, and a study that ran on one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import ray

from raylab.cluster import actors, functions
from raylab.cluster.session import connected
from raylab.reduce.job import InProcess
from tests.cluster.nodes import started
from tests.cluster.whole import RECIPES, run
from tests.conftest import DEMO, STUDY


@pytest.fixture(scope="session")
def two_gpus(tmp_path_factory):
    """Ray with two logical GPUs and two CPUs; ended with the tests."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    with connected(None, num_cpus=2, num_gpus=2, _temp_dir=str(tmp_path_factory.mktemp("r"))):
        yield
    assert not ray.is_initialized()


@pytest.fixture(scope="session")
def finished(two_gpus, tmp_path_factory):
    """(text, context, complete) of a study that ran once, one of its recipes having failed."""
    text = STUDY.format(base=DEMO / "base", demo=DEMO) + RECIPES
    text = text.replace("functions: false", "functions: true")
    context, complete = run(text, tmp_path_factory.mktemp("study") / "out")
    return text, context, complete


@pytest.fixture(scope="session")
def several_nodes(tmp_path_factory):
    """(what several_nodes.py found, the directory where it worked)."""
    directory = tmp_path_factory.mktemp("several")
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.several_nodes", str(directory)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((directory / "results.json").read_text()), directory


@pytest.fixture(scope="session")
def three_nodes(tmp_path_factory):
    """A head and two workers with a token, by the commands of docs/cluster.md."""
    from tests.cluster.test_submit import command_of

    folder = tmp_path_factory.mktemp("n")
    head, worker = command_of("ray start --head"), command_of("ray start --address")
    with started(folder, head, worker) as found:
        found.environment["RAYLAB_SCRATCH"] = str(folder / "scratch")
        found.environment["HF_HUB_OFFLINE"] = "1"
        yield found


class _LocalPool(InProcess):
    """A pool without actors."""

    def __init__(self, **resources):
        super().__init__()
        self.message_bytes, self.size = [], 1
        self.packed = self

    def close(self):
        pass


@pytest.fixture
def reduced_in_process(monkeypatch):
    """Reductions need no actors: for tests that look at their tables alone. What models predict is
    not compared."""
    monkeypatch.setattr(actors, "ActorPool", _LocalPool)
    monkeypatch.setattr(functions, "wanted_functions", lambda *_: iter(()))
