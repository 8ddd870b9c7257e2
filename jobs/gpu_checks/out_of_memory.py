"""The check `out-of-memory`: a trial that does not fit goes on with half the micro-batch.

Model: the study gives its trial so small a share of the GPU that, by the plan's own estimate, the
whole batch does not fit and a micro-batch of one does. `raylab.train.model.share_gpu` caps the
process at that share. The same trial with the whole GPU is what its loss is held against.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from gpu_checks.bases import base_model, long_rows
from gpu_checks.report import NotPossible, Report, Setting
from gpu_checks.trainings import SFT, Trials, write_study
from raylab.plan.file_shapes import shape_of_base
from raylab.plan.memory import estimate_memory, with_micro_batch
from raylab.plan.resources import workload_of
from raylab.results.table_rows import read_results, trial_rows
from raylab.store.records import read_attempts

BATCH, LENGTH, ROWS = 8, 1024, 24
_LOSS_WITHIN = 0.02
"""Of the mean loss: the same updates, whose sums are rounded in another order."""


def check(setting: Setting, report: Report) -> None:
    """The same trial with too small a share of the GPU, and with all of it."""
    folder = setting.work / "out-of-memory"
    folder.mkdir()
    whole = _trials(setting, folder, "whole", 1)
    need = {size: _bytes_at(whole, size) for size in (BATCH, 1)}
    total = torch.cuda.get_device_properties(0).total_memory
    cap = math.sqrt(need[BATCH] * need[1])
    report.figure("estimated need of the batch", need[BATCH] / 1e9, "GB")
    report.figure("estimated need of one example", need[1] / 1e9, "GB")
    report.figure("the cap", cap / 1e9, "GB")
    if cap >= total:
        raise NotPossible(f"one example needs {need[1] / 1e9:.3g} GB of {total / 1e9:.3g} GB")
    capped = _trials(setting, folder, "capped", cap / total)
    record = capped.run("sft")
    attempts = read_attempts(capped.store, capped.task("sft").trial.folder)
    causes = [attempt.cause for attempt in attempts]
    halved = causes[:-1] and set(causes[:-1]) == {"oom"} and causes[-1] is None
    report.claim("it runs out of memory, and then ends well", bool(halved), str(causes))
    expected = BATCH >> (len(causes) - 1)
    size = record.metrics["micro_batch"]
    report.claim("each attempt halves the micro-batch", size == expected, f"{size} of {BATCH}")
    (row,) = trial_rows(read_results([capped.task("sft").trial], capped.store))
    says = (row["micro_batch"], row["attempts"]) == (size, len(causes))
    found = f"micro_batch {row['micro_batch']}, attempts {row['attempts']}"
    report.claim("the trial's row says so", says, found)
    peak = record.metrics["peak_memory_bytes"]
    report.claim("its peak is below the cap", peak <= cap, f"{peak / 1e9:.3g} GB")
    report.headline(f"micro-batch {size} of {BATCH} in {cap / 1e9:.3g} GB")
    if not report.has_time(10, "the same trial with the whole GPU"):
        return
    roomy = whole.run("sft").metrics
    same_steps = roomy["steps"] == record.metrics["steps"]
    report.claim("it takes as many steps as with the whole GPU", same_steps, str(roomy["steps"]))
    apart = abs(record.metrics["train_loss"] / roomy["train_loss"] - 1)
    report.claim(
        f"its loss is that with the whole GPU, within {_LOSS_WITHIN:.0%}",
        apart <= _LOSS_WITHIN,
        f"{apart:.2%}",
    )


def _trials(setting: Setting, folder: Path, name: str, share: float) -> Trials:
    data = long_rows(folder, ROWS, LENGTH)
    study = write_study(
        folder / f"{name}.yaml",
        setting,
        base_model(setting),
        data,
        {"sft": {**SFT, "data": "D0"}},
        training={"batch_size": BATCH, "max_length": LENGTH},
        resources={"gpus": share},
    )
    return Trials(study, folder / name)


def _bytes_at(trials: Trials, size: int) -> int:
    """The estimated peak of the trial in micro-batches of `size`."""
    task = trials.task("sft")
    shape = shape_of_base(trials.inputs.base_models["base"])
    assert shape is not None, "the plan knows a Llama"
    need = workload_of(trials.study, task.trial, shape)
    memory = estimate_memory(replace(need, training=with_micro_batch(need.training, size)))
    # No held-out loss is taken here.
    return memory.model + memory.phases["training"]
