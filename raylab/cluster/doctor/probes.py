"""Probes: functions that a process runs to find the facts of its machine, without judging them.

Model: each probe runs on every node and returns plain values. `raylab.cluster.doctor.checks` lists
the probes and judges their facts.
Invariant: a probe leaves no file behind, except in the probe folder of the driver, which deletes
it. No secret is part of a fact or of an error's description.

Only a machine with a GPU can show the names and memory of devices, bitsandbytes' CUDA kernels, and
whether the driver is new enough for torch's CUDA. The rest is the same on a CPU.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import raylab
from raylab.errors import RaylabError
from raylab.store.filesystem import Store, scratch_space
from raylab.store.retry import RetryPolicy

LIBRARIES = ("ray", "torch", "transformers", "peft", "trl", "bitsandbytes", "datasets")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_MAX_DESCRIPTION = 300
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY", re.I)
_SHORTEST_SECRET = 8
TOKEN = "token"
"""The driver's file in the probe folder; it holds the folder's name."""
STORAGE_SECONDS = 10.0
"""How long a probe retries an operation of the storage."""

Facts = dict[str, Any]


@dataclass(frozen=True)
class ProbeRequest:
    """The storage to probe, the folder in it that the driver has made, and the node's own id.

    Without `folder`, whether the node shares the storage with the driver is not probed.
    """

    storage: str | None = None
    folder: str | None = None
    node: str = "driver"


def describe_error(error: Exception) -> str:
    """The message of an exception in one line, without secrets."""
    text = f"{error.what}: {error.found}" if isinstance(error, RaylabError) else str(error)
    line = " ".join(redacted(text or type(error).__name__).split())
    return line if len(line) <= _MAX_DESCRIPTION else f"{line[:_MAX_DESCRIPTION]} ..."


def redacted(text: str) -> str:
    """`text` without the secrets of this process's environment and the passwords of URIs."""
    from huggingface_hub import get_token

    secrets = {value for name, value in os.environ.items() if _SECRET.search(name)}
    for secret in sorted({*secrets, get_token() or ""}, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def gpus(request: ProbeRequest) -> Facts:
    """The machine's NVIDIA cards, the devices that torch sees, the driver, and torch's CUDA."""
    import torch

    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cards": count_nvidia_cards(Path("/sys/bus/pci/devices")),
        "devices": [{"name": d.name, "memory": d.total_memory} for d in devices],
        "driver": driver_version(Path("/proc/driver/nvidia/version")),
        "driver_cuda": _driver_cuda(),
        "torch_cuda": torch.version.cuda,
    }


def count_nvidia_cards(devices: Path) -> int:
    """The number of NVIDIA display controllers on the PCI bus, with or without a driver."""
    cards = 0
    for device in devices.iterdir() if devices.is_dir() else ():
        vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        cards += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    return cards


def driver_version(file: Path) -> str | None:
    """The version of NVIDIA's kernel module, read from its version file."""
    if not file.is_file():
        return None
    found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", file.read_text())
    return found.group(1) if found else None


def _driver_cuda() -> str | None:
    """The newest CUDA that the driver can run; None without a working driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}" if version.value else None


def versions(request: ProbeRequest) -> Facts:
    """The versions of Python, raylab and its libraries; None for a missing library."""
    return {
        "python": platform.python_version(),
        "raylab": raylab.__version__,
        **{name: _version(name) for name in LIBRARIES},
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def four_bits(request: ProbeRequest) -> Facts:
    """The errors of nf4 and of a gradient through it, on each GPU or else on the CPU."""
    import torch

    # bitsandbytes logs advice on speed at every call.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    return {"devices": [{"name": name, **_four_bit_errors(torch.device(name))} for name in names]}


def _four_bit_errors(device: Any) -> Facts:
    """The relative errors of a weight's round trip, and of a gradient after an eval pass."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit, Params4bit

    from raylab.train.model import disarm_cpu_repacking

    draw = torch.Generator().manual_seed(0)
    weight, x, slope = (
        torch.randn(*shape, generator=draw) for shape in ((128, 256), (8, 256), (8, 128))
    )
    layer = Linear4bit(256, 128, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.weight = Params4bit(weight.clone(), requires_grad=False, quant_type="nf4", module=layer)
    layer = layer.to(device)
    disarm_cpu_repacking(layer)
    with torch.no_grad():
        layer.eval()(x.to(device))
    known = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float().cpu()
    given = x.to(device).requires_grad_()
    layer.train()(given).backward(slope.to(device))
    wanted = slope @ known
    # A repacked weight may give no gradient at all, which is as wrong as zeros.
    came = torch.zeros_like(given) if given.grad is None else given.grad
    return {
        "round_trip": float((known - weight).norm() / weight.norm()),
        "gradient": float((came.cpu() - wanted).norm() / wanted.norm()),
    }


def storage(request: ProbeRequest) -> Facts:
    """Whether the storage can be written, and whether it is the storage of the driver.

    `seen`: whether this process reads the driver's token there; None if that is not probed. A
    process that does not see the token writes nothing. A process that does writes a file of its
    own, for which the driver then looks.
    """
    if request.storage is None:
        return {}
    store = Store(request.storage, RetryPolicy(stop_after=STORAGE_SECONDS))
    facts: Facts = {"local": store.is_local, "seen": None, "free": None}
    if request.folder is not None:
        found = store.read_if_there(f"{request.folder}/{TOKEN}")
        facts["seen"] = found == request.folder.encode()
        if not facts["seen"]:
            return facts
        store.write(f"{request.folder}/{request.node}", request.node.encode())
    new = new_directories(store)
    try:
        store.prepare()
        if store.is_local:
            facts["free"] = shutil.disk_usage(store.root).free
    finally:
        remove_empty(new)
    return facts


def new_directories(store: Store) -> list[Path]:
    """The directories that opening a local store would create, the deepest first."""
    root = Path(store.root)
    return [path for path in (root, *root.parents) if store.is_local and not path.exists()]


def remove_empty(directories: Iterable[Path]) -> None:
    """Remove the directories that exist and are empty."""
    for directory in directories:
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def token(request: ProbeRequest) -> Facts:
    """Whether there is a token for the hub; never the token, or any part of it."""
    from huggingface_hub import get_token

    return {"there": get_token() is not None}


def disk(request: ProbeRequest) -> Facts:
    """The disk of the scratch space, where merged parents are made."""
    scratch = scratch_space().absolute()
    there = next(path for path in (scratch, *scratch.parents) if path.exists())
    usage = shutil.disk_usage(there)
    return {"scratch": str(scratch), "free": usage.free, "total": usage.total}


def shared_memory(request: ProbeRequest) -> Facts:
    """/dev/shm, where Ray keeps its objects."""
    usage = shutil.disk_usage("/dev/shm")
    return {"free": usage.free, "total": usage.total}


def memory(request: ProbeRequest) -> Facts:
    """Main memory in bytes: all of it, and the part that is available."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {"total": sizes["MemTotal"], "available": sizes["MemAvailable"]}


def cpus(request: ProbeRequest) -> Facts:
    """The number of CPUs that this process may use."""
    return {"cpus": len(os.sched_getaffinity(0))}


def clock(request: ProbeRequest) -> Facts:
    """The time; `raylab.cluster.doctor.examine` compares it over a round trip."""
    return {"now": time.time()}
