"""The check `reduction`: the same numbers from the GPU as from the CPU, NaN found, and rates.

Model: `raylab.reduce.diff.diff` takes a device. Its document on the GPU is held against that on
the CPU; the CPU's is held against sorting and summing in float64 with numpy. The rates are in
`gpu_checks.reduction_rates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_models import Llama, write_adapter
from safetensors.torch import load_file, save_file

from gpu_checks.comparing import differences
from gpu_checks.inputs import DTYPES, MIDDLE, TINY, write_model
from gpu_checks.reduction_rates import measure_rates
from gpu_checks.report import Report, Setting
from raylab.errors import ModelError
from raylab.reduce.diff import DiffRequest, diff
from raylab.reduce.gpu import Gpu, own_gpu
from raylab.reduce.gpu_sums import Sums
from raylab.reduce.job import Device
from raylab.store.references import find_model
from raylab.weights.alignment import Tolerance

DENSITIES = (0.001, 0.01, 0.1, 0.2, 0.5, 1.0)
_FEW_BITS = 1e-12
"""Of norms, against sums in float64."""
_COUNTED = tuple(range(0x3C00, 0x3F80, 64))
"""Buckets whose magnitudes are counted one by one when kernels are tried."""
_FLOAT32_PRODUCTS = 1e-6
"""Of the norms of adapters, whose products are float32."""


def check(setting: Setting, report: Report) -> None:
    """Claims about checkpoints, adapters and NaN, then rates."""
    model = setting.sized(MIDDLE, TINY, TINY)
    for dtype in DTYPES:
        a, b = (write_model(setting.work / dtype / str(i), model, dtype, i) for i in (1, 2))
        _check_pair(setting, report, dtype, a, b)
    _check_nan(setting, report, setting.work / "bfloat16")
    _check_adapters(setting, report, model)
    if report.on_gpu("the kernels' sums are those of torch operations"):
        _check_kernels(report)
    measure_rates(setting, report)


def document_of(a: Path, b: Path, device: Device, **changes: Any) -> dict[str, Any]:
    """The document of `raylab diff` on `device`."""
    request = DiffRequest(
        find_model(str(a)), find_model(str(b)), densities=DENSITIES, device=device, **changes
    )
    return diff(request).document


def _check_pair(setting: Setting, report: Report, dtype: str, a: Path, b: Path) -> None:
    on_cpu = document_of(a, b, "cpu")
    wrong = _against_numpy(on_cpu, a, b)
    report.claim(f"{dtype}: the CPU's numbers are numpy's", not wrong, ", ".join(wrong))
    if report.on_gpu(f"{dtype}: the GPU's document is the CPU's"):
        on_gpu = document_of(a, b, "cuda")
        apart = differences(on_cpu, on_gpu)
        if on_gpu["device"] != "cuda":
            apart.append(f"it was made on {on_gpu['device']}")
        report.claim(f"{dtype}: the GPU's document is the CPU's", not apart, "; ".join(apart[:5]))


def _against_numpy(document: Mapping[str, Any], a: Path, b: Path) -> list[str]:
    """The numbers of `document` that are not those of float64 and a sort."""
    one, two = (load_file(path / "model.safetensors") for path in (a, b))
    diffs = [(one[name].float() - two[name].float()).abs().flatten() for name in one]
    sizes = np.sort(torch.cat(diffs).numpy())[::-1].astype(np.float64)
    norms = document["norms"]
    expected = {
        "nonzero": (norms["nonzero"], int(np.count_nonzero(sizes)), 0.0),
        "l1": (norms["l1"], float(sizes.sum()), _FEW_BITS),
        "l2": (norms["l2"], float(np.sqrt(np.dot(sizes, sizes))), _FEW_BITS),
        "linf": (norms["linf"], float(sizes[0]), 0.0),
    }
    for row in document["densities"]:
        kept = max(1, int(row["density"] * sizes.size))
        name = f"threshold at {row['density']:g}"
        expected[name] = (row["threshold"], float(sizes[row["num_keep"] - 1]), 0.0)
        expected[f"num_keep at {row['density']:g}"] = (row["num_keep"], kept, 1 / kept)
    return [
        f"{name} {found!r}, not {value!r}"
        for name, (found, value, within) in expected.items()
        if abs(found - value) > within * abs(value)
    ]


def _check_nan(setting: Setting, report: Report, folder: Path) -> None:
    """One NaN in one entry is found, and may be skipped."""
    broken = folder / "nan"
    broken.mkdir()
    tensors = load_file(folder / "2" / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    (broken / "config.json").write_text((folder / "2" / "config.json").read_text())
    devices: tuple[Device, ...] = ("cpu", "cuda") if setting.on_gpu else ("cpu",)
    for device in devices:
        try:
            document_of(folder / "1", broken, device)
            report.claim(f"a NaN is found on {device}", False, "no error")
        except ModelError as error:
            said = f"{error.what}: {error.found}"
            report.claim(f"a NaN is found on {device}", "not finite" in said, said)
        skipped = document_of(folder / "1", broken, device, tolerance=Tolerance(non_finite="skip"))
        count = skipped["accounting"]["non_finite"]
        report.claim(f"a NaN is skipped and counted on {device}", count == 1, str(count))


def _check_adapters(setting: Setting, report: Report, model: Llama) -> None:
    a, b = (write_adapter(setting.work / f"adapter{seed}", model, seed) for seed in (1, 2))
    what = "adapters: the GPU's norms within 1e-6, thresholds within a unit in the last place"
    if not report.on_gpu(what):
        return
    one, other = document_of(a, b, "cpu"), document_of(a, b, "cuda")
    apart = {
        key: abs(one["norms"][key] - other["norms"][key]) / one["norms"][key]
        for key in ("l1", "l2")
    }
    units = [
        abs(np.float64(x["threshold"]) - y["threshold"]) / np.spacing(np.float32(x["threshold"]))
        for x, y in zip(one["densities"], other["densities"], strict=True)
    ]
    holds = max(apart.values()) <= _FLOAT32_PRODUCTS and max(units) <= 1
    found = f"L1 {apart['l1']:.1e}, L2 {apart['l2']:.1e} apart; thresholds {max(units):g} units"
    report.claim(what, holds, found)


def _check_kernels(report: Report) -> None:
    """numba's kernels reach this GPU, and fill the tables that torch operations fill."""
    own = own_gpu()
    found = "" if own.kernels else "they do not: `pip install numba-cuda[cu13]` may help"
    if not report.claim("numba's kernels run on this GPU", own.kernels is not None, found):
        return
    a = torch.randn(1 << 22, device=own.device)
    # Magnitudes lie many decades apart, and some differences are zero.
    b = a * (1 + 10.0 ** (-8 * torch.rand_like(a))) * (torch.rand_like(a) < 0.9)
    for name, pair in {"bfloat16": (a.bfloat16(), b.bfloat16()), "float32": (a, b)}.items():
        tables = []
        for gpu in (own, Gpu(own.device, None)):
            sums = Sums.empty(gpu.device, _COUNTED, 1)
            gpu.add(*pair, sums, 0)
            tables.append(sums.tables(0))
        wrong = [i for i, (x, y) in enumerate(zip(*tables, strict=True)) if not torch.equal(x, y)]
        what = f"{name}: the kernels' sums are those of torch operations"
        report.claim(what, not wrong, f"tables {wrong}")
