"""Merges in torch operations, on any device that torch has: in practice, a GPU.

Model: see `raylab.merge.backend`.
Invariant: the bytes are those of the CPU's compiled loops.

Memory of a GPU: a piece in flight takes (6 * models + 24) bytes an entry (stored rows, here in
bf16, and float32 rows of every model, base and result, float64 sums), and the steps another 90
bytes for each entry of a block of 2^22. So two models, in pieces of 2^24 entries, 8 in flight, take
8 GB, and 10 models 14 GB; fewer threads take less. A row is never divided: experts in one tensor,
of more than 2^24 entries each, take more. Pinned memory of the host is (2 * models + 4) bytes an
entry of a piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch

from raylab.merge import gpu, torch_steps
from raylab.merge.backend import Backend
from raylab.merge.torch_memory import TorchMemory
from raylab.weights.device import gpu_memory
from raylab.weights.torch_rows import as_numpy

_TODO = "take fewer --threads, each of which holds one piece, or --device cpu"


def torch_backend(device: torch.device) -> Backend:
    """The backend of torch operations on `device`."""
    name: Literal["cpu", "cuda"] = "cuda" if device.type == "cuda" else "cpu"
    return Backend(
        name,
        torch_steps,
        torch_steps.tally,
        partial(TorchMemory, device),
        lambda counts: as_numpy(counts.cpu()),
        1 << 24,
        most_threads=8,
        in_use=_in_use,
    )


@contextmanager
def _in_use() -> Iterator[None]:
    """Memory of the GPU that does not suffice is an error, and it is free again after."""
    try:
        with gpu_memory("merge", todo=_TODO):
            yield
    finally:
        gpu.release()
