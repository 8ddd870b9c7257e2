"""The GPU of a worker: its process sees the one that Ray gave it, or none.

Model: CUDA reads CUDA_VISIBLE_DEVICES once, when a process first asks for devices. Ray 2.60 sets
the variable before a task starts, but not if it gave no GPU, and never where
RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES is set: such a worker sees every GPU of its node. So
the first act of each of raylab's workers is to set the variable itself. All libraries below then
find the worker's own GPU as cuda:0, or no GPU, and take the CPU.
Invariant: a worker uses no GPU that Ray did not give it. It uses one GPU even if it was given
several: transformers would otherwise split every batch among them, which changes the training.
The driver, and the doctor's examiners, go on to see all GPUs.

Only on a machine with NVIDIA's driver: that CUDA then shows just these devices.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence

import ray

from raylab.errors import ClusterError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_NOT_INITIALIZED = 3
"""CUDA_ERROR_NOT_INITIALIZED of cuda.h."""
_NO_GPU = "none"

_shown: str | None = None
"""What this process was shown last; Ray sets and resets the variable between its tasks."""


def use_own_gpu() -> tuple[str, ...]:
    """Show this worker's process the GPU that Ray gave it, or none; return its id, or nothing.

    Call it before all that may use CUDA, in a worker only. Raises ClusterError if CUDA has already
    read another device, or if Ray cannot tell which GPU is the worker's.
    """
    global _shown
    context = ray.get_runtime_context()
    ids = context.get_accelerator_ids().get("GPU", [])
    own = own_gpu(ids, context.get_assigned_resources().get("GPU", 0.0))
    wanted = ",".join(own)
    before = os.environ.get(VISIBLE) if _shown is None else _shown
    if wanted != before and cuda_is_initialized():
        raise ClusterError(
            "this worker's process uses another GPU than the one that Ray gave it",
            found=f"CUDA was initialised with {VISIBLE}={'(unset)' if before is None else before}",
            expected=f"the GPU {wanted or _NO_GPU}",
            todo="see what imports or calls CUDA in a worker before raylab does, such as a "
            "worker_process_setup_hook or sitecustomize, and take it away",
        )
    os.environ[VISIBLE] = _shown = wanted
    return own


def own_gpu(ids: Sequence[str], given: float) -> tuple[str, ...]:
    """The one of a worker's GPUs that it uses, as CUDA_VISIBLE_DEVICES names it, or none.

    `ids`: as Ray gives them, in any order: entries of the variable that the worker's process
    started with (numbers, UUIDs, MIG instances), or the numbers of the node's GPUs without one.
    `given`: the number of GPUs that Ray counts for the worker. Raises ClusterError.
    """
    if len(ids) > math.ceil(given):
        # Ray gives every entry of the variable if it has fewer than the node has GPUs.
        raise ClusterError(
            "Ray does not say which GPU is this worker's",
            found=f"{VISIBLE} names {', '.join(sorted(ids))}, for {given:g} GPUs of a larger node",
            expected="every GPU that Ray counts on the node",
            todo=f"take {VISIBLE} out of the environment of the job, or set it where `ray start` "
            "is called",
        )
    return tuple(sorted(ids)[:1])


def cuda_is_initialized() -> bool:
    """Whether this process has initialised NVIDIA's driver, and so has read the variable.

    torch.cuda.is_initialized() does not tell: torch.cuda.is_available() reads it as well.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return False
    answer: int = driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))
    return answer != _NOT_INITIALIZED
