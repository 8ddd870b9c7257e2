"""What a study costs on this machine where it has no GPU: a warning, and the time of its trials.

Model: the time comes from finished trials of the store, as `raylab.plan.durations` estimates it.
Without one it comes from the operations of each trial (`raylab.plan.resources`) and the rate of a
float32 matrix product, which numpy measures here in 20 milliseconds; trials reach
`CPU_EFFICIENCY` of it, which is an assumption. As many trials run at once as the cores allow.
Invariant: only files of the system are read, and no library but numpy is loaded. An estimate says
what it rests on. A base model of unknown shape has no time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from raylab.plan.document import Documented
from raylab.plan.durations import estimate_durations
from raylab.plan.resources import trial_operations
from raylab.plan.schedule import simulate
from raylab.plan.trials import Inputs, Trial
from raylab.spec.study import Quantization, Study
from raylab.store.records import Record

CPU_EFFICIENCY = 0.15
"""The demo's trials reached 13 and 18 % of the rate of one core."""
_SIZE, _SECONDS = 256, 0.02
_GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")
"""Device files of NVIDIA's and AMD's drivers, and of the Windows Subsystem for Linux."""


@dataclass(frozen=True)
class TimeHere(Documented):
    """How long `trials` take on `cores` cores, `at_once` at a time, and what this rests on.

    by: `trials` that finished in the store (tokens_per_second: their median), or the `matmul` rate
    of this machine in flop/s. seconds: None where a base model's shape is unknown.
    """

    trials: int
    cores: int
    at_once: int
    seconds: float | None
    by: Literal["trials", "matmul"]
    tokens_per_second: float | None = None
    flops: float | None = None
    efficiency: float | None = None


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this machine shows a GPU; CUDA_VISIBLE_DEVICES may hide all."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return any(any(devices.glob(pattern)) for pattern in _GPU_FILES)


def dtype_warning(quantization: Quantization) -> str | None:
    """What a study's compute dtype may cost on a CPU; None where it is float32."""
    dtype = quantization.compute_dtype
    if dtype == "float32":
        return None
    return (
        f"no GPU here, and the study computes in {dtype}: some CPUs are slower at it than at "
        "float32 (bfloat16 gave 60 tokens/s where float32 gave 177), those with instructions for "
        "it may be faster; for float32 set quantization: {compute_dtype: float32}, which makes "
        "other trials"
    )


def time_here(
    study: Study, inputs: Inputs, missing: Sequence[Trial], records: Mapping[str, Record]
) -> TimeHere | None:
    """How long the `missing` trials take on this machine's CPU; None where none is missing."""
    if not missing:
        return None
    cores = len(os.sched_getaffinity(0))
    at_once = max(1, cores // study.resources.cpus)
    parents = {trial.name: trial.parent for trial in missing}
    durations = estimate_durations(study, inputs.rows, missing, records)
    if durations.unit == "seconds":
        rates = [record.metrics.get("tokens_per_second") for record in records.values()]
        known = [rate for rate in rates if rate]
        return TimeHere(
            len(missing),
            cores,
            at_once,
            simulate(parents, durations.by_name, at_once).makespan,
            "trials",
            tokens_per_second=median(known) if known else None,
        )
    operations = trial_operations(study, inputs, missing)
    flops = matmul_rate()
    per_trial = trial_rate(study, flops)
    seconds = {name: count / per_trial for name, count in operations.items() if count is not None}
    makespan = None
    if len(seconds) == len(missing):
        makespan = simulate(parents, seconds, at_once).makespan
    return TimeHere(
        len(missing), cores, at_once, makespan, "matmul", flops=flops, efficiency=CPU_EFFICIENCY
    )


def trial_rate(study: Study, flops: float) -> float:
    """The flop/s that a trial reaches on its part of these cores, whose products reach `flops`."""
    cores = len(os.sched_getaffinity(0))
    return flops * CPU_EFFICIENCY * min(1.0, study.resources.cpus / cores)


def matmul_rate() -> float:
    """The best rate of some float32 matrix products on all cores, in flop/s."""
    import numpy as np

    matrix = np.ones((_SIZE, _SIZE), np.float32)
    best, end = float("inf"), time.perf_counter() + _SECONDS
    # Many short ones, of which the first start numpy's threads, and others share the cores.
    while (started := time.perf_counter()) < end:
        np.matmul(matrix, matrix)
        best = min(best, time.perf_counter() - started)
    return 2 * _SIZE**3 / best
