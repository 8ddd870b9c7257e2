"""Four trials on one GPU at once, each kept to a quarter of it, beside one that has all of it.

Model: studies train through the stage that `raylab train` calls, on the Ray of this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpu_checks.bases import base_model, long_rows
from gpu_checks.report import Report, Setting
from gpu_checks.trainings import SFT, write_study
from raylab.cluster import stages
from raylab.spec.study_file import load_study
from raylab.store.records import read_attempts, read_records

SHARING = 4


def check_sharing(setting: Setting, report: Report) -> None:
    """Four trials at once, each with a quarter of the GPU, beside one with all of it."""
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
