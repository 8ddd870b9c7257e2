"""How fast the reduction is on a GPU, beside copying, and beside the CPU in the same run.

Model: rates are the best of a few turns. What would take the CPU too long is measured over fewer
layers and scaled by the entries; such a figure says so.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from bench_models import EIGHT_B, Llama, bytes_of, write_adapter

from gpu_checks.inputs import TINY, entries_of, write_large_pair
from gpu_checks.report import Report, Setting
from raylab.reduce.diff import DiffRequest, diff
from raylab.reduce.gpu import TILE_ENTRIES, own_gpu
from raylab.reduce.gpu_sums import Sums
from raylab.reduce.histogram import Magnitudes
from raylab.reduce.histogram_backend import tallies_for
from raylab.reduce.job import Device, InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.store.references import ModelLocation, find_model

_DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.5)
_TILE = 1 << 20
_STAGING = 64 << 20
_MEMORY_SHARE, _DISK_SHARE = 0.4, 0.4
_SECONDS_PER_GB = 2.5
"""To write a pair, to copy it three times and to subtract it as often; an upper estimate."""


def measure_rates(setting: Setting, report: Report) -> None:
    """Every rate that time allows."""
    if report.has_time(6, "the rate of the loops alone"):
        _kernel(setting, report)
    if report.has_time(setting.sized(12, 6, 6), "a pair of large adapters"):
        _adapters(setting, report)
    if report.has_time(setting.sized(30, 10, 6), "a pair of large checkpoints"):
        _checkpoints(setting, report)
    if report.has_time(setting.sized(15, 10, 8), "all pairs of several adapters"):
        _all_pairs(setting, report)


def best(turns: int, work: Callable[[], Any]) -> float:
    """The least seconds that `work` takes; a first turn, which may compile, does not count."""
    work()
    return min(_timed(work) for _ in range(turns))


def _timed(work: Callable[[], Any]) -> float:
    _finish()
    started = time.perf_counter()
    work()
    _finish()
    return time.perf_counter() - started


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _kernel(setting: Setting, report: Report) -> None:
    """Entries per second of a bf16 pair that lies on the device already."""
    size = setting.sized(1 << 28, 1 << 26, 1 << 24)
    device = torch.device(setting.device)
    a = torch.randn(size, device=device).mul_(0.02).bfloat16()
    b = (a.float() + 1e-4 * torch.randn(size, device=device)).bfloat16()
    add = _add_on_gpu if setting.on_gpu else _add_on_cpu
    rate = size / best(setting.sized(5, 3, 2), lambda: add(a, b)) / 1e9
    what = "the loops alone, a pair in bf16"
    if setting.on_gpu:
        report.aim(what, rate, 100, "G entries/s")
    else:
        report.figure(what, rate, "G entries/s")
    report.headline(f"the loops alone {rate:.3g} G entries/s")


def _add_on_gpu(a: torch.Tensor, b: torch.Tensor) -> None:
    gpu = own_gpu()
    sums = Sums.empty(gpu.device, (), 1)
    for one, other in zip(a.split(TILE_ENTRIES), b.split(TILE_ENTRIES), strict=True):
        gpu.add(one, other, sums, 0)


def _add_on_cpu(a: torch.Tensor, b: torch.Tensor) -> None:
    (tally,) = tallies_for({"pair": ()}, True).values()
    sums = Magnitudes()
    for one, other in zip(a.split(_TILE), b.split(_TILE), strict=True):
        tally.add_difference(one, other)
        tally.flush(sums)


def _diff_seconds(a: Path, b: Path, device: Device, turns: int = 2) -> float:
    threads = len(os.sched_getaffinity(0))
    request = DiffRequest(
        find_model(str(a)),
        find_model(str(b)),
        densities=_DENSITIES,
        threads=threads,
        device=device,
    )
    return best(turns, lambda: diff(request))


def _adapters(setting: Setting, report: Report) -> None:
    """Two adapters of an 8B shape: on the GPU whole, on the CPU two of its layers."""
    whole = EIGHT_B if setting.on_gpu else TINY
    few = replace(whole, layers=min(2, whole.layers))
    seconds: dict[str, float] = {}
    for device, model in _sides(setting, few, whole):
        a, b = (write_adapter(setting.work / f"large-{device}-{i}", model, i) for i in (1, 2))
        turns = setting.sized(3, 2, 2) if device == "cuda" else 1
        scale = entries_of(whole, linear_only=True) / entries_of(model, linear_only=True)
        seconds[device] = scale * _diff_seconds(a, b, device, turns)
    entries = entries_of(whole, linear_only=True) / 1e9
    report.figure(
        f"a pair of adapters, {entries:.3g} G entries, all CPUs, scaled from {few.layers} layers",
        seconds["cpu"],
        "s",
    )
    if setting.on_gpu:
        what = f"a pair of adapters, {entries:.3g} G entries"
        report.figure(f"{what}, on the GPU (aim: below 1)", seconds["cuda"], "s")
        report.aim(f"{what}: times the CPUs", seconds["cpu"] / seconds["cuda"], 20, "times")


def _sides(setting: Setting, few: Llama, whole: Llama) -> list[tuple[Device, Llama]]:
    """The devices, each with the model whose adapters it subtracts."""
    return [("cpu", few), ("cuda", whole)] if setting.on_gpu else [("cpu", few)]


def _checkpoints(setting: Setting, report: Report) -> None:
    """A pair of checkpoints, as large as fits, beside copying its bytes to the device."""
    model = _fitting(setting)
    a, b = write_large_pair(setting.work / "large", model, setting.device)
    size, entries = bytes_of(a, b), entries_of(model)
    copied = copy_rate(sorted(p for d in (a, b) for p in d.glob("*.safetensors")), setting.device)
    seconds = _diff_seconds(a, b, "cuda" if setting.on_gpu else "cpu", setting.sized(2, 1, 1))
    shutil.rmtree(setting.work / "large")
    what = f"a pair of checkpoints, {entries / 1e9:.3g} G entries ({model.layers} layers)"
    report.figure(f"{what}: seconds", seconds, "s")
    report.figure("its bytes copied from the page cache to the device", copied / 1e9, "GB/s")
    rate = size / seconds / copied
    if setting.on_gpu:
        report.aim(f"{what}: its rate over that of copying", rate, 0.8)
    else:
        report.figure(f"{what}: its rate over that of reading", rate)


def _fitting(setting: Setting) -> Llama:
    """An 8B shape with as many of its layers as memory, disk and time take."""
    if not setting.on_gpu:
        return replace(TINY, layers=8)
    available = _available_memory() * _MEMORY_SHARE
    room = min(available, shutil.disk_usage(setting.work).free * _DISK_SHARE)
    room = min(room, setting.seconds_left / _SECONDS_PER_GB * 1e9)
    if setting.quick:
        room = min(room, 4e9)
    fixed, layer = (2 * 2 * entries_of(replace(EIGHT_B, layers=layers)) for layers in (0, 1))
    layers = int((room - fixed) / (layer - fixed))
    return replace(EIGHT_B, layers=max(1, min(EIGHT_B.layers, layers)))


def _available_memory() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    return sizes["MemAvailable"]


def copy_rate(files: Sequence[Path], device: str) -> float:
    """Bytes per second from the page cache to the device; the best of one, four and eight
    threads, each with a pinned buffer. On a CPU: of reading alone."""
    size = sum(file.stat().st_size for file in files)
    rates = []
    for threads in (1, 4, 8):
        dealt = [files[i::threads] for i in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            work = lambda: list(pool.map(lambda some: _copy(some, device), dealt))  # noqa: B023, E731
            rates.append(size / _timed(work))
    return max(rates)


def _copy(files: Sequence[Path], device: str) -> None:
    on_gpu = device == "cuda"
    staging = [torch.empty(_STAGING, dtype=torch.uint8, pin_memory=on_gpu) for _ in range(2)]
    target = torch.empty(_STAGING, dtype=torch.uint8, device=device) if on_gpu else None
    stream = torch.cuda.Stream() if on_gpu else None
    events: list[Any] = [None, None]
    turn = 0
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while count := opened.readinto(staging[turn].numpy().data):
                if target is not None:
                    with torch.cuda.stream(stream):
                        target[:count].copy_(staging[turn][:count], non_blocking=True)
                        events[turn] = torch.cuda.Event()
                        events[turn].record()
                turn = 1 - turn
                if events[turn] is not None:
                    events[turn].synchronize()


def _all_pairs(setting: Setting, report: Report) -> None:
    """All pairs of eight adapters, with their relations; on the CPU fewer layers."""
    count = setting.sized(8, 4, 3)
    whole = replace(EIGHT_B, layers=setting.sized(8, 2, 1)) if setting.on_gpu else TINY
    few = replace(whole, layers=1)
    seconds: dict[str, float] = {}
    for device, model in _sides(setting, few, whole):
        folder = setting.work / f"pairs-{device}"
        places = {
            f"m{i}": ModelLocation(adapters=(write_adapter(folder / str(i), model, i),))
            for i in range(count)
        }
        scale = entries_of(whole, linear_only=True) / entries_of(model, linear_only=True)
        seconds[device] = scale * _pairs_seconds(places, device)
    pairs, entries = math.comb(count, 2), entries_of(whole, linear_only=True) / 1e9
    what = f"all {pairs} pairs of {count} adapters, {entries:.3g} G entries each"
    report.figure(f"{what}, all CPUs, scaled from 1 layer", seconds["cpu"], "s")
    if setting.on_gpu:
        report.figure(f"{what}, on the GPU", seconds["cuda"], "s")
        report.aim(f"{what}: times the CPUs", seconds["cpu"] / seconds["cuda"], 30, "times")


def _pairs_seconds(places: dict[str, ModelLocation], device: Device) -> float:
    pairs = tuple(Pair(f"{a}~{b}", a, b) for a, b in combinations(places, 2))
    threads = len(os.sched_getaffinity(0))
    job = Job(places, pairs, threads=threads, vectors=tuple(places), device=device)
    turns = 1 if device == "cpu" else 2
    return best(turns, lambda: reduce_pairs(job, _DENSITIES, InProcess()))
