"""A worker sees the GPU that Ray gave it or none, by real workers with logical GPUs.

CUDA is a library of four lines here, which knows as the real one whether it was initialised. What
torch would see is read by its own parser of the variable.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys

import pytest
import ray
import torch

from raylab.cluster.merge_tasks import _make
from raylab.cluster.parent_cleanup import _delete_parents
from raylab.cluster.shard_actor import ShardActor
from raylab.cluster.tune import _trainable
from raylab.cluster.worker_gpu import VISIBLE, own_gpu, use_own_gpu
from raylab.errors import ClusterError
from raylab.reduce.job import Job

NOSET = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}
UUIDS = {VISIBLE: "GPU-cc,GPU-bb"}
DRIVER = """
static int initialised = 0;
int cuInit(unsigned flags) { initialised = 1; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return initialised ? 0 : 3; }
"""
ASK = """
import ctypes
from raylab.cluster.worker_gpu import cuda_is_initialized
print(cuda_is_initialized())
driver = ctypes.CDLL("libcuda.so.1")
print(cuda_is_initialized())
driver.cuInit(0)
print(cuda_is_initialized())
"""

ONE = {
    "none given": ([], 0.0, ()),
    "one": (["3"], 1.0, ("3",)),
    "a share": (["1"], 0.25, ("1",)),
    "several": (["2", "0"], 2.0, ("0",)),
    "one and a half": (["1", "0"], 1.5, ("0",)),
    "an instance": (["MIG-7f"], 1.0, ("MIG-7f",)),
    "hidden from the node": ([], 1.0, ()),
}


@pytest.mark.parametrize(("ids", "given", "expected"), ONE.values(), ids=ONE)
def test_own_gpu_is_one_of_those_given(ids, given, expected):
    assert own_gpu(ids, given) == expected


def test_own_gpu_of_more_ids_than_gpus_is_an_error_that_names_them():
    with pytest.raises(ClusterError, match="Ray does not say which") as caught:
        own_gpu(["3", "2"], 1.0)
    assert "2, 3" in caught.value.message and "ray start" in caught.value.message


@pytest.fixture(scope="module")
def cuda(tmp_path_factory):
    """The environment of a process that finds the library as libcuda.so.1."""
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "cuda.c").write_text(DRIVER)
    build = ["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "cuda.c"]
    subprocess.run(build, check=True)
    return {"LD_LIBRARY_PATH": str(folder)}


def test_cuda_is_initialized_only_after_its_first_call(cuda):
    environment = {**os.environ, **cuda, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]


@ray.remote
class Worker:
    """A process that looks at itself."""

    def look(self):
        """(id that raylab takes, the variable, the devices that torch would see)."""
        return use_own_gpu(), os.environ.get(VISIBLE), torch.cuda._parse_visible_devices()

    def initialise(self):
        ctypes.CDLL("libcuda.so.1").cuInit(0)

    def forget(self):
        """As Ray does after a task."""
        os.environ.pop(VISIBLE)


@contextlib.contextmanager
def workers(count, gpus, environment):
    """Workers that run at the same time."""
    options = {"num_gpus": gpus, "num_cpus": 0, "runtime_env": {"env_vars": environment}}
    made = [Worker.options(**options).remote() for _ in range(count)]
    try:
        yield made
    finally:
        for worker in made:
            ray.kill(worker)


ENVIRONMENTS = {
    "plain": ({}, [0], [1]),
    "noset": (NOSET, [0], [1]),
    "restricted": ({VISIBLE: "5,3"}, [5], [3]),
    "uuids": (UUIDS | NOSET, ["GPU-cc"], ["GPU-bb"]),
}


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("environment", "first", "second"), ENVIRONMENTS.values(), ids=ENVIRONMENTS
)
def test_workers_see_the_gpu_that_ray_gave_them(two_gpus, environment, first, second):
    before = os.environ.get(VISIBLE)
    with workers(2, 1, environment) as made:
        seen = ray.get([worker.look.remote() for worker in made])
    assert sorted(seen, key=str) == sorted(
        [((str(d),), str(d), [d]) for d in (first[0], second[0])], key=str
    )
    assert os.environ.get(VISIBLE) == before


@pytest.mark.cluster
def test_workers_with_half_a_gpu_share_one_at_a_time(two_gpus):
    with workers(4, 0.5, NOSET) as made:
        seen = ray.get([worker.look.remote() for worker in made])
    assert sorted(seen) == [(("0",), "0", [0])] * 2 + [(("1",), "1", [1])] * 2


@pytest.mark.cluster
@pytest.mark.parametrize("environment", [{}, NOSET, {VISIBLE: "5,3"}], ids=str)
def test_worker_without_a_gpu_sees_none(two_gpus, environment):
    with workers(1, 0, environment) as (worker,):
        assert ray.get(worker.look.remote()) == ((), "", [])


@pytest.mark.cluster
def test_worker_with_two_gpus_uses_one(two_gpus):
    with workers(1, 2, NOSET) as (worker,):
        assert ray.get(worker.look.remote()) == (("0",), "0", [0])


@pytest.mark.cluster
def test_worker_that_is_used_again_keeps_its_gpu(two_gpus, cuda):
    with workers(1, 1, NOSET | cuda) as (worker,):
        first = ray.get(worker.look.remote())
        ray.get([worker.initialise.remote(), worker.forget.remote()])
        assert ray.get(worker.look.remote()) == first
    (own,), visible, devices = first
    assert own in ("0", "1") and (visible, devices) == (own, [int(own)])


@pytest.mark.cluster
@pytest.mark.parametrize("gpus", [0, 1])
def test_worker_whose_cuda_saw_other_gpus_before_is_refused(two_gpus, cuda, gpus):
    with workers(1, gpus, NOSET | cuda) as (worker,):
        ray.get(worker.initialise.remote())
        with pytest.raises(ClusterError, match="uses another GPU than the one") as caught:
            ray.get(worker.look.remote())
    assert f"{VISIBLE}=(unset)" in str(caught.value)


def entry_points(out):
    """What each of raylab's workers begins with, on inputs that end it soon after; by name."""
    actor = ShardActor.__ray_metadata__.modified_class()
    return {
        "trial": lambda: _trainable({"name": "none"}, None, {}, {}, {}, out),
        "merge": lambda: _make._function(None, (None, None, {}, out)),
        "preview": lambda: actor.preview(("", "", ""), {}, None, ()),
        "cleanup": lambda: _delete_parents._function(out, ["none"]),
        "reduction": lambda: actor.call(1, (ray.put(Job({}, ())),), "none", ()),
        "preparation": actor.prepare,
    }


