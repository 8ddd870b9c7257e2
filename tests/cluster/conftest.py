"""One shared cluster with two logical GPUs, in a temporary directory of its own."""

from __future__ import annotations

import os
import sys

import pytest
import ray

from raylab.cluster.session import connected


@pytest.fixture(scope="session")
def two_gpus(tmp_path_factory):
    """Ray with two logical GPUs and two CPUs; ended with the tests."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    with connected(None, num_cpus=2, num_gpus=2, _temp_dir=str(tmp_path_factory.mktemp("r"))):
        yield
    assert not ray.is_initialized()
