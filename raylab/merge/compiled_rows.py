"""Rows between the dtypes of files and float32, compiled: widened, rounded, subtracted, checked.

Model: bfloat16 is the upper half of a float32, and numpy has it as uint16; loops take it. numpy
itself takes the other dtypes.
Invariant: widening is exact, and narrowing rounds to nearest, ties to even.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.reduce.intrinsics import as_float

Array = np.ndarray

_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_WORDS = types.Array(types.uint16, 1, "C", readonly=True)
_INT, _ROW = types.int64, types.float32[::1]
_LARGEST = np.float32(3.4028234663852886e38)
_SIXTEEN, _MAGNITUDE = np.uint32(16), np.uint32(0x7FFFFFFF)
_INFINITE_BF16 = np.uint32(0x7F7F8000)
"""From these bits of a float32 magnitude on, a bfloat16 is infinite or NaN."""


@dataclass(frozen=True)
class Words:
    """Some rows as files have them, uint16 (entries,), contiguous: of a base, and of each model.
    are_values: models are combined as they are, not as task vectors."""

    base: Array
    models: Sequence[Array]
    are_values: bool

    @property
    def addresses(self) -> Array:
        """Where the rows of each model lie, int64 (models,), as long as these exist."""
        return np.array([row.__array_interface__["data"][0] for row in self.models], np.int64)


@njit(_INT(_ROW), **_OPTIONS)
def _non_finite(row: Array) -> int:
    count = 0
    for i in range(row.size):
        count += not abs(row[i]) <= _LARGEST
    return count


@njit(_INT(_ROW), **_OPTIONS)
def _nonzero(row: Array) -> int:
    count = np.int32(0)
    for i in range(row.size):
        count = np.int32(count + (row[i] != 0))
    return int(count)


@njit(_INT(_WORDS, _WORDS, _ROW), **_OPTIONS)
def subtract_bf16(values: Array, base: Array, row: Array) -> int:
    """`subtract` of bfloat16."""
    count = np.int32(0)
    for i in range(row.size):
        value: Any = as_float(np.uint32(values[i]) << _SIXTEEN)
        start: Any = as_float(np.uint32(base[i]) << _SIXTEEN)
        row[i] = value - start
        count = np.int32(count + (not abs(row[i]) <= _LARGEST))
    return int(count)


@njit(_INT(_WORDS, _ROW), **_OPTIONS)
def widen_bf16(values: Array, row: Array) -> int:
    """`widen` of bfloat16."""
    count = np.int32(0)
    for i in range(row.size):
        value: Any = as_float(np.uint32(values[i]) << _SIXTEEN)
        row[i] = value
        count = np.int32(count + (not abs(value) <= _LARGEST))
    return int(count)


@njit(_INT(_ROW, types.uint16[::1]), **_OPTIONS)
def narrow_bf16(row: Array, values: Array) -> int:
    """To the nearest, ties to even; NaN and what overflows are counted, whatever is written."""
    bits = row.view(np.uint32)
    count = np.int32(0)
    for i in range(bits.size):
        half = np.uint32(0x7FFF) + ((bits[i] >> _SIXTEEN) & np.uint32(1))
        rounded = np.uint32(bits[i] + half) >> _SIXTEEN
        values[i] = np.uint16(rounded)
        count = np.int32(count + ((bits[i] & _MAGNITUDE) >= _INFINITE_BF16))
    return int(count)


def count_non_finite(delta: Array) -> int:
    """How many entries are NaN or infinite."""
    return int(_non_finite(delta))


def count_nonzero(delta: Array) -> int:
    """How many entries are not zero."""
    return int(_nonzero(delta))


def widen(values: Array, row: Array) -> int:
    """Write float32(values) into `row`; how many entries are NaN or infinite."""
    if values.dtype == np.uint16:
        return int(widen_bf16(values, row))
    row[:] = values
    return count_non_finite(row)


def narrow(row: Array, values: Array) -> int:
    """Write `row` into `values`, rounded to their dtype; how many are NaN or infinite there."""
    if values.dtype == np.uint16:
        return int(narrow_bf16(row, values))
    with np.errstate(over="ignore"):
        values[:] = row
    return int(values.size - np.count_nonzero(np.isfinite(values)))


def add(row: Array, values: Array) -> int:
    """Add float32(values) to `row`; how many entries are NaN or infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        row += _as_float32(values)
    return count_non_finite(row)


def subtract(values: Array, base: Array, row: Array) -> int:
    """Write float32(values) - float32(base) into `row`; how many entries are NaN or infinite."""
    if values.dtype == base.dtype == np.uint16:
        return int(subtract_bf16(values, base, row))
    with np.errstate(over="ignore", invalid="ignore"):
        np.subtract(_as_float32(values), _as_float32(base), out=row)
    return count_non_finite(row)


def _as_float32(values: Array) -> Array:
    found = np.empty(values.shape, np.float32)
    widen(values, found)
    return found
