"""Where the arithmetic of a merge runs: compiled loops on the CPU, or torch operations on a GPU.

Model: a backend is a device, the steps that run there, the size of a piece, and how many pieces
may be in flight. Asked for `auto`, a merge takes a GPU where there is one and the work is large.
Invariant: a merge has the same bytes on every backend.

Memory of a GPU: a piece in flight takes (6 * models + 24) bytes an entry (stored rows, here in
bf16, and float32 rows of every model, base and result, float64 sums), and the steps another 90
bytes for each entry of a block of 2^22. So two models, in pieces of 2^24 entries, 8 in flight, take
8 GB, and 10 models 14 GB; fewer threads take less. A row is never divided: experts in one tensor,
of more than 2^24 entries each, take more. Pinned memory of the host is (2 * models + 4) bytes an
entry of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from raylab.merge import compiled_steps, gpu, torch_steps
from raylab.merge.magnitude_counts import tally
from raylab.merge.steps import Steps
from raylab.spec.study import Device
from raylab.weights.device import choose_device, gpu_memory
from raylab.weights.row_tiles import TILE_ENTRIES

LARGE_WORK = 1 << 30
"""`auto` takes a GPU from so many entries of task vectors on, of tensors that no adapter changes.
CUDA takes about a second to start, in which 16 cores merge about as many. An estimate: no GPU has
measured it. Deltas of adapters are products that the CPU forms in small tiles: there a GPU has
little left to do."""

_TODO = "take fewer --threads, each of which holds one piece, or --device cpu"

Tally = Callable[[torch.Tensor, int, int, int, torch.Tensor], None]
"""Counts magnitudes; see `raylab.merge.magnitude_counts.tally`."""


@dataclass(frozen=True)
class Backend:
    """A device and how it is used.

    entries: of a piece of a tensor that no adapter changes; most_threads: how many pieces may be in
    flight, None for as many as threads; is_staged: whether rows are copied to the device and back.
    """

    device: torch.device
    steps: Steps
    tally: Tally
    entries: int
    most_threads: int | None = None
    is_staged: bool = False

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within, pieces are merged; after it, memory of a GPU is free again. Raises
        DeviceMemoryError where it does not suffice."""
        try:
            with gpu_memory("merge", todo=_TODO):
                yield
        finally:
            if self.device.type == "cuda":
                gpu.release()

    def threads(self, wanted: int) -> int:
        """How many threads work, where `wanted` are allowed."""
        return min(wanted, self.most_threads or wanted)


CPU = Backend(torch.device("cpu"), compiled_steps, tally, 2 * TILE_ENTRIES)


def torch_backend(device: torch.device) -> Backend:
    """The backend of torch operations on `device`."""
    return Backend(device, torch_steps, torch_steps.tally, 1 << 24, most_threads=8, is_staged=True)


def choose(device: Device, entries: int, *, has_gpu: bool) -> Literal["cpu", "cuda"]:
    """The device for a merge of `entries` entries of checkpoints' task vectors.

    Raises InputError where a GPU is asked for and there is none.
    """
    is_large = entries >= LARGE_WORK
    return choose_device(device, is_large=is_large, has_gpu=has_gpu, verb="merge")


def backend_for(device: Device, entries: int) -> Backend:
    """The backend for a merge; see `choose`. Raises InputError."""
    chosen = choose(device, entries, has_gpu=gpu.is_there())
    return torch_backend(gpu.DEVICE) if chosen == "cuda" else CPU
