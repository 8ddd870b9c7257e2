"""The check `ray`: the GPU of Ray's workers, trials that share it, and a reduction that is killed.

Model: one local Ray, started as raylab starts it. Small tasks say what they see, and the actor of a
reduction is killed by its process id while it works. `gpu_checks.ray_sharing` trains on that Ray.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import ray

from gpu_checks.comparing import differences
from gpu_checks.inputs import MIDDLE, TINY, write_model
from gpu_checks.report import Report, Setting
from gpu_checks.seen import Actor, sees
from raylab.cluster.actors import ActorPool
from raylab.cluster.session import connected
from raylab.reduce.job import Executor, InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.store.references import ModelLocation

_NOSET = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
_DENSITIES = (0.01, 0.2, 0.5)
_TURNS = 30


def check(setting: Setting, report: Report) -> None:
    """What workers see, trials that share the GPU, a killed actor."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with connected(None):
        _check_visible(setting, report)
        if report.has_time(setting.sized(12, 10, 8), "a reduction whose actor is killed"):
            _check_killed(setting, report)
        what = "four trials on one GPU"
        if report.on_gpu(what) and report.has_time(30, what):
            from gpu_checks.ray_sharing import check_sharing

            check_sharing(setting, report)


def _check_visible(setting: Setting, report: Report) -> None:
    task: Any = ray.remote(sees)
    without = ray.get(task.options(num_gpus=0).remote())
    has_none = without["own"] == [] and without["count"] == 0 and without["device"] == "cpu"
    report.claim("a task without a GPU uses none", has_none, str(without))
    if not report.on_gpu("the GPU that workers with one use"):
        return
    actor_class: Any = Actor
    actor = actor_class.options(num_gpus=1).remote()
    found = {"an actor": ray.get(actor.sees.remote())}
    ray.kill(actor)
    found["a task"] = ray.get(task.options(num_gpus=1).remote())
    noset = {"env_vars": {_NOSET: "1"}}
    found[f"a task with {_NOSET}=1"] = ray.get(task.options(num_gpus=1, runtime_env=noset).remote())
    for who, seen in found.items():
        right = len(seen["own"]) == 1 and seen["after"] == seen["own"][0] and seen["count"] == 1
        right = right and seen["device"] == "cuda:0" and seen["works"]
        report.claim(f"{who} with a GPU uses that one", right, str(seen))


def _check_killed(setting: Setting, report: Report) -> None:
    """A reduction whose actor is killed has the numbers of one in this process, on a CPU."""
    model, folder = setting.sized(MIDDLE, TINY, TINY), setting.work / "killed"
    places = {
        name: ModelLocation(checkpoint=write_model(folder / name, model, "bfloat16", seed))
        for name, seed in (("a", 1), ("b", 2))
    }
    job = Job(
        places,
        (Pair("a~b", "a", "b"),),
        id="killed",
        device="cuda" if setting.on_gpu else "cpu",
    )
    expected = _tables(replace(job, device="cpu"), InProcess())
    pool = ActorPool(max_actors=1)
    killed: list[int] = []
    killer = threading.Thread(target=_kill, args=(pool, killed), daemon=True)
    killer.start()
    apart: list[str] = []
    turns = 0
    while not killed and turns < _TURNS and setting.seconds_left > 3:
        turns += 1
        apart += differences(expected, _tables(job, pool))
    pool.close()
    if not killed:
        report.left_out("a reduction whose actor is killed", "it was over before it was killed")
        return
    where = "the GPU" if setting.on_gpu else "a CPU"
    what = f"a reduction on {where} whose actor was killed has the same numbers"
    report.claim(what, not apart, "; ".join(apart[:3]) or f"process {killed[0]} was killed")


def _kill(pool: ActorPool, killed: list[int]) -> None:
    """Kill the pool's first actor once it has work."""
    while not killed:
        time.sleep(0.02)
        if pool.actors and pool.homes:
            process = ray.get(pool.actors[0].process.remote())
            os.kill(process, signal.SIGKILL)
            killed.append(process)


def _tables(job: Job, execute: Executor) -> dict[str, Any]:
    found = reduce_pairs(job, _DENSITIES, execute)
    return {"norms": found.norms, "densities": found.densities}
