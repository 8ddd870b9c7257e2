"""The memory that one thread of a merge uses again for every piece, on a device of torch.

Model: buffers lie on the device and grow to the largest piece. Rows go there and back by way of
buffers of the host, pinned for a GPU: a copy runs while the thread reads on.
Invariant: a buffer has one use within a piece, and a piece ends with `numbers`, which waits for the
device: no buffer is written to before the copy from it has ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from raylab.merge import gpu
from raylab.merge.steps import Count
from raylab.weights.torch_rows import TORCH_DTYPES, as_numpy, as_torch

_DTYPES = {**TORCH_DTYPES, "F64": torch.float64}


class TorchMemory:
    """`raylab.merge.thread_memory.Memory` on a device. Belongs to the thread that makes it, which
    has its own stream on a GPU from then on."""

    def __init__(self, device: torch.device) -> None:
        """Hold no memory yet."""
        self._device = device
        self._is_gpu = device.type == "cuda"
        self._buffers: dict[tuple[str, str, torch.dtype], torch.Tensor] = {}
        if self._is_gpu:
            gpu.take_stream()

    def buffer(self, use: str, shape: Sequence[int], dtype: str) -> torch.Tensor:
        """Memory of the device with arbitrary content, valid until the next call for `use`."""
        return self._hold("device", use, shape, _DTYPES[dtype])

    def zeros(self, entries: int) -> torch.Tensor:
        """New zeros on the device, int64 (entries,)."""
        return torch.zeros(entries, dtype=torch.int64, device=self._device)

    def to_device(self, use: str, rows: np.ndarray) -> torch.Tensor:
        """`rows` of the host, flat, on the device; not to be written to."""
        on_host = as_torch(rows.reshape(-1))
        staged = self._hold("host", use, on_host.shape, on_host.dtype).copy_(on_host)
        held = self._hold("device", use, on_host.shape, on_host.dtype)
        return held.copy_(staged, non_blocking=True)

    def to_host(self, use: str, rows: torch.Tensor) -> np.ndarray:
        """`rows` of the device on the host, whose content is there after `numbers`."""
        held = self._hold("host", use, rows.shape, rows.dtype)
        return as_numpy(held.copy_(rows, non_blocking=True))

    def numbers(self, counts: Sequence[Count]) -> list[int]:
        """The counts, after everything that this thread asked of the device is done."""
        on_device = [count for count in counts if isinstance(count, torch.Tensor)]
        found = iter(torch.stack(on_device).tolist() if on_device else ())
        if self._is_gpu:
            gpu.wait()
        return [next(found) if isinstance(c, torch.Tensor) else int(c) for c in counts]

    def _hold(self, place: str, use: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        needed = math.prod(shape)
        held = self._buffers.get((place, use, dtype))
        if held is None or held.numel() < needed:
            held = self._buffers[place, use, dtype] = self._new(place, needed, dtype)
        return held[:needed].view(*shape)

    def _new(self, place: str, entries: int, dtype: torch.dtype) -> torch.Tensor:
        if place == "host" and self._is_gpu:
            return gpu.pinned(entries, dtype)
        return torch.empty(entries, dtype=dtype, device="cpu" if place == "host" else self._device)
