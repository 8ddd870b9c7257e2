"""One shared cluster with two logical GPUs, and a study that ran on it."""

from __future__ import annotations

import os
import sys

import pytest
import ray

from raylab.cluster.session import connected
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
    """(text, prepared, complete) of a study that ran once, one of its recipes having failed."""
    text = STUDY.format(base=DEMO / "base", demo=DEMO) + RECIPES
    prepared, complete = run(text, tmp_path_factory.mktemp("study") / "out")
    return text, prepared, complete
