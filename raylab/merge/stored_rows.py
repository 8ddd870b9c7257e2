"""Rows that a merge does not change: the bytes of a file where the dtype stays.

Model: a tensor that no model changes is the base model's (`copied`); one that a method takes from
one checkpoint as it is, is that one's (`carried_over`). Rows in the dtype of the output are views
of the mapped file, and are looked at by their bits: without its sign an entry is zero where they
are all zero, and NaN or infinite where those of the exponent are all set (IEEE 754; bfloat16 is
the upper half of a float32). So nothing is widened, and no compiled loop is loaded.
Invariant: the counts are those of the same entries as float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raylab.merge.model_rows import ModelRows, refuse_non_finite
from raylab.weights.row_tiles import Piece
from raylab.weights.safetensors_reader import DTYPES

_BITS: dict[np.dtype[Any], tuple[Any, int, int]] = {
    np.dtype(np.uint16): (np.uint16, 0x7FFF, 0x7F80),
    np.dtype(np.float16): (np.uint16, 0x7FFF, 0x7C00),
    np.dtype(np.float32): (np.uint32, 0x7FFFFFFF, 0x7F800000),
}
"""By dtype of rows, uint16 being bfloat16: its words, their bits without the sign, and the smallest
of these that is no number."""
_BLOCK = 1 << 15
"""Entries. Their magnitudes stay near the core."""


def count_stored(rows: np.ndarray) -> tuple[int, int]:
    """How many entries are NaN or infinite, and how many are not zero.

    rows: contiguous, uint16 being bfloat16, float16 or float32.
    """
    dtype, mask, infinite = _BITS[rows.dtype]
    words = rows.reshape(-1).view(dtype)
    magnitudes = np.empty(min(_BLOCK, words.size), dtype)
    non_finite = nonzero = 0
    for start in range(0, words.size, _BLOCK):
        block = words[start : start + _BLOCK]
        found = np.bitwise_and(block, mask, out=magnitudes[: block.size])
        nonzero += int(np.count_nonzero(found))
        non_finite += int(np.count_nonzero(found >= infinite))
    return non_finite, nonzero


def copied(rows: ModelRows, piece: Piece) -> np.ndarray:
    """The base model's rows on the host, (entries,) in the output's dtype. Raises
    NonFiniteError."""
    memory, name = rows.memory, piece[0]
    stored, dtype = rows.stored_base(piece), rows.plan.dtypes[name]
    if stored.dtype == DTYPES[dtype]:
        refuse_non_finite(count_stored(stored)[0], f"the base model's {name}")
        return stored
    base, non_finite = rows.base(piece)
    written = memory.buffer("merged", base.shape, dtype)
    overflows = rows.backend.steps.narrow(base, written)
    on_host = memory.to_host("merged", written)
    found, overflow = memory.numbers([non_finite, overflows])
    refuse_non_finite(found, f"the base model's {name}")
    refuse_non_finite(overflow, f"the base model's {name}, as {dtype},")
    return on_host


def carried_over(rows: ModelRows, piece: Piece, models: Sequence[int]) -> np.ndarray | None:
    """The rows of the one checkpoint that the output has as it is; None where it has other values,
    or another dtype. Their entries are not looked at yet."""
    plan = rows.plan
    if not plan.is_carried_over(piece[0]):
        return None
    stored = plan.models[models[0]].stored(*plan.source_of(models[0], piece))
    return stored if stored.dtype == DTYPES[plan.dtypes[piece[0]]] else None
