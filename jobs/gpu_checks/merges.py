"""The check `merges`: every method writes the same bytes on the GPU as on the CPU.

Model: three checkpoints that were moved from one base model are merged by every method of
`raylab.spec.merges.METHODS`, in three dtypes. The CPU's weights are held against the definition,
written out in float64 with numpy, where the method draws nothing; the GPU's against the CPU's,
byte by byte.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gpu_checks.inputs import DTYPES, MIDDLE, TINY, write_model
from gpu_checks.report import NotPossible, Report, Setting
from raylab.merge.merge import merge_models
from raylab.spec.merges import METHODS, request_merge
from raylab.store.references import ModelLocation

WEIGHTS = (1.0, 0.5, 0.25)
_NAME = "model.layers.1.mlp.up_proj.weight"


def check(setting: Setting, report: Report) -> None:
    """Merge by every method in every dtype."""
    model = setting.sized(MIDDLE, TINY, TINY)
    for dtype in DTYPES:
        folder = setting.work / f"merges-{dtype}"
        base, *models = (write_model(folder / str(i), model, dtype, i) for i in range(4))
        for method in METHODS:
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
        report.claim(f"{what}: one thread on the CPU writes the same bytes", again == on_cpu)
    if report.on_gpu(f"{what}: the GPU writes the CPU's bytes"):
        on_gpu = _merged(method, base, models, folder / f"{method}-cuda", "cuda")
        wrong = [name for name in on_cpu if on_gpu.get(name) != on_cpu[name]]
        report.claim(f"{what}: the GPU writes the CPU's bytes", not wrong, ", ".join(wrong))


def _merged(
    method: str,
    base: Path,
    models: Sequence[Path],
    out: Path,
    device: str,
    threads: int | None = None,
) -> dict[str, str]:
    """Merge into `out`; the SHA-256 of every file of weights."""
    request = request_merge(method, [str(path) for path in models], base=str(base), weights=WEIGHTS)
    places = [ModelLocation(checkpoint=path, base=base) for path in models]
    merge_models(request, places, base, out, threads=threads, **_device(device))
    files = sorted(out.glob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _device(device: str) -> Mapping[str, Any]:
    """The option that chooses the device. Raises NotPossible where raylab has none."""
    if "device" in inspect.signature(merge_models).parameters:
        return {"device": device}
    if device != "cpu":
        raise NotPossible("this raylab lets no device be chosen for a merge")
    return {}


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
