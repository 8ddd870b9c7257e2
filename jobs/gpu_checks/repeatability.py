"""The check `repeatability`: a trial twice, and stopped and resumed, leaves the same bytes.

Model: trials of SFT and DPO are trained in this process, as a worker of Ray trains them: twice, and
once with a request to stop in the middle and a second attempt. Where bytes differ, the first step,
the parameter and the distance are named, and the trial is trained twice more with torch's
deterministic algorithms, in a process of its own, because cuBLAS reads its setting only once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from gpu_checks.bases import base_model, demo_rows
from gpu_checks.report import Report, Setting
from gpu_checks.trainings import DPO, SFT, Trials, write_study
from raylab.store.attempt_state import clear_stop_request, request_stop
from raylab.train import resume
from raylab.train.attempts import Stopped

WORKSPACE = ":4096:8"
_DETERMINISTIC = """
import json, sys
from pathlib import Path
import torch
torch.use_deterministic_algorithms(True)
from gpu_checks.trainings import Trials
study, recipe, *outs = sys.argv[1:]
print(json.dumps([Trials(Path(study), Path(out)).run(recipe).metrics["seconds"] for out in outs]))
"""


def check(setting: Setting, report: Report) -> None:
    """Each recipe twice, then stopped and resumed."""
    folder = setting.work / "repeatability"
    folder.mkdir()
    data = demo_rows(folder, setting.sized(64, 48, 24))
    study = write_study(
        folder / "study.yaml",
        setting,
        base_model(setting),
        data,
        {"sft": SFT, "dpo": DPO},
        training={"learning_rate": 1e-4},
        resources={"checkpoint_seconds": setting.sized(1, 0.5, 0)},
    )
    # The trainings here are over within the second between two looks for a request.
    resume._STOP_CHECK_SECONDS = 0.0
    for recipe in ("sft", "dpo"):
        if report.has_time(setting.sized(15, 10, 8), f"{recipe}, twice and resumed"):
            _check_recipe(setting, report, study, recipe, folder)


def _check_recipe(setting: Setting, report: Report, study: Path, recipe: str, folder: Path) -> None:
    first, second = (Trials(study, folder / f"{recipe}-{turn}") for turn in ("first", "second"))
    seconds = [trials.run(recipe).metrics["seconds"] for trials in (first, second)]
    report.figure(f"{recipe}: seconds of a trial", min(seconds), "s")
    is_same = _compare(report, f"{recipe}: trained twice, the same bytes", first, second, recipe)
    if report.has_time(setting.sized(10, 8, 5), f"{recipe}: stopped and resumed"):
        cut = Trials(study, folder / f"{recipe}-cut")
        steps = len(first.history(recipe))
        _stop_and_resume(report, cut, recipe, setting.sized(1, 1, steps // 2))
        what = f"{recipe}: stopped and resumed, the same bytes"
        is_same &= _compare(report, what, first, cut, recipe)
    report.headline(f"{min(seconds):.3g} s a trial of {recipe}")
    what = f"{recipe}: with deterministic algorithms"
    if not is_same and report.has_time(setting.sized(20, 15, 15), what):
        _check_deterministic(setting, report, study, recipe, folder, min(seconds))


def _stop_and_resume(report: Report, trials: Trials, recipe: str, step: int) -> None:
    def listen(progress: Mapping[str, Any]) -> None:
        if progress.get("checkpoint", 0) >= step:
            request_stop(trials.store)

    try:
        trials.run(recipe, listen)
        was_stopped = False
    except Stopped:
        was_stopped = True
    clear_stop_request(trials.store)
    found = "" if was_stopped else "it ended before it was stopped"
    report.claim(f"{recipe}: a request stops it after step {step}", was_stopped, found)
    trials.run(recipe)


def _compare(report: Report, what: str, first: Trials, other: Trials, recipe: str) -> bool:
    """Claim that two trainings left the same adapter; say where and by how much they differ."""
    one, two = first.adapter(recipe), other.adapter(recipe)
    if one.read_bytes() == two.read_bytes():
        return report.claim(what, True)
    found = f"{_first_step(first, other, recipe)}; {_distance(one, two)}"
    return report.claim(what, False, found)


def _first_step(first: Trials, other: Trials, recipe: str) -> str:
    for a, b in zip(first.history(recipe), other.history(recipe), strict=False):
        for key in ("loss", "grad_norm"):
            if a[key] != b[key]:
                return f"{key} parts at step {a['step']:g}: {a[key]!r}, {b[key]!r}"
    return "losses and gradient norms are the same at every step"


def _distance(one: Path, two: Path) -> str:
    a, b = load_file(one), load_file(two)
    apart = {
        name: float((a[name] - b[name]).norm() / a[name].norm())
        for name in a
        if not bool((a[name] == b[name]).all())
    }
    if not apart:
        return "the weights are the same, the files are not"
    worst = max(apart, key=apart.__getitem__)
    first = next(iter(apart))
    return (
        f"{len(apart)} of {len(a)} parameters differ, the first {first}, "
        f"the largest relative L2 {apart[worst]:.1e} in {worst}"
    )


def _check_deterministic(
    setting: Setting, report: Report, study: Path, recipe: str, folder: Path, seconds: float
) -> None:
    """Whether torch's deterministic algorithms give the same bytes, and what they cost."""
    outs = [folder / f"{recipe}-deterministic-{turn}" for turn in (1, 2)]
    command = [sys.executable, "-c", _DETERMINISTIC, str(study), recipe, *map(str, outs)]
    environment = {
        **os.environ,
        "CUBLAS_WORKSPACE_CONFIG": WORKSPACE,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=max(1.0, setting.seconds_left),
        )
    except subprocess.TimeoutExpired:
        report.left_out(f"{recipe}: with deterministic algorithms")
        return
    if done.returncode:
        why = " ".join(done.stderr.split())[-400:]
        report.figure(f"{recipe}: deterministic algorithms cannot train it", why)
        return
    one, two = (Trials(study, out).adapter(recipe).read_bytes() for out in outs)
    report.figure(f"{recipe}: deterministic algorithms give the same bytes", one == two)
    slower = min(json.loads(done.stdout.splitlines()[-1])) / seconds
    report.figure(f"{recipe}: their time over that without", slower, "times")