@ray.remote(max_calls=1)
def begin(out):
    """(ids that Ray gave, the variable as each entry point leaves it)."""
    ids = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    seen = {}
    for name, enter in entry_points(out).items():
        os.environ.pop(VISIBLE, None)
        with contextlib.suppress(Exception):
            enter()
        seen[name] = os.environ.get(VISIBLE)
    return ids, seen


@pytest.mark.cluster
@pytest.mark.parametrize("gpus", [1, 0])
def test_every_worker_of_a_study_begins_with_its_own_gpu(two_gpus, tmp_path, gpus):
    options = {"num_gpus": gpus, "runtime_env": {"env_vars": NOSET}}
    ids, seen = ray.get(begin.options(**options).remote(str(tmp_path)))
    assert len(ids) == gpus
    assert set(seen.values()) == {ids[0] if ids else ""}


class Merge:
    """A merge that ends its task with the number of the process."""

    @property
    def folder(self):
        raise LookupError(os.getpid())


@pytest.mark.cluster
@pytest.mark.slow
def test_process_of_a_merge_takes_no_second_one(two_gpus):
    processes = set()
    for _ in range(2):
        with pytest.raises(LookupError) as caught:
            ray.get(_make.options(num_gpus=1).remote(Merge(), (None, None, {}, "")))
        processes.add(str(caught.value.cause))
    assert len(processes) == 2
