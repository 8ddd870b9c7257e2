"""The table of checks: name, function, share of the time, and what each shows."""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """A row. function: `module:function`, imported in the check's own process alone.

    share: of the time of the whole run, in units that the rows have in common. needs_gpu: whether
    no part of it can run on a CPU. Those that fill the time they get stand last.
    """

    name: str
    function: str
    share: float
    shows: str
    needs_gpu: bool = False


CHECKS = (
    Check(
        "quantisation",
        "gpu_checks.quantisation:check",
        15,
        "nf4 codes and constants made on the GPU are those made on the CPU",
    ),
    Check(
        "merges",
        "gpu_checks.merges:check",
        25,
        "every method of merging writes the same bytes on the GPU as on the CPU",
    ),
    Check(
        "reduction",
        "gpu_checks.reduction:check",
        85,
        "differences have the same exact sums and thresholds on the GPU as on the CPU; how fast",
    ),
    Check(
        "training",
        "gpu_checks.training:check",
        110,
        "`raylab run` trains SFT, DPO and both chains in 4 bits, with float32 adapters",
    ),
    Check(
        "repeatability",
        "gpu_checks.repeatability:check",
        60,
        "a trial that runs twice, or is stopped and resumed, leaves the same bytes",
    ),
    Check(
        "out-of-memory",
        "gpu_checks.out_of_memory:check",
        30,
        "a trial that runs out of memory goes on with half the micro-batch, and says so",
        needs_gpu=True,
    ),
    Check(
        "ray",
        "gpu_checks.ray_workers:check",
        75,
        "Ray's workers have the GPU that is theirs, share it, and may die on it",
    ),
    Check(
        "memory",
        "gpu_checks.memory:check",
        60,
        "the peak memory of trainings is within 15 % of what `raylab plan` estimates",
    ),
    Check(
        "speed",
        "gpu_checks.speed:check",
        60,
        "tokens per second beside trl alone, what settings do to them, and the share of the peak",
    ),
)
