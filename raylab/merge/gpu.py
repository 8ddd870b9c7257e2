"""The lines of a merge that only a machine with a GPU runs.

Model: everything else of a merge on a GPU is torch operations that run on any device, and that
tests run on a CPU. Each thread of a merge works on a stream of its own, so that reading, copies in
both directions and arithmetic of different threads overlap.
Invariant: nothing here computes. No GPU has run these lines yet.
"""

from __future__ import annotations

import torch

DEVICE = torch.device("cuda", 0)


def is_there() -> bool:
    """Whether this process has a GPU."""
    return torch.cuda.is_available()


def pinned(entries: int, dtype: torch.dtype) -> torch.Tensor:
    """Memory of the host that a GPU copies from and to while the host does something else."""
    return torch.empty(entries, dtype=dtype, pin_memory=True)


def take_stream() -> None:
    """Give the calling thread a stream of its own, for all that it does from now on."""
    torch.cuda.set_stream(torch.cuda.Stream(DEVICE))


def wait() -> None:
    """Wait for everything that the calling thread asked of the GPU."""
    torch.cuda.current_stream(DEVICE).synchronize()


def release() -> None:
    """Give memory that is free back to the GPU, for what else this process and others do."""
    torch.cuda.empty_cache()
