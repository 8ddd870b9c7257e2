"""What one process of a cluster sees of its machine: facts without an opinion.

Model: each look is a function that is run on every node and returns plain values. They are
listed, and judged, in `raylab.cluster.doctor.checks`.
Invariant: nothing that was not there before stays on a disk; no secret is part of a fact, nor of
what is said of an error.

What only a machine with a GPU can show: names and memory of devices, bitsandbytes' CUDA kernels,
and whether the driver is new enough for torch's CUDA. The rest is the same on a CPU.
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

LIBRARIES = ("ray", "torch", "transformers", "peft", "trl", "bitsandbytes", "datasets")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_MOST_SAID = 300
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY", re.I)
_SHORTEST_SECRET = 8

Facts = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A storage, and the key of what another process has written there; None: nothing."""

    storage: str | None = None
    probe: str | None = None


def said(error: Exception) -> str:
    """One line of what an exception says, without secrets."""
    text = f"{error.what}: {error.found}" if isinstance(error, RaylabError) else str(error)
    line = " ".join(without_secrets(text or type(error).__name__).split())
    return line if len(line) <= _MOST_SAID else f"{line[:_MOST_SAID]} ..."


def without_secrets(text: str) -> str:
    """`text` without what this process's environment keeps secret, or a URI's password."""
    from huggingface_hub import get_token

    secrets = {value for name, value in os.environ.items() if _SECRET.search(name)}
    for secret in sorted({*secrets, get_token() or ""}, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def gpus(asked: Asked) -> Facts:
    """NVIDIA cards in the machine, what torch sees of them, the driver, and torch's CUDA."""
    import torch

    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cards": count_cards(Path("/sys/bus/pci/devices")),
        "devices": [{"name": d.name, "memory": d.total_memory} for d in devices],
        "driver": driver_version(Path("/proc/driver/nvidia/version")),
        "driver_cuda": _driver_cuda(),
        "torch_cuda": torch.version.cuda,
    }


def count_cards(devices: Path) -> int:
    """NVIDIA's display controllers on the PCI bus, whether or not a driver knows them."""
    cards = 0
    for device in devices.iterdir() if devices.is_dir() else ():
        vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        cards += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    return cards


def driver_version(file: Path) -> str | None:
    """The version of NVIDIA's kernel module, out of what it says of itself."""
    if not file.is_file():
        return None
    found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", file.read_text())
    return found.group(1) if found else None


def _driver_cuda() -> str | None:
    """The newest CUDA that the driver can run; None where there is no driver that answers."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}" if version.value else None


def versions(asked: Asked) -> Facts:
    """The versions of Python, raylab and its libraries; None for what is not installed."""
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


def four_bits(asked: Asked) -> Facts:
    """How far nf4 and a gradient through it are from float, on each GPU or else on the CPU."""
    import torch

    # It is told what it could be faster with, and says so wherever it is asked.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    return {"devices": [{"name": name, **_four_bits_on(torch.device(name))} for name in names]}


def _four_bits_on(device: Any) -> Facts:
    """Relative errors of the weight's round trip, and of a gradient after an eval pass."""
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


def storage(asked: Asked) -> Facts:
    """Whether the storage can be written, and what another process wrote there can be read."""
    if asked.storage is None:
        return {}
    store = Store(asked.storage)
    facts: Facts = {"local": store.is_local, "seen": None, "free": None}
    if asked.probe is not None:
        facts["seen"] = store.exists(asked.probe) and is_probe(store, asked.probe)
    new = new_directories(store)
    try:
        store.prepare()
        if store.is_local:
            facts["free"] = shutil.disk_usage(store.root).free
    finally:
        remove_empty(new)
    return facts


def is_probe(store: Store, key: str) -> bool:
    """Whether a process that looks has written `key`, for a probe holds its own name."""
    return store.read(key) == key.encode()


def new_directories(store: Store) -> list[Path]:
    """The directories that opening a local store would create, the deepest first."""
    root = Path(store.root)
    return [path for path in (root, *root.parents) if store.is_local and not path.exists()]


def remove_empty(directories: Iterable[Path]) -> None:
    """Remove those that are there and hold nothing."""
    for directory in directories:
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def token(asked: Asked) -> Facts:
    """Whether there is a token for a hub: never the token, or any part of it."""
    from huggingface_hub import get_token

    return {"there": get_token() is not None}


def disk(asked: Asked) -> Facts:
    """The disk on which merged parents are made."""
    scratch = scratch_space().absolute()
    there = next(path for path in (scratch, *scratch.parents) if path.exists())
    usage = shutil.disk_usage(there)
    return {"scratch": str(scratch), "free": usage.free, "total": usage.total}


def shared_memory(asked: Asked) -> Facts:
    """/dev/shm, where Ray keeps its objects."""
    usage = shutil.disk_usage("/dev/shm")
    return {"free": usage.free, "total": usage.total}


def memory(asked: Asked) -> Facts:
    """Main memory in bytes, all of it and what can still be had."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {"total": sizes["MemTotal"], "available": sizes["MemAvailable"]}


def cpus(asked: Asked) -> Facts:
    """CPUs that this process may use."""
    return {"cpus": len(os.sched_getaffinity(0))}


def clock(asked: Asked) -> Facts:
    """The time; it tells something only beside a round trip (`raylab.cluster.doctor.examine`)."""
    return {"now": time.time()}
