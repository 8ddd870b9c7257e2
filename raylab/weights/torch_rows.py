"""Rows of checkpoints as torch has them, for whatever computes with torch: adapters, views, GPUs.

Model: files are mapped by numpy (`raylab.weights.safetensors_reader`), which has no bfloat16 and
holds its bits as uint16. The same memory is a tensor here, and the other way round.
Invariant: no entry is copied, and no bit changes. What compares or merges checkpoints on a CPU
does not import this module.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

Rows = np.ndarray

TORCH_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
"""By the names of safetensors."""


def as_torch(rows: Rows) -> torch.Tensor:
    """The same memory as a tensor, uint16 as bfloat16; not to be written to if `rows` is not."""
    if not rows.flags.writeable:
        rows = np.asarray(_Writable(rows))
    found = torch.from_numpy(rows)
    return found.view(torch.bfloat16) if rows.dtype == np.uint16 else found


def as_numpy(rows: torch.Tensor) -> Rows:
    """The same memory as an array, bfloat16 as uint16."""
    if rows.dtype == torch.bfloat16:
        return rows.detach().view(torch.uint16).numpy()
    return rows.detach().numpy()


class _Writable:
    """Memory that torch takes without a warning: it warns of every array that is read-only, and
    warnings cannot be caught in threads."""

    def __init__(self, rows: Rows) -> None:
        self.held = rows
        interface: dict[str, Any] = rows.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}
