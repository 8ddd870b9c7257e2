"""The check `ray`: the GPU of Ray's workers, trials that share it, and a reduction that is killed.

Model: one local Ray, started as raylab starts it. Small tasks say what they see. Then a study of
four seeds trains with a quarter of the GPU each, beside one seed with all of it, through the stage
that `raylab train` calls; and the actors of a reduction are killed by their process ids while they
work.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from gpu_checks.bases import base_model, long_rows
from gpu_checks.comparing import differences, on_device
from gpu_checks.inputs import MIDDLE, TINY, write_model
from gpu_checks.report import Report, Setting
from gpu_checks.seen import Actor, sees
from gpu_checks.trainings import SFT, write_study
from raylab.cluster import stages
from raylab.cluster.actors import ActorPool
from raylab.cluster.session import connected
from raylab.reduce.job import Executor, InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.spec.study_file import load_study
from raylab.store.records import read_attempts, read_records
from raylab.store.references import ModelLocation

_NOSET = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
_DENSITIES = (0.01, 0.2, 0.5)
_TURNS = 30
SHARING = 4


def check(setting: Setting, report: Report) -> None:
    """What workers see, trials that share the GPU, a killed actor."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with connected(None):
        _check_visible(setting, report)
        if report.has_time(setting.sized(12, 10, 8), "a reduction whose actor is killed"):
            _check_killed(setting, report)
        what = f"{SHARING} trials on one GPU"
        if report.on_gpu(what) and report.has_time(30, what):
            _check_sharing(setting, report)


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
    job = Job(places, (Pair("a~b", "a", "b"),), id="killed")
    expected = _tables(on_device(job, "cpu"), InProcess())
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


def _check_sharing(setting: Setting, report: Report) -> None:
    """Four trials at once, each with a quarter of the GPU, beside one with all of it."""
    import torch

    total = torch.cuda.get_device_properties(0).total_memory
    alone = _trained(setting, "alone", 1, [1])
    shared = _trained(setting, "shared", 1 / SHARING, range(1, SHARING + 1))
    what = f"{SHARING} trials with a quarter of the GPU each"
    if not report.claim(f"{what} are done", len(shared) == SHARING, str(len(shared))):
        return
    starts, ends = ([trial[key] for trial in shared] for key in ("started", "ended"))
    found = f"{min(ends) - max(starts):.1f} s"
    report.claim(f"{what} train at once", max(starts) < min(ends), found)
    gpus = {trial["gpus"] for trial in shared}
    report.claim(f"{what} are on one GPU", len(gpus) == 1, str(gpus))
    peaks = [trial["peak_memory_bytes"] for trial in shared]
    found = f"at most {max(peaks) / 1e9:.3g} of {total / SHARING / 1e9:.3g} GB"
    report.claim(f"{what} keep to it", max(peaks) <= total / SHARING, found)
    if alone:
        together = sum(trial["tokens_per_second"] for trial in shared)
        one = alone[0]["tokens_per_second"]
        report.figure("one trial alone", one, "tokens/s")
        report.figure(f"{SHARING} trials at once, together", together, "tokens/s")
        report.headline(f"{SHARING} at once: {together / one:.2f} times the tokens/s of one")


def _trained(
    setting: Setting, name: str, share: float, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Train a study on the Ray of this process; metrics and times of the trials that are done."""
    folder: Path = setting.work / f"ray-{name}"
    folder.mkdir()
    study = write_study(
        folder / "study.yaml",
        setting,
        base_model(setting),
        long_rows(folder, setting.sized(100, 60, 4), 512),
        {"sft": {**SFT, "data": "D0"}},
        seeds=list(seeds),
        training={"max_length": 512, "batch_size": 2},
        resources={"gpus": share},
    )
    context = stages.prepare(load_study(study), str(folder / "out"))
    stages.train(context, None, print)
    records = read_records(context.store).sound
    found = []
    for trial in context.trials:
        if record := records.get(trial.id):
            last = read_attempts(context.store, trial.folder)[-1]
            times = {"started": last.started, "ended": last.started + last.seconds}
            found.append({**record.metrics, **times, "gpus": last.gpus})
    return found
