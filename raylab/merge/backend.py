"""Where the arithmetic of a merge runs: compiled loops on the CPU, or torch operations on a GPU.

Model: a backend is a device, the steps that run there, the memory of a thread, the size of a piece,
and how many pieces may be in flight. On the CPU all of it is numpy's and numba's, so that a merge
of checkpoints does not import torch. Asked for `auto`, a merge takes a GPU where there is one and
the work is large.
Invariant: a merge has the same bytes on every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raylab.merge import compiled_steps
from raylab.merge.magnitude_counts import tally
from raylab.merge.steps import Entries, Steps
from raylab.merge.thread_memory import Memory, ThreadMemory
from raylab.spec.study import Device
from raylab.weights.device import choose_device, may_have_gpu
from raylab.weights.row_tiles import TILE_ENTRIES

LARGE_WORK = 1 << 30
"""`auto` takes a GPU from so many entries of task vectors on, of tensors that no adapter changes.
CUDA takes about a second to start, in which 16 cores merge about as many. An estimate: no GPU has
measured it. Deltas of adapters are products that the CPU forms in small tiles: there a GPU has
little left to do."""

Tally = Callable[[Entries, int, int, int, Entries], None]
"""Counts magnitudes; see `raylab.merge.magnitude_counts.tally`."""


@dataclass(frozen=True)
class Backend:
    """A device and how it is used.

    memory: makes that of the calling thread; to_host: counts of the device as numpy's; entries: of
    a piece of a tensor that no adapter changes; most_threads: how many pieces may be in flight,
    None for as many as threads; in_use: within it pieces are merged, which may raise
    DeviceMemoryError.
    """

    name: Literal["cpu", "cuda"]
    steps: Steps
    tally: Tally
    memory: Callable[[], Memory]
    to_host: Callable[[Entries], np.ndarray]
    entries: int
    most_threads: int | None = None
    in_use: Callable[[], AbstractContextManager[None]] = nullcontext

    def threads(self, wanted: int) -> int:
        """How many threads work, where `wanted` are allowed."""
        return min(wanted, self.most_threads or wanted)


CPU = Backend("cpu", compiled_steps, tally, ThreadMemory, np.asarray, 2 * TILE_ENTRIES)


def choose(device: Device, entries: int, *, has_gpu: bool) -> Literal["cpu", "cuda"]:
    """The device for a merge of `entries` entries of checkpoints' task vectors.

    Raises InputError where a GPU is asked for and there is none.
    """
    is_large = entries >= LARGE_WORK
    return choose_device(device, is_large=is_large, has_gpu=has_gpu, verb="merge")


def backend_for(device: Device, entries: int) -> Backend:
    """The backend for a merge; see `choose`. Raises InputError."""
    if choose(device, entries, has_gpu=may_have_gpu()) == "cpu":
        return CPU
    from raylab.merge import gpu
    from raylab.merge.torch_backend import torch_backend

    chosen = choose(device, entries, has_gpu=gpu.is_there())
    return torch_backend(gpu.DEVICE) if chosen == "cuda" else CPU
