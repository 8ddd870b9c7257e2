"""The memory that one thread of a merge uses again for every piece, on its device and beside it.

Model: buffers lie on the device and grow to the largest piece. To a device that is staged, rows go
by way of buffers of the host, pinned for a GPU: a copy runs there while the thread reads on.
Invariant: a buffer has one use within a piece, and a piece ends with `numbers`, which waits for the
device: no buffer is written to before the copy from it has ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from raylab.merge import gpu
from raylab.merge.steps import Count


class ThreadMemory:
    """Belongs to the thread that makes it, which has its own stream on a GPU from then on."""

    def __init__(self, device: torch.device, *, is_staged: bool) -> None:
        """Hold no memory yet."""
        self._device, self._is_staged = device, is_staged
        self._is_gpu = device.type == "cuda"
        self._buffers: dict[tuple[str, str, torch.dtype], torch.Tensor] = {}
        if self._is_gpu:
            gpu.take_stream()

    def buffer(self, use: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the device with arbitrary content, valid until the next call for `use`."""
        return self._hold("device", use, shape, dtype)

    def zeros(self, entries: int) -> torch.Tensor:
        """New zeros on the device, int64 (entries,)."""
        return torch.zeros(entries, dtype=torch.int64, device=self._device)

    def to_device(self, use: str, rows: torch.Tensor) -> torch.Tensor:
        """`rows` of the host, flat, on the device; not to be written to."""
        rows = rows.reshape(-1)
        if not self._is_staged:
            return rows
        staged = self._hold("host", use, rows.shape, rows.dtype).copy_(rows)
        return self.buffer(use, rows.shape, rows.dtype).copy_(staged, non_blocking=True)

    def to_host(self, use: str, rows: torch.Tensor) -> torch.Tensor:
        """`rows` of the device on the host, whose content is there after `numbers`."""
        if not self._is_staged:
            return rows
        return self._hold("host", use, rows.shape, rows.dtype).copy_(rows, non_blocking=True)

    def numbers(self, counts: Sequence[Count]) -> list[int]:
        """The counts, after everything that this thread asked of the device is done."""
        on_device = [count for count in counts if isinstance(count, torch.Tensor)]
        found = iter(torch.stack(on_device).tolist() if on_device else ())
        if self._is_gpu:
            gpu.wait()
        return [next(found) if isinstance(c, torch.Tensor) else c for c in counts]

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
