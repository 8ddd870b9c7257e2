"""Fixtures shared by all tests: tiny models made here in seconds, and a small study over them."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from raylab.store.filesystem import Store
from tests.object_store import BUCKET, CREDENTIALS, QUICK, moto_server, proxy_before, uri_through

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

DEMO = Path(__file__).parents[1] / "jobs" / "demo"
QUICK_STUDY = DEMO / "study-quick.yaml"
DATA = Path(__file__).parent / "data"
"""The first rows of the demo's data: 40 to train on and 8 held out at a share of 0.2."""

STUDY = """
name: tiny
base_models:
  demo: {{path: {base}}}
data:
  D0: {{path: DATA/d0.jsonl}}
  D1: {{path: DATA/d1.jsonl}}
held_out: 0.2
seeds: [42]
quantization: {{compute_dtype: float32}}
training: {{learning_rate: 1e-3, batch_size: 4, epochs: 1, max_length: 64}}
evaluation: {{functions: false, style: ojousama, prompts: 4, max_new_tokens: 16}}
""".replace("DATA", str(DATA))


def pytest_collection_finish() -> None:
    """Spare the collections of garbage all that was imported: every trainer makes one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def demo_base() -> Path:
    """The demo's base model, as committed."""
    return DEMO / "base"


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """A scratch space of the test's own."""
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def study_text(demo_base):
    """The head of a small study over the demo's base model and data; append recipes to it."""
    return STUDY.format(base=demo_base, demo=DEMO)


@pytest.fixture
def copied_base(demo_base, tmp_path) -> Path:
    """A copy of the demo's base model that a test may change."""
    return Path(shutil.copytree(demo_base, tmp_path / "base"))


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3 server on loopback."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def proxy(s3_server):
    """The way to it, which fails when it is told to."""
    with proxy_before(s3_server) as proxy:
        yield proxy


@pytest.fixture
def credentials(monkeypatch):
    """What S3 asks for, in the environment, and nothing else of this machine's."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3_out(proxy, credentials):
    """A new OUT on S3, behind the proxy."""
    return uri_through(proxy.port, f"studies/{uuid.uuid4().hex[:8]}")


@pytest.fixture
def remote(s3_out):
    """A patient store there."""
    return Store(s3_out, QUICK)


@pytest.fixture
def behind(s3_server, s3_out):
    """The same store, reached without the proxy."""
    prefix = s3_out.partition("?")[0].removeprefix(f"s3://{BUCKET}/")
    return Store(uri_through(s3_server[1], prefix), QUICK)


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory):
    """A Ray that the commands in this process share."""
    from raylab.cluster.session import connected

    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    with connected(None, num_cpus=2, _temp_dir=str(tmp_path_factory.mktemp("r"))):
        yield


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    """The quick study, run once as a user does: (OUT, the finished process)."""
    out = tmp_path_factory.mktemp("quick") / "out"
    command = [
        str(Path(sys.executable).parent / "raylab"),
        "run",
        str(QUICK_STUDY),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return out, done
