"""Entries that a tally takes: arrays of numpy where checkpoints are read, else tensors of the CPU.

Invariant: the memory is the same in both, uint16 being bfloat16; whatever reads checkpoints alone
does not import torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Entries = Any
"""An array of numpy, or a tensor of torch."""


def as_array(values: Entries) -> np.ndarray:
    """The same memory as an array."""
    if isinstance(values, np.ndarray):
        return values
    from raylab.weights.torch_rows import as_numpy

    return as_numpy(values.contiguous())


def widened(values: np.ndarray) -> np.ndarray:
    """float32 of the same values."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32, copy=False)
