"""The memory that one thread of a merge uses again for every piece.

Model: `Memory` is what a merge asks of it, on whichever device. `ThreadMemory` is that of the CPU:
arrays of numpy, where rows lie already; `raylab.merge.torch_memory` is that of a GPU.
Invariant: a buffer has one use within a piece, and a piece ends with `numbers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from raylab.merge.steps import Count, Entries
from raylab.weights.safetensors_reader import DTYPES

_DTYPES = {**DTYPES, "F64": np.dtype(np.float64)}


class Memory(Protocol):
    """Buffers on a device, and the way there and back. Dtypes are named as in safetensors."""

    def buffer(self, use: str, shape: Sequence[int], dtype: str) -> Entries:
        """Memory of the device with arbitrary content, valid until the next call for `use`."""

    def zeros(self, entries: int) -> Entries:
        """New zeros on the device, int64 (entries,)."""

    def to_device(self, use: str, rows: np.ndarray) -> Entries:
        """`rows` of the host, flat, on the device; not to be written to."""

    def to_host(self, use: str, rows: Entries) -> np.ndarray:
        """`rows` of the device on the host, whose content is there after `numbers`."""

    def numbers(self, counts: Sequence[Count]) -> list[int]:
        """The counts, after everything that this thread asked of the device is done."""


class ThreadMemory:
    """`Memory` on the CPU; belongs to the thread that makes it."""

    def __init__(self) -> None:
        """Hold no memory yet."""
        self._buffers: dict[tuple[str, str], np.ndarray] = {}

    def buffer(self, use: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        """See `Memory`."""
        needed = math.prod(shape)
        held = self._buffers.get((use, dtype))
        if held is None or held.size < needed:
            held = self._buffers[use, dtype] = np.empty(needed, _DTYPES[dtype])
        return held[:needed].reshape(shape)

    def zeros(self, entries: int) -> np.ndarray:
        """See `Memory`."""
        return np.zeros(entries, np.int64)

    def to_device(self, use: str, rows: np.ndarray) -> np.ndarray:
        """The same memory, flat."""
        del use
        return rows.reshape(-1)

    def to_host(self, use: str, rows: np.ndarray) -> np.ndarray:
        """The same memory."""
        del use
        return rows

    def numbers(self, counts: Sequence[Count]) -> list[int]:
        """See `Memory`."""
        return [int(count) for count in counts]
