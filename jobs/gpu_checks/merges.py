"""The check `merges`: every method writes the same bytes on the GPU as on the CPU.

Model: three checkpoints that were moved from one base model are merged by every method of
`raylab.spec.merges.METHODS`, in three dtypes. The CPU's weights are held against the definition,
written out in float64 with numpy, where the method draws nothing; the GPU's against the CPU's,
byte by byte.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from gpu_checks.comparing import differences
from gpu_checks.inputs import DTYPES, MIDDLE, TINY, write_model
from gpu_checks.report import Report, Setting
from raylab.merge.backend import Device
from raylab.merge.merge import merge_models
from raylab.spec.merges import METHODS, request_merge
from raylab.store.references import ModelLocation


class Merged(NamedTuple):
    """One merge: the SHA-256 of each file of weights, its record without these, seconds."""

    digests: dict[str, str]
    record: dict[str, Any]
    seconds: float


WEIGHTS = (1.0, 0.5, 0.25)
_NAME = "model.layers.1.mlp.up_proj.weight"


def check(setting: Setting, report: Report) -> None:
    """Merge by every method in every dtype."""
    model = setting.sized(MIDDLE, TINY, TINY)
    for dtype in DTYPES:
        folder = setting.work / f"merges-{dtype}"
        base, *models = (write_model(folder / str(i), model, dtype, i) for i in range(4))
        # Those that look at whole tensors run on the CPU alone.
        for method in (name for name, row in METHODS.items() if row.combines == "entries"):
            what = f"{method} in {dtype}"
            if report.has_time(setting.sized(4, 2, 2), what):
                _check_method(setting, report, what, folder, base, models)
        shutil.rmtree(folder)


def _check_method(
    setting: Setting,
    report: Report,
    what: str,
    folder: Path,
    base: Path,
    models: Sequence[Path],
) -> None:
    method = what.split()[0]
    on_cpu = _merged(method, base, models, folder / f"{method}-cpu", "cpu")
    if method in ("task_arithmetic", "linear"):
        apart = _apart_from_definition(method, folder / f"{method}-cpu", base, models)
        report.claim(f"{what}: the CPU's weights are the definition's", apart == 0, f"{apart}")
    else:
        again = _merged(method, base, models, folder / f"{method}-again", "cpu", threads=1)
        same = again.digests == on_cpu.digests
        report.claim(f"{what}: one thread on the CPU writes the same bytes", same)
    if report.on_gpu(f"{what}: the GPU writes the CPU's bytes"):
        on_gpu = _merged(method, base, models, folder / f"{method}-cuda", "cuda")
        same = on_gpu.digests == on_cpu.digests
        report.claim(f"{what}: the GPU writes the CPU's bytes", same, str([*on_gpu.digests]))
        parts = differences(on_cpu.record, on_gpu.record)
        report.claim(f"{what}: the GPU counts as the CPU", not parts, "; ".join(parts[:3]))
        report.figure(
            f"{what}: seconds on the CPU and on the GPU", [on_cpu.seconds, on_gpu.seconds]
        )


def _merged(
    method: str,
    base: Path,
    models: Sequence[Path],
    out: Path,
    device: Device,
    threads: int | None = None,
) -> Merged:
    """Merge into `out`."""
    request = request_merge(method, [str(path) for path in models], base=str(base), weights=WEIGHTS)
    places = [ModelLocation(checkpoint=path, base=base) for path in models]
    started = time.perf_counter()
    record = merge_models(request, places, base, out, threads=threads, device=device)
    seconds = time.perf_counter() - started
    files = sorted(out.glob("*.safetensors"))
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert record["device"] == device
    del record["device"], record["files"]
    return Merged(digests, record, seconds)


def _apart_from_definition(method: str, out: Path, base: Path, models: Sequence[Path]) -> int:
    """Entries of one tensor that are not the definition's, rounded once."""
    merged, start = (load_file(path / "model.safetensors")[_NAME] for path in (_one(out), base))
    weights = [load_file(path / "model.safetensors")[_NAME].double() for path in models]
    if method == "linear":
        expected = sum(w * t for w, t in zip(WEIGHTS, weights, strict=True)) / sum(WEIGHTS)
    else:
        # A difference is one of float32 numbers, and itself float32.
        deltas = (weight.float() - start.float() for weight in weights)
        moves = (w * delta.double() for w, delta in zip(WEIGHTS, deltas, strict=True))
        expected = start.double() + sum(moves)
    assert isinstance(expected, torch.Tensor)
    return int((expected.to(merged.dtype) != merged).sum())


def _one(out: Path) -> Path:
    """The folder `out`, whose weights are in one file of the usual name."""
    (file,) = out.glob("*.safetensors")
    if file.name != "model.safetensors":
        shutil.copy(file, out / "model.safetensors")
    return out
