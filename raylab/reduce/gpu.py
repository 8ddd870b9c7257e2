"""The GPU of a reduction: rows are moved there, multiplied and added to exact sums there.

Model: a few host threads share the tiles of a reduction. Each one reads rows into its own pinned
memory and copies them on its own stream; all arithmetic waits in one queue, the default stream. So
one tile is read from disk while another crosses the bus and a third is added up.
Invariant: sums are integers, the same as those of the CPU. Kernels of `raylab.reduce.gpu_kernels`
fill them, or, where numba cannot reach the GPU, torch operations. Without kernels, products come
from BLAS (float32, never TF32): their entries may differ from the CPU's in the last bits.

Only on a GPU: pinned memory, streams and events (`_Lane`), and the launch of compiled kernels. In
tests everything else runs on a CPU, kernels in numba's simulator.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from raylab.reduce.gpu_kernels import TAKEN, Kernels, compiled
from raylab.reduce.gpu_sums import Sums, add_by_torch
from raylab.reduce.lora_product import MOST_RANK
from raylab.weights.adapter_parts import Factors

TILE_ENTRIES = 1 << 25
"""Entries of a tile: a launch from Python costs as much as tens of millions of entries."""
_MOST_MODELS = 32
"""Above so many models, tiles are smaller."""
_LANES = 8
"""A thread copies some 10 GB/s into pinned memory, and the bus takes several times as much."""
_BYTES_OF_ENTRY = 12
"""What an entry of one model's tile takes: as stored, in float32, and a temporary."""


class Gpu:
    """One GPU. Any number of threads may use it."""

    def __init__(self, device: torch.device, kernels: Kernels | None) -> None:
        """Use `device`; without `kernels`, torch operations do the sums."""
        self.device, self.kernels = device, kernels
        self._lanes = threading.local()
        torch.set_float32_matmul_precision("highest")

    def tile_entries(self, models: int) -> int:
        """The entries of a tile where so many models are held at once; depends on nothing else, so
        that the bits of a product do not depend on the memory of the GPU."""
        return TILE_ENTRIES // max(1, -(-models // _MOST_MODELS))

    def threads(self, models: int) -> int:
        """How many tiles may be in flight: at most a third of the free memory."""
        if self.device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        tile = self.tile_entries(models) * max(2, models) * _BYTES_OF_ENTRY
        lanes = min(_LANES, max(2, len(os.sched_getaffinity(0))))
        return int(max(1, min(lanes, free // 3 // tile)))

    @contextmanager
    def tile(self) -> Iterator[None]:
        """The work on one tile: it begins when this thread's last tile is done on the GPU."""
        if self.device.type != "cuda":
            yield
            return
        lane, queue = self._lane(), torch.cuda.default_stream(self.device)
        # The host is ahead of the GPU: what it holds of tiles would grow without end.
        lane.done.synchronize()
        yield
        lane.done.record(queue)

    def load(self, rows: torch.Tensor) -> torch.Tensor:
        """`rows` of the CPU on the GPU, in their dtype."""
        return self._lane().load(rows) if self.device.type == "cuda" else rows

    def _lane(self) -> _Lane:
        if not hasattr(self._lanes, "own"):
            self._lanes.own = _Lane(self.device)
        lane: _Lane = self._lanes.own
        return lane

    def product(self, factors: Factors, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) of a low-rank delta, float32 (rows, columns)."""
        up, down = self.load(factors.up[start:stop].contiguous()), self.load(factors.down)
        if self.kernels is None or factors.rank > MOST_RANK:
            return torch.mm(up, down).mul_(factors.scale)
        rows, columns = up.shape[0], down.shape[1]
        out = torch.empty((rows, columns), dtype=torch.float32, device=self.device)
        if out.numel():
            grid = (-(-columns // self.kernels.threads), min(rows, 1024))
            arrays = map(self._array, (out, up, down.contiguous()))
            self.kernels.fill_product[grid, self.kernels.threads](
                *arrays, np.float32(factors.scale)
            )
        return out

    def add(self, a: torch.Tensor, b: torch.Tensor | None, sums: Sums, tensor: int) -> None:
        """Add the magnitudes of float32(a) - float32(b), or of `a`, to `sums`; `tensor` is the
        number of the tensor that they belong to."""
        sums.numel[tensor] += a.numel()
        if not a.numel():
            return
        if self.kernels is None:
            add_by_torch(a, b, sums, tensor)
            return
        words = a.dtype == torch.bfloat16 and b is not None and b.dtype == torch.bfloat16
        second = torch.zeros_like(a) if b is None else b
        flat = [
            x.reshape(-1).view(torch.int16) if words else x.reshape(-1).to(torch.float32)
            for x in (a, second)
        ]
        kernel = self.kernels.add_bf16 if words else self.kernels.add_float32
        grid = -(-a.numel() // TAKEN)
        tables = sums.arrays(tensor, self._array)
        arrays = map(self._array, flat)
        kernel[grid, self.kernels.threads](*arrays, *tables, np.int32(sums.tolerance))

    def _array(self, tensor: torch.Tensor) -> Any:
        """`tensor` as numba takes it, of the same memory."""
        if self.device.type != "cuda":
            return tensor.numpy()
        from numba import cuda

        return cuda.as_cuda_array(tensor)


class _Lane:
    """One thread's pinned memory and stream."""

    def __init__(self, device: torch.device) -> None:
        """Two buffers: one is filled while the other is copied."""
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._buffers = [torch.empty(0, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self._copied = [torch.cuda.Event() for _ in range(2)]
        self.done = torch.cuda.Event()
        self._next = 0

    def load(self, rows: torch.Tensor) -> torch.Tensor:
        """`rows` on the GPU; the default stream waits for them, the caller does not."""
        place, self._next = self._next, 1 - self._next
        self._copied[place].synchronize()
        if self._buffers[place].numel() < rows.nbytes:
            self._buffers[place] = torch.empty(rows.nbytes, dtype=torch.uint8, pin_memory=True)
        staged = self._buffers[place][: rows.nbytes].view(rows.dtype).view(rows.shape)
        staged.copy_(rows)
        with torch.cuda.stream(self._stream):
            found = staged.to(self._device, non_blocking=True)
            self._copied[place].record(self._stream)
        queue = torch.cuda.default_stream(self._device)
        queue.wait_event(self._copied[place])
        found.record_stream(queue)
        return found


@lru_cache(maxsize=1)
def own_gpu() -> Gpu:
    """The GPU of this process, with kernels where numba reaches it."""
    return Gpu(torch.device("cuda", 0), _kernels())


def _kernels() -> Kernels | None:
    """Kernels that were tried on a few entries; None, with a warning, where numba fails."""
    from numba import config

    # Small tensors have small grids, of which numba would warn each time.
    config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
    kernels, entries = compiled(), torch.ones(1, device="cuda")
    gpu = Gpu(entries.device, kernels)
    try:
        gpu.add(entries, None, Sums.empty(gpu.device, (), 1), 0)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(
            f"numba cannot use the GPU; torch operations, which are slower, take its "
            f"place ({reason}). `pip install numba-cuda[cu13]` may help",
            stacklevel=2,
        )
        return None
    return kernels
